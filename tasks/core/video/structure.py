"""Whether a file's outer structure is whole: cheap checks that decode nothing, made because demuxers pass over damage in silence."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tasks.core.video.matroska import find_matroska_fault
from tasks.core.video.quirks import Trait, applies

if TYPE_CHECKING:
    import av

_AVI_CHUNKS = (b"JUNK", b"idx1", b"indx", b"hdrl", b"avih", b"strl", b"ISFT", b"PAD ")


@dataclass(frozen=True)
class Fault:
    """The first place where the structure breaks.

    Attributes:
        offset: byte; what lies wholly before it is sound.
        reason: in words.
    """

    offset: int
    reason: str

    def cuts(self, packet: "av.Packet") -> bool:
        """Whether a packet reaches beyond what is sound."""
        return packet.pos is not None and packet.pos + packet.size > self.offset


def find_fault(path: str) -> Fault | None:
    """The first structural fault of an MP4/MOV, Matroska/WebM, AVI or MPEG-TS file; None where it is whole or of another kind."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(16)
        check = _checker(head)
        broken = check(file, size) if check else None
    if broken is None:
        return None
    return Fault(broken, "the file ends before its last part is complete" if broken >= size else f"its structure breaks at byte {broken}")


def _checker(head: bytes) -> Callable[[BinaryIO, int], int | None] | None:
    container = _container(head)
    return WALKERS[container] if container and applies(Trait.WALKED, container) else None


def _container(head: bytes) -> str | None:
    """What a file seems to be by its first bytes."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        return "mov"
    return "mpegts" if head[:1] == b"\x47" else None


def _mp4(file: BinaryIO, size: int) -> int | None:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return None  # 0: up to the end of the file; else no box but padding
        if at + length > size:
            return size
        at += length
    return None


def _transport_stream(file: BinaryIO, size: int) -> int | None:
    file.seek(188)
    return size if size > 188 and size % 188 and file.read(1) == b"\x47" else None


def _avi(file: BinaryIO, size: int) -> int | None:
    at, streams = 0, _avi_streams(file)
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        end = at + 8 + int.from_bytes(head[4:8], "little") if any(head[4:8]) else size  # 0: a recorder that was switched off
        if head[:4] != b"RIFF":
            return None  # something appended
        broken = _avi_list(file, at + 12, min(end, size), streams)
        if broken is not None:
            return broken
        if end > size:
            return size
        at = end + end % 2
    return None


def _avi_streams(file: BinaryIO) -> int:
    """dwStreams of the main header, which stands first; any number where it does not."""
    file.seek(24)
    head = file.read(36)
    return int.from_bytes(head[32:36], "little") if head[:4] == b"avih" else 100


def _avi_list(file: BinaryIO, at: int, end: int, streams: int) -> int | None:
    """Walk the chunks of a RIFF list, which must hold a `movi` list of stream chunks."""
    first, found = at, False
    while at + 8 <= end:
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        after = at + 8 + length
        if head[:4] == b"LIST" and head[8:12] == b"movi":
            found, after = True, after if length else end
            broken = _avi_movie(file, at + 12, min(after, end), streams)
            if broken is not None:
                return broken
        at = after + length % 2
    return None if found else first


def _avi_movie(file: BinaryIO, at: int, end: int, streams: int) -> int | None:
    """Walk the chunks of a `movi` list: `00dc`, `01wb` and the like, with the number of an existing stream."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(12)
        name, length = head[:4], int.from_bytes(head[4:8], "little")
        if name == b"LIST" and head[8:12] == b"rec ":
            at += 12
            continue
        known = (name[:2].isdigit() and int(name[:2]) < streams and name[2:].isalpha()) or name[:2] == b"ix" or name in _AVI_CHUNKS
        if not known or at + 8 + length > end:
            return at
        at += 8 + length + length % 2
    return None


WALKERS = {"mov": _mp4, "matroska": find_matroska_fault, "avi": _avi, "mpegts": _transport_stream}
"""From an open file and its size to the byte at which its structure breaks, or None."""
