"""A column of texts as one block of bytes, for lists of a million rows."""

from collections.abc import Sequence

import numpy as np

_CODEC = ("utf-8", "surrogatepass")


class Texts:
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


class TextsBuilder:
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

    def built(self) -> Texts:
        missing = np.concatenate(self.missing)
        return Texts(
            np.frombuffer(self.data or b"\0", np.uint8),
            np.cumsum(np.concatenate(self.lengths), dtype=np.int64),
            missing if missing.any() else None,
        )
