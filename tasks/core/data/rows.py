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

from tasks.core.data.texts import Texts, TextsBuilder

CHUNK = 1024  # rows worked on at once: few enough to stay in the processor's cache
_SHARED_FROM = 1 << 20  # bytes; less travels in the message that starts a process
_FIELDS = ("path", "label", "split")
_CAPTIONS = ("text", "subtitles")
_TIMES = ("start_s", "end_s")


@dataclass(slots=True)
class Row:
    """One video, or one part of one, of a manifest.

    Attributes:
        path: absolute path of a file or a folder of pictures.
        label: class name or None.
        start_s, end_s: the part that counts, presentation time in seconds; None: from the beginning, to the end.
        split: `train`, `val`, `test` or whatever the manifest says; None where it says nothing.
        extra: further columns by name.
        text: a sentence about this part, or one that is said in it; None where there is none.
        subtitles: absolute path of an SRT or VTT file whose times are those of the video; None where there is none.
    """

    path: str
    label: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    subtitles: str | None = None


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
            texts = {name: [getattr(row, name) for row in chunk] for name in _FIELDS + _CAPTIONS}
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
        """One attribute of every row, by the names that `Row` gives them, or an extra column; None where a row has none."""
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

    @property
    def columns(self) -> list[str]:
        """Names of the columns in which the list these rows are from says something."""
        known = [name for name in (*_FIELDS, *_CAPTIONS) if name in self._columns.texts]
        return known + [name for name, _ in self._columns.extras]

    @property
    def captioned(self) -> bool:
        """Whether the list these rows are from has texts or subtitles."""
        return bool(self._columns.captions)

    def grouped(self) -> "Groups":
        """The rows video by video, however far apart those of one video are."""
        return Groups(self)

    def _chunks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            yield np.arange(start, stop) if self._places is None else self._places[start:stop]


class Groups(Sequence[tuple[str, Rows]]):
    """Videos with their rows: (path, the rows of this path in their order), in the order in which the paths occur first.

    Two numbers per row are kept; what a group holds is made when it is asked for.
    """

    __slots__ = ("_ends", "_order", "_rows")

    def __init__(self, rows: Rows):
        numbers: dict[str, int] = {}
        videos = np.fromiter((numbers.setdefault(path, len(numbers)) for path in rows.values("path")), np.int32, len(rows))
        self._rows, self._order = rows, np.argsort(videos, kind="stable").astype(np.int32)
        self._ends = np.cumsum(np.bincount(videos, minlength=1), dtype=np.int32) if numbers else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        """(path, rows) of one video, or the list of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        rows = self._rows.at(self._order[self._ends[number - 1] if number else 0 : self._ends[number]])
        return rows[0].path, rows


class RowsBuilder:
    """Collects rows column by column."""

    def __init__(self):
        self.n = 0
        self._texts: dict[str, TextsBuilder] = {}
        self._times: dict[str, list[np.ndarray]] = {}

    def add(self, n: int, texts: dict[str, Sequence[str | None]], times: dict[str, np.ndarray]) -> None:
        """`n` more rows.

        Args:
            texts: `path`, `label`, `split`, `text`, `subtitles` and `extra NAME`.
            times: `start_s` and `end_s`, (n,) float64 with nan for None.
        """
        for name in self._texts.keys() | texts.keys():
            values = texts.get(name, (None,) * n)
            if name not in self._texts and any(value is not None for value in values):
                self._texts[name] = TextsBuilder(self.n)
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
        texts: `path`, `label`, `split`, `text`, `subtitles` and `extra NAME`.
        times: `start_s`, `end_s`, (n,) float64 with nan for None.
        file: (the open file that holds the arrays, where in it each one is) once another process was started with them.
    """

    def __init__(self, n: int, texts: dict[str, Texts], times: dict[str, np.ndarray]):
        self.n, self.texts, self.times, self.file = n, texts, times, None
        self._codes: dict[str, tuple[np.ndarray, list[str]]] = {}
        self._name_columns()

    def _name_columns(self) -> None:
        self.extras = [(name.removeprefix("extra "), column) for name, column in self.texts.items() if name.startswith("extra ")]
        self.captions = [(name, self.texts[name]) for name in _CAPTIONS if name in self.texts]

    def row(self, place: int) -> Row:
        """One row."""
        path, label, split = (self.texts[name][place] if name in self.texts else None for name in _FIELDS)
        start, end = (_time(self.times[name][place]) if name in self.times else None for name in _TIMES)
        extra = {name: value for name, column in self.extras if (value := column[place]) is not None}
        row = Row(path, label, start, end, split, extra)
        for name, column in self.captions:
            setattr(row, name, column[place])
        return row

    def rows(self, places: np.ndarray) -> Iterator[Row]:
        """Rows at places (n,), fewer calls than one by one."""
        names = ("path", "label", "start_s", "end_s", "split")
        extras = [(name, self.values(name, places)) for name, _ in self.extras]
        captions = [self.values(name, places) for name in _CAPTIONS] if self.captions else []
        for number, values in enumerate(zip(*(self.values(name, places) for name in names), strict=True)):
            extra = {name: column[number] for name, column in extras if column[number] is not None}
            yield Row(*values, extra, *(column[number] for column in captions)) if captions else Row(*values, extra)

    def values(self, name: str, places: np.ndarray) -> list[Any]:
        """A column at places (n,); an attribute of `Row` or an extra column."""
        if name in self.times:
            return [_time(value) for value in self.times[name][places]]
        column = self.texts.get(name if name in _FIELDS or name in _CAPTIONS else f"extra {name}")
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
        texts = {name: Texts(arrays[f"data/{name}"], arrays[f"ends/{name}"], arrays.get(f"missing/{name}")) for name in names}
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
            self.texts, self.times, self.file = mapped.texts, mapped.times, (file, layout)
            self._name_columns()
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
