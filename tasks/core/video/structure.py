"""Whether a file's outer structure is whole: cheap checks that need no decoder, made because demuxers pass over damage in silence."""

import os
from dataclasses import dataclass
from typing import BinaryIO

_MKV_TOP = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1F43B675, 0x1254C367, 0x1941A469, 0x1043A770, 0xEC, 0xBF}
_MKV_CLUSTER = 0x1F43B675
_MKV_IN_CLUSTER = {0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854, 0xEC, 0xBF}
_MKV_HEADER, _MKV_SEGMENT = 0x1A45DFA3, 0x18538067


@dataclass(frozen=True)
class Fault:
    """The first place where the structure breaks.

    Attributes:
        offset: byte; what lies wholly before it is sound.
        reason: in words.
    """

    offset: int
    reason: str


def find_fault(path: str) -> Fault | None:
    """The first structural fault of an MP4/MOV, Matroska/WebM, AVI or MPEG-TS file; None where it is whole or of another kind."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and len(head) == 12:
            end = 8 + int.from_bytes(head[4:8], "little")
            return _truncated(size) if end > size + 1 else None
        if int.from_bytes(head[:4], "big") == _MKV_HEADER:
            return _matroska(file, size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
            return _mp4(file, size)
        if head[:1] == b"\x47" and size > 188 and size % 188:
            file.seek(188)
            if file.read(1) == b"\x47":
                return _truncated(size)
    return None


def _truncated(size: int) -> Fault:
    return Fault(size, "the file ends before its last part is complete")


def _mp4(file: BinaryIO, size: int) -> Fault | None:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            return None
        if length < 8:
            return None  # no box: padding after the last one
        if at + length > size:
            return _truncated(size)
        at += length
    return None


def _number(file: BinaryIO, keep_marker: bool) -> int | None:
    """An EBML number at the file's position; None at the end or where its first byte is 0; -1: an unknown size."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return -1 if value == (1 << 7 * length) - 1 else value


def _element(file: BinaryIO, at: int) -> tuple[int, int, int] | None:
    """(id, start of content, content size or -1) of the EBML element at `at`."""
    file.seek(at)
    name = _number(file, keep_marker=True)
    length = _number(file, keep_marker=False) if name is not None else None
    return None if name is None or length is None else (name, file.tell(), length)


def _matroska(file: BinaryIO, size: int) -> Fault | None:
    header = _element(file, 0)
    segment = _element(file, header[1] + header[2]) if header and header[2] >= 0 else None
    if segment is None or segment[0] != _MKV_SEGMENT:
        return None
    at = segment[1]
    end = size if segment[2] < 0 else segment[1] + segment[2]
    while at < min(end, size):
        element = _element(file, at)
        if element is None or element[0] not in _MKV_TOP:
            return Fault(at, f"its structure breaks at byte {at}")
        name, content, length = element
        if length < 0:
            if name != _MKV_CLUSTER:
                return None
            length = 0 if segment[2] < 0 else end - content
            return None  # a live recording: clusters of unknown size cannot be walked from outside
        if name == _MKV_CLUSTER:
            fault = _cluster(file, content, min(content + length, size))
            if fault is not None:
                return fault
        if content + length > size:
            return Fault(at if name != _MKV_CLUSTER else size, "the file ends before its last part is complete")
        at = content + length
    return _truncated(size) if end > size else None


def _cluster(file: BinaryIO, at: int, end: int) -> Fault | None:
    while at < end:
        element = _element(file, at)
        if element is None or element[0] not in _MKV_IN_CLUSTER or element[2] < 0:
            return Fault(at, f"its structure breaks at byte {at}")
        following = element[1] + element[2]
        if following > end:
            return Fault(at, f"its structure breaks at byte {at}")
        at = following
    return None
