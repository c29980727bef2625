"""What is done to the bytes of a sound video. Each mutation is a function of the content, a random generator and the other contents."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from fuzzing.sources import FOLDERS, Sound

Others = list[bytes]
Mutation = Callable[[bytes, random.Random, Others], bytes]
_SIZES = (0, 1, 8191, 20_000, 65_535)
_BODY = (0.25, 0.85)


def _place(content: bytes, rng: random.Random, low: float = 0.0, high: float = 1.0) -> int:
    return rng.randrange(int(len(content) * low), max(int(len(content) * low) + 1, int(len(content) * high)))


def _flipped(content: bytes, places: list[int], rng: random.Random) -> bytes:
    out = bytearray(content)
    for at in places:
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def flipped_bits(content: bytes, rng: random.Random, _: Others) -> bytes:
    """One to 24 single bits anywhere."""
    return _flipped(content, [_place(content, rng) for _ in range(rng.choice((1, 3, 8, 24)))], rng)


def flipped_run(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Every byte of a stretch in the middle."""
    at = _place(content, rng, *_BODY)
    return _flipped(content, list(range(at, min(len(content), at + rng.choice((16, 200, 2000))))), rng)


def flipped_header(content: bytes, rng: random.Random, _: Others) -> bytes:
    """One to eight bits of the container's header (of the `moov` box where there is one)."""
    box = content.find(b"moov")
    low, high = (box, min(len(content), box + 2500)) if box >= 0 else (0, min(len(content), 700))
    return _flipped(content, [rng.randrange(low, high) for _ in range(rng.choice((1, 2, 8)))], rng)


def truncated(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Cut anywhere."""
    return content[: max(1, int(len(content) * rng.choice((0.001, 0.02, rng.random(), rng.random(), 0.97, 0.999))))]


def zeroed(content: bytes, rng: random.Random, _: Others) -> bytes:
    """A stretch of zeros, as an aborted download or a bad disk leaves."""
    at, length = _place(content, rng, 0.02, 0.95), rng.choice((64, 512, 4096))
    return content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]


def deleted(content: bytes, rng: random.Random, _: Others) -> bytes:
    """A stretch is missing."""
    at = _place(content, rng, 0.02, 0.95)
    return content[:at] + content[at + rng.choice((1, 188, 1000)) :]


def duplicated_chunk(content: bytes, rng: random.Random, _: Others) -> bytes:
    """A stretch occurs twice."""
    at, length = _place(content, rng, 0.02, 0.9), rng.choice((188, 1000, 5000))
    return content[: at + length] + content[at:]


def exchanged_chunks(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Two stretches have changed places."""
    length = min(rng.choice((188, 1000)), len(content) // 8)
    first = _place(content, rng, 0.05, 0.4)
    second = _place(content, rng, 0.55, 0.85)
    parts = content[:first], content[first : first + length], content[first + length : second], content[second : second + length]
    return parts[0] + parts[3] + parts[2] + parts[1] + content[second + length :]


def foreign_header(content: bytes, rng: random.Random, others: Others) -> bytes:
    """Begins like another file."""
    length = rng.choice((4, 12, 64, 700, 3000))
    return rng.choice(others)[:length] + content[length:]


def foreign_end(content: bytes, rng: random.Random, others: Others) -> bytes:
    """Ends like another file (an MP4's index may lie there)."""
    other = rng.choice(others)
    keep = int(len(content) * rng.uniform(0.4, 0.9))
    return content[:keep] + other[int(len(other) * rng.uniform(0.2, 0.8)) :]


def absurd_size(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Width and height, wherever a header states them, are replaced by others."""
    wide, high = rng.choice(_SIZES), rng.choice(_SIZES)
    codings: list[Callable[[int, int], bytes]] = [
        lambda w, h: struct.pack(">HH", w, h),  # sample entry
        lambda w, h: struct.pack(">HH", h, w),  # JPEG
        lambda w, h: struct.pack(">II", w << 16 & 0xFFFFFFFF, h << 16 & 0xFFFFFFFF),  # track header
        lambda w, h: struct.pack(">II", w, h),  # PNG
        lambda w, h: struct.pack("<II", w, h),  # AVI
        lambda w, h: bytes((0xB0, 0x81, w & 127, 0xBA, 0x81, h & 127)),  # Matroska
        lambda w, h: b"\x00\x00\x01\xb3" + ((w & 4095) << 12 | h & 4095).to_bytes(3, "big"),  # MPEG-2 sequence header
    ]
    changed = content
    for coding in codings:
        changed = changed.replace(coding(96, 64), coding(wide, high))
    return _vp9_keys_of(changed, max(wide, 1) - 1, max(high, 1) - 1) if rng.random() < 0.5 else changed


def _vp9_keys_of(content: bytes, last_column: int, last_row: int) -> bytes:
    """VP9's key frames state their size in 2 x 16 bits, four bits behind their sync code."""
    out, at = bytearray(content), content.find(b"\x49\x83\x42")
    while 0 <= at < len(content) - 8:
        found = int.from_bytes(out[at + 3 : at + 8], "big")
        if found >> 4 & 0xFFFFFFFF == 95 << 16 | 63:
            out[at + 3 : at + 8] = (found & ~(0xFFFFFFFF << 4) | (last_column << 16 | last_row) << 4).to_bytes(5, "big")
        at = content.find(b"\x49\x83\x42", at + 1)
    return bytes(out)


def absurd_count(content: bytes, rng: random.Random, _: Others) -> bytes:
    """The number of frames, wherever a header states it, is another: none, far too many."""
    count = rng.choice((0, 1, 61, 2**31 - 1, 2**32 - 1))
    return content.replace(struct.pack(">I", 60), struct.pack(">I", count)).replace(struct.pack("<I", 60), struct.pack("<I", count))


def absurd_time(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Time scales (15360 or 1000 a second, or an AVI's rate) are others: nothing, a year a frame."""
    changed = content
    scale = rng.choice((0, 1, 2**31 - 1, 2**32 - 1))
    for old in (15360, 1000, 30, 1_000_000):
        for order in "<>":
            changed = changed.replace(struct.pack(f"{order}I", old), struct.pack(f"{order}I", scale), 3)
    return changed


def zero_frames(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Only what stands before the first picture, and an MP4's index of no frames."""
    box, data = content.find(b"moov"), content.find(b"mdat")
    if box < 0:
        return content[: min(700, len(content) // 10)]
    table = content.replace(struct.pack(">I", 60), bytes(4))
    return table[: data - 4] + struct.pack(">I", 8) + b"mdat" + table[box - 4 :] if box > data else table[: data - 4]


def no_bytes(content: bytes, rng: random.Random, _: Others) -> bytes:
    """An empty file."""
    return b""


def text(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Text under the name of a video: a message, a playlist, a script."""
    said = (
        "404 Not Found\n",
        "#EXTM3U\n#EXTINF:4,\n/etc/hostname\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile /etc/hostname\n",
        "a,b\n" * 400,
    )
    return rng.choice(said).encode()


def noise(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Random bytes behind a sound beginning, or alone."""
    return content[: rng.choice((0, 16, 400))] + rng.randbytes(rng.choice((50, 20_000)))


def appended(content: bytes, rng: random.Random, others: Others) -> bytes:
    """Something stands behind the end: rubbish, or another video."""
    return content + rng.choice((b"\x00" * 3000, rng.randbytes(3000), rng.choice(others)))


def unharmed(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Nothing is done."""
    return content


def wrong_suffix(content: bytes, rng: random.Random, _: Others) -> bytes:
    """Nothing is done to the content; the name is that of another container."""
    return content


MUTATIONS: tuple[Mutation, ...] = (
    unharmed, wrong_suffix, flipped_bits, flipped_run, flipped_header, truncated, zeroed, deleted, duplicated_chunk, exchanged_chunks,
    foreign_header, foreign_end, absurd_size, absurd_count, absurd_time, zero_frames, no_bytes, text, noise, appended,
)  # fmt: skip
KINDS = tuple(mutation.__name__ for mutation in MUTATIONS)
HARMLESS = ("unharmed", "wrong_suffix")
_FOR_PICTURES = (unharmed, flipped_bits, flipped_run, flipped_header, truncated, zeroed, absurd_size, no_bytes, text, foreign_header)
_SUFFIXES = (".mp4", ".avi", ".mkv", ".ts", ".webm", ".mov")


def mutate(number: int, seed: int, sounds: dict[str, Sound], folder: Path) -> tuple[Path, str, str]:
    """File (or folder of pictures) `number`: its path, its kind of mutation and the name of the sound video it was made from.

    The same numbers and seed give the same bytes.
    """
    rng = random.Random(f"{seed} {number}")
    mutation = MUTATIONS[number % len(MUTATIONS)]
    name = rng.choice([name for name in sounds if name not in FOLDERS or mutation in _FOR_PICTURES])
    kind, sound = mutation.__name__, sounds[name]
    others = [other.path.read_bytes() for other in sounds.values() if other.path.is_file() and other is not sound]
    suffix = rng.choice([s for s in _SUFFIXES if s != sound.path.suffix]) if mutation is wrong_suffix else sound.path.suffix
    target = folder / f"{number:04d}_{kind}_{sound.path.stem}{suffix}"
    if sound.path.is_file():
        target.write_bytes(mutation(sound.path.read_bytes(), rng, others))
        return target, kind, name
    shutil.copytree(sound.path, target)
    victims = sorted(target.iterdir())
    for victim in rng.sample(victims, rng.choice((1, 1, len(victims)))):
        victim.write_bytes(mutation(victim.read_bytes(), rng, others))
    return target, kind, name
