"""Walking the elements of a Matroska or WebM file (RFC 9559, EBML: RFC 8794) to find where they stop making sense."""

from typing import BinaryIO

_SEGMENT, _CLUSTER, _TRACKS, _TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_NUMBER, _TRACK_TYPE, _VIDEO = 0xD7, 0x83, 1
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_VOID, _CRC = 0xEC, 0xBF
_IN_SEGMENT = {0x114D9B74, 0x1549A966, _TRACKS, 0x1C53BB6B, _CLUSTER, 0x1254C367, 0x1941A469, 0x1043A770, _VOID, _CRC}
_NUMBERS = {0xE7, 0xA7, 0xAB}  # time, position and previous size of a cluster
_IN_CLUSTER = {*_NUMBERS, _SIMPLE_BLOCK, _BLOCK_GROUP, 0xAF, 0x5854, _VOID, _CRC}
_LACING = 0x06

Element = tuple[int, int, int]  # id, first byte of the content, length of the content (-1: unknown)


def find_matroska_fault(file: BinaryIO, size: int) -> int | None:
    """The byte at which the first broken or incomplete element begins (`size` where only the end is missing); None: all is well."""
    header = _element(file, 0)
    segment = _element(file, header[1] + header[2]) if header and header[2] >= 0 else None
    if segment is None or segment[0] != _SEGMENT:
        return None
    at = segment[1]
    end = segment[1] + segment[2] if segment[2] >= 0 else size
    tracks: dict[int, int] = {}
    while at < min(end, size):
        element = _element(file, at)
        if element is None or element[0] not in _IN_SEGMENT:
            return at
        name, content, length = element
        if length < 0:
            return None  # a live recording: parts of unknown length cannot be walked from outside
        following = content + length
        if name == _TRACKS:
            tracks = _tracks(file, content, min(following, size))
        if name == _CLUSTER:
            broken = _cluster(file, content, min(following, size), tracks)
            if broken is not None:
                return broken
        if following > size:
            return size if name == _CLUSTER else at
        at = following
    return size if end > size else None


def _number(file: BinaryIO, is_id: bool) -> int | None:
    """An EBML number at the file's position; None at the end of the file or where it is none; -1: the reserved unknown length."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if is_id:
        return value
    everything = (1 << 7 * length) - 1
    return -1 if value & everything == everything else value & everything


def _element(file: BinaryIO, at: int) -> Element | None:
    file.seek(at)
    name = _number(file, is_id=True)
    length = _number(file, is_id=False) if name is not None else None
    return None if name is None or length is None else (name, file.tell(), length)


def _children(file: BinaryIO, at: int, end: int) -> list[Element]:
    found = []
    while at < end:
        element = _element(file, at)
        if element is None or element[2] < 0 or element[1] + element[2] > end:
            break
        found.append(element)
        at = element[1] + element[2]
    return found


def _tracks(file: BinaryIO, at: int, end: int) -> dict[int, int]:
    """Track number -> track type."""
    tracks = {}
    for name, content, length in _children(file, at, end):
        if name == _TRACK:
            values = {}
            for child, start, size in _children(file, content, content + length):
                if child in (_TRACK_NUMBER, _TRACK_TYPE):
                    file.seek(start)
                    values[child] = int.from_bytes(file.read(size), "big")
            tracks[values.get(_TRACK_NUMBER, 0)] = values.get(_TRACK_TYPE, 0)
    return tracks


def _cluster(file: BinaryIO, at: int, end: int, tracks: dict[int, int]) -> int | None:
    while at < end:
        element = _element(file, at)
        if element is None or element[0] not in _IN_CLUSTER or element[2] < 0 or element[1] + element[2] > end:
            return at
        name, content, length = element
        if name in _NUMBERS and length > 8:
            return at
        if name == _BLOCK_GROUP:
            inner = [child for child in _children(file, content, content + length) if child[0] == _BLOCK]
            if len(inner) != 1 or not _sound_block(file, inner[0][1], tracks):
                return at
        if name == _SIMPLE_BLOCK and not _sound_block(file, content, tracks):
            return at
        at = content + length
    return None


def _sound_block(file: BinaryIO, at: int, tracks: dict[int, int]) -> bool:
    """A block belongs to a track of the file; pictures are never laced in practice, a set bit there is damage."""
    file.seek(at)
    track = _number(file, is_id=False)
    flags = file.read(3)[-1:]
    if not tracks:
        return True
    return track in tracks and not (tracks[track] == _VIDEO and flags and flags[0] & _LACING)
