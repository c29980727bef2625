"""What is special about containers and codecs: one table, which the code asks and from which the version of kept indexes follows.

Containers and codecs carry FFmpeg's names: of a demuxer with several names the first, of a codec the canonical one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

FORMAT = 8
"""Of what an index holds and how it is made; raised by hand where that changes in another way than by a line of the table."""


class Trait(StrEnum):
    """What the code asks of a container and codec."""

    DECODE_TO_INDEX = "decode to index"
    """Packet times do not tell which frames there are and when: every frame is decoded once, however large the file is."""
    COUNTED_TIMES = "counted times"
    """Times are counted by the demuxer, not stored: that they step back or stop is not a sign of damage."""
    STARTS_ANYWHERE = "starts anywhere"
    """The stream may begin in the middle of a group of pictures: packets before the first keyframe are left out."""
    ONE_PACKET_ONE_FRAME = "one packet, one frame"
    """Every packet becomes exactly one frame: one that does not come out of the decoder is damaged."""
    EVEN_OVER_LENGTH = "even over length"
    """Where the times of frames are of no use, the length of the whole file tells how far apart they are shown."""
    WALKED = "walked"
    """The outer structure is walked before the file is opened, for FFmpeg passes over its damage in silence (`structure`)."""
    SKIPS_UNREFERENCED = "skips unreferenced"
    """The decoder knows by itself which pictures no other picture refers to, and may leave them out."""
    DECORD = "decord"
    """decord opens such files; they are the only ones that it is given."""

    @property
    def indexed(self) -> bool:
        """Whether an index depends on it; the others matter only when a file is read."""
        return self not in (Trait.SKIPS_UNREFERENCED, Trait.DECORD)


@dataclass(frozen=True)
class Quirk:
    """One line of the table.

    Attributes:
        trait: what holds.
        why: the reason, for people.
        containers: those for which it holds.
        codecs: with these codecs only; None: with any.
    """

    trait: Trait
    why: str
    containers: tuple[str, ...]
    codecs: tuple[str, ...] | None = None


BARE = ("mpegvideo", "h264", "hevc", "m4v")
ANY = "*"

TABLE = (
    Quirk(
        Trait.DECODE_TO_INDEX,
        "AVI stores no times: the demuxer counts chunks, and with B-frames (MPEG-4 or H.264 in AVI) a chunk is not shown in its turn",
        ("avi",),
    ),
    Quirk(
        Trait.DECODE_TO_INDEX,
        "in a transport or program stream only some frames carry a time, times wrap around or jump, and a packet may be a single field",
        ("mpegts", "mpeg"),
    ),
    Quirk(
        Trait.DECODE_TO_INDEX,
        "a bare stream has no times: the demuxer makes them up from a frame rate that may be a guess",
        (*BARE, "av1", "obu"),
    ),
    Quirk(Trait.COUNTED_TIMES, "AVI numbers its chunks and stores no times", ("avi",)),
    Quirk(Trait.COUNTED_TIMES, "a bare stream has no times", (*BARE, "av1", "obu")),
    Quirk(
        Trait.STARTS_ANYWHERE,
        "a broadcast is recorded from the moment on at which somebody pressed the button",
        ("mpegts", "mpeg"),
    ),
    Quirk(Trait.STARTS_ANYWHERE, "a bare stream is often cut out of a broadcast", BARE),
    Quirk(
        Trait.ONE_PACKET_ONE_FRAME,
        "these put one whole picture into a packet; elsewhere fields, invisible frames and marks for pictures that repeat are packets too",
        ("mov", "matroska"),
        ("h264", "hevc", "vp9", "av1"),
    ),
    Quirk(
        Trait.EVEN_OVER_LENGTH,
        "some writers note 0 as the duration of nearly every frame: the frame rate that follows is a hundred times too high, and only the "
        "duration in the header of the movie is right",
        ("mov",),
    ),
    Quirk(Trait.WALKED, "boxes tell their length, so that a file cut in its media data shows", ("mov",)),
    Quirk(Trait.WALKED, "the demuxer looks for the next cluster behind a broken one and says nothing", ("matroska",)),
    Quirk(Trait.WALKED, "the demuxer looks for the next chunk behind a broken one and counts on", ("avi",)),
    Quirk(Trait.WALKED, "packets have 188 bytes: a file with a part of one at its end was cut", ("mpegts",)),
    Quirk(
        Trait.SKIPS_UNREFERENCED,
        "an H.264 picture says whether others refer to it",
        (ANY,),
        ("h264",),
    ),
    Quirk(
        Trait.DECORD,
        "decord 0.6 hangs on, crashes on or cannot open much else",
        ("mov", "matroska", "avi"),
        ("h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg"),
    ),
)


def applies(trait: Trait, container: str, codec: str | None = None) -> bool:
    """Whether the table has a line for this container and codec; `codec` may be left out where the trait does not depend on it."""
    return any(
        quirk.trait is trait
        and (container in quirk.containers or ANY in quirk.containers)
        and (quirk.codecs is None or codec in quirk.codecs)
        for quirk in TABLE
    )


def index_version(table: Iterable[Quirk]) -> str:
    """Version of an index: another one wherever the table says something else about indexing; how it words, groups or orders it is
    all the same.
    """
    said = {
        f"{quirk.trait}|{container}|{codec}"
        for quirk in table
        if quirk.trait.indexed
        for container in quirk.containers
        for codec in quirk.codecs or (ANY,)
    }
    return f"{FORMAT}-{hashlib.sha256(' '.join(sorted(said)).encode()).hexdigest()[:12]}"
