"""The rows of a manifest, kept as columns: a million of them in about a hundred megabytes, shared by all loader processes."""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

CHUNK = 1024  # rows worked on at once: few enough to stay in the processor's cache
_SHARED_FROM = 1 << 20  # bytes; less travels in the message that starts a process
_FIELDS = ("path", "label", "split")
_TIMES = ("start_s", "end_s")
_CODEC = ("utf-8", "surrogatepass")


@dataclass(slots=True)
class Row:
    """One video, or one part of one, of a manifest.

    Attributes:
        path: absolute path of a file or a folder of pictures.
        label: class name or None.
        start_s, end_s: the part that counts, presentation time in seconds; None: from the beginning, to the end.
        split: `train`, `val`, `test` or whatever the manifest says; None where it says nothing.
        extra: further columns by name.
    """

    path: str
    label: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


class Rows(Sequence[Row]):
    """A list of rows that cannot be changed: each `Row` is made when it is asked for.

    Slices share the columns. A process that is started with rows as an argument maps the same memory instead of getting a copy.
    """

    __slots__ = ("_columns", "_places")

    def __init__(self, columns: "_Columns", places: np.ndarray | None = None):
        self._columns, self._places = columns, places

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """The rows of any iterable, which is read once and not kept."""
        if isinstance(rows, Rows):
            return rows
        builder, rows = RowsBuilder(), iter(rows)
        while chunk := tuple(islice(rows, CHUNK)):
            texts = {name: [getattr(row, name) for row in chunk] for name in _FIELDS}
            for name in dict.fromkeys(chain.from_iterable(row.extra for row in chunk)):
                texts[f"extra {name}"] = [row.extra.get(name) for row in chunk]
            builder.add(len(chunk), texts, {name: np.array([getattr(row, name) for row in chunk], np.float64) for name in _TIMES})
        return builder.built()

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """The rows of several, one after the other."""
        return parts[0] if len(parts) == 1 else cls.of(chain.from_iterable(parts))

    def __len__(self) -> int:
        return self._columns.n if self._places is None else len(self._places)

    def __getitem__(self, index):
        """A `Row`, or the `Rows` of a slice."""
        if isinstance(index, slice):
            return self.at(np.arange(len(self))[index])
        place = range(len(self))[index]
        return self._columns.row(place if self._places is None else int(self._places[place]))

    def __iter__(self) -> Iterator[Row]:
        for places in self._chunks():
            yield from self._columns.rows(places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None

    def at(self, places: np.ndarray) -> "Rows":
        """The rows at these places (n,) integers, or where a mask (len,) of booleans is set."""
        if places.dtype == bool:
            if places.all():
                return self
            places = np.flatnonzero(places)
        return Rows(self._columns, (places if self._places is None else self._places[places]).astype(np.int32))

    def values(self, name: str) -> Iterator[Any]:
        """One attribute of every row (`path`, `label`, `start_s`, `end_s`, `split`), or an extra column; None where a row has none."""
        for places in self._chunks():
            yield from self._columns.values(name, places)

    def codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """The number (n,) int32 of every row's text among all texts of a column, -1 for none; these texts, sorted."""
        codes, names = self._columns.codes(name)
        codes = codes if self._places is None else codes[self._places]
        used = np.unique(codes[codes >= 0])
        if len(used) == len(names):
            return codes, names
        renumbered = np.full(len(names) + 1, -1, np.int32)  # the last entry is for -1
        renumbered[used] = np.arange(len(used))
        return renumbered[codes], [names[i] for i in used]

    def _chunks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            yield np.arange(start, stop) if self._places is None else self._places[start:stop]


class _Texts:
    """A column of texts: their UTF-8 one after the other, where each ends, and which are missing (None: none)."""

    __slots__ = ("data", "ends", "missing")

    def __init__(self, data: np.ndarray, ends: np.ndarray, missing: np.ndarray | None):
        self.data, self.ends, self.missing = data, ends, missing

    def __getitem__(self, place: int) -> str | None:
        if self.missing is not None and self.missing[place]:
            return None
        return self.data[self.ends[place] : self.ends[place + 1]].tobytes().decode(*_CODEC)

    def take(self, places: np.ndarray) -> list[str | None]:
        """The texts at increasing places (n,)."""
        first = int(places[0])
        base = int(self.ends[first])
        block = self.data[base : self.ends[int(places[-1]) + 1]].tobytes()
        starts, stops = (self.ends[places] - base).tolist(), (self.ends[places + 1] - base).tolist()
        if block.isascii():
            text = block.decode("ascii")
            found = [text[a:b] for a, b in zip(starts, stops, strict=True)]
        else:
            found = [block[a:b].decode(*_CODEC) for a, b in zip(starts, stops, strict=True)]
        if self.missing is not None:
            for place in np.flatnonzero(self.missing[places]).tolist():
                found[place] = None
        return found


class _TextsBuilder:
    """Collects a column of texts chunk by chunk."""

    def __init__(self, n_missing: int):
        self.data, self.lengths, self.missing = bytearray(), [np.zeros(n_missing + 1, np.int64)], [np.ones(n_missing, bool)]

    def add(self, texts: Sequence[str | None]) -> None:
        if None in texts:
            self.missing.append(np.fromiter((text is None for text in texts), bool, len(texts)))
            texts = [text or "" for text in texts]
        else:
            self.missing.append(np.zeros(len(texts), bool))
        joined = "".join(texts)
        if joined.isascii():
            self.data += joined.encode("ascii")
            lengths = map(len, texts)
        else:
            encoded = [text.encode(*_CODEC) for text in texts]
            self.data += b"".join(encoded)
            lengths = map(len, encoded)
        self.lengths.append(np.fromiter(lengths, np.int64, len(texts)))

    def built(self) -> _Texts:
        missing = np.concatenate(self.missing)
        return _Texts(
            np.frombuffer(self.data or b"\0", np.uint8),
            np.cumsum(np.concatenate(self.lengths), dtype=np.int64),
            missing if missing.any() else None,
        )


class RowsBuilder:
    """Collects rows column by column."""

    def __init__(self):
        self.n = 0
        self._texts: dict[str, _TextsBuilder] = {}
        self._times: dict[str, list[np.ndarray]] = {}

    def add(self, n: int, texts: dict[str, Sequence[str | None]], times: dict[str, np.ndarray]) -> None:
        """`n` more rows: `path`, `label`, `split` and `extra NAME`; `start_s` and `end_s`, (n,) float64 with nan for None."""
        for name in self._texts.keys() | texts.keys():
            values = texts.get(name, (None,) * n)
            if name not in self._texts and any(value is not None for value in values):
                self._texts[name] = _TextsBuilder(self.n)
            if name in self._texts:
                self._texts[name].add(values)
        for name, values in times.items():
            self._times.setdefault(name, []).append(values)
        self.n += n

    def built(self) -> Rows:
        """All rows that were added."""
        times = {name: np.concatenate(parts) for name, parts in self._times.items()}
        times = {name: values for name, values in times.items() if not np.isnan(values).all()}
        return Rows(_Columns(self.n, {name: texts.built() for name, texts in self._texts.items()}, times))


class _Columns:
    """All rows as columns; a column that no row fills is not there.

    Attributes:
        texts: `path`, `label`, `split` and `extra NAME`. times: `start_s`, `end_s`, (n,) float64 with nan for None.
        file: (the open file that holds the arrays, where in it each one is) once another process was started with them.
    """

    def __init__(self, n: int, texts: dict[str, _Texts], times: dict[str, np.ndarray]):
        self.n, self.texts, self.times, self.file = n, texts, times, None
        self._codes: dict[str, tuple[np.ndarray, list[str]]] = {}
        self.extras = [(name.removeprefix("extra "), column) for name, column in texts.items() if name.startswith("extra ")]

    def row(self, place: int) -> Row:
        """One row."""
        path, label, split = (self.texts[name][place] if name in self.texts else None for name in _FIELDS)
        start, end = (_time(self.times[name][place]) if name in self.times else None for name in _TIMES)
        extra = {name: value for name, column in self.extras if (value := column[place]) is not None}
        return Row(path, label, start, end, split, extra)

    def rows(self, places: np.ndarray) -> Iterator[Row]:
        """Rows at places (n,), fewer calls than one by one."""
        names = ("path", "label", "start_s", "end_s", "split")
        extras = [(name, self.values(name, places)) for name, _ in self.extras]
        for number, values in enumerate(zip(*(self.values(name, places) for name in names), strict=True)):
            yield Row(*values, {name: column[number] for name, column in extras if column[number] is not None})

    def values(self, name: str, places: np.ndarray) -> list[Any]:
        """A column at places (n,); an attribute of `Row` or an extra column."""
        if name in self.times:
            return [_time(value) for value in self.times[name][places]]
        column = self.texts.get(name) if name in _FIELDS else self.texts.get(f"extra {name}")
        if column is None:
            return [None] * len(places)
        if (np.diff(places) > 0).all() and places[-1] - places[0] < 8 * len(places):
            return column.take(places)
        return [column[place] for place in places.tolist()]

    def codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """As `Rows.codes`, of all rows; kept."""
        if name not in self._codes:
            numbers: dict[str | None, int] = {}
            chunks = (self.values(name, np.arange(start, min(start + CHUNK, self.n))) for start in range(0, self.n, CHUNK))
            found = (numbers.setdefault(value, len(numbers)) for value in chain.from_iterable(chunks))
            codes = np.fromiter(found, np.int32, self.n)
            names = sorted(text for text in numbers if text is not None)
            renumbered = np.full(len(numbers), -1, np.int32)
            renumbered[[numbers[text] for text in names]] = np.arange(len(names))
            self._codes[name] = (renumbered[codes] if self.n else codes, names)
        return self._codes[name]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by a name that `from_arrays` knows."""
        found = {f"time/{name}": values for name, values in self.times.items()}
        for name, column in self.texts.items():
            found |= {f"data/{name}": column.data, f"ends/{name}": column.ends}
            found |= {} if column.missing is None else {f"missing/{name}": column.missing}
        return found

    @classmethod
    def from_arrays(cls, n: int, arrays: dict[str, np.ndarray]) -> "_Columns":
        """The columns again from what `arrays` gave."""
        names = [name.partition("/")[2] for name in arrays if name.startswith("data/")]
        texts = {name: _Texts(arrays[f"data/{name}"], arrays[f"ends/{name}"], arrays.get(f"missing/{name}")) for name in names}
        times = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith("time/")}
        return cls(n, texts, times)

    def __reduce__(self):
        arrays = self.arrays()
        if get_spawning_popen() is None or sum(each.nbytes for each in arrays.values()) < _SHARED_FROM or not self._to_file():
            return _Columns.from_arrays, (self.n, arrays)
        return _mapped, (self.n, DupFd(self.file[0].fileno()), self.file[1])

    def _to_file(self) -> bool:
        """Moves the arrays into a nameless file, which the processes that get it map; False where there is no room for one."""
        if self.file is None:
            try:
                file, layout = tempfile.TemporaryFile(prefix="vid-rows-"), {}  # noqa: SIM115 - held as long as the rows
                for name, each in self.arrays().items():
                    layout[name] = (file.seek(-file.tell() % 8, os.SEEK_CUR), str(each.dtype), len(each))
                    file.write(each.data)
                file.flush()
            except OSError:
                return False
            mapped = _Columns.from_arrays(self.n, _arrays_in(file.fileno(), layout))
            self.texts, self.times, self.extras, self.file = mapped.texts, mapped.times, mapped.extras, (file, layout)
        return True


def _time(value: float) -> float | None:
    return None if value != value else float(value)


def _arrays_in(number: int, layout: dict[str, tuple[int, str, int]]) -> dict[str, np.ndarray]:
    """The arrays of an open file, mapped."""
    block = mmap.mmap(number, 0, prot=mmap.PROT_READ)
    return {name: np.frombuffer(block, dtype, count, offset) for name, (offset, dtype, count) in layout.items()}


def _mapped(n: int, file: Any, layout: dict[str, tuple[int, str, int]]) -> _Columns:
    """Columns in a process that was handed the file."""
    number = file.detach()
    try:
        return _Columns.from_arrays(n, _arrays_in(number, layout))
    finally:
        os.close(number)  # the mapping stays
