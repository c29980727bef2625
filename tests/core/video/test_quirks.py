"""The table of containers and codecs, and the version of indexes that follows from it."""

import importlib
from dataclasses import replace

import av
import pytest
from painted import write_video

from tasks.core.video import cache, quirks
from tasks.core.video.media import DEMUXERS
from tasks.core.video.quirks import ANY, TABLE, Quirk, Trait, applies, index_version
from tasks.core.video.structure import WALKERS

NEW = Quirk(Trait.DECODE_TO_INDEX, "a reason", ("flv",))


@pytest.mark.parametrize("quirk", TABLE, ids=lambda quirk: f"{quirk.trait}-{quirk.containers[0]}")
def test_names_are_ffmpeg_s_and_reasons_are_given(quirk):
    for container in quirk.containers:
        if container != ANY:
            assert av.format.ContainerFormat(container, "r").name.split(",")[0] == container
            assert container in DEMUXERS.split(",")
    for codec in quirk.codecs or ():
        assert av.codec.Codec(codec, "r").canonical_name == codec
    assert len(quirk.why.split()) > 4


def test_every_trait_has_a_line_and_every_walker_a_reason():
    assert {quirk.trait for quirk in TABLE} == set(Trait)
    assert {container for quirk in TABLE if quirk.trait is Trait.WALKED for container in quirk.containers} == set(WALKERS)


@pytest.mark.parametrize(
    ("trait", "container", "codec", "holds"),
    [
        (Trait.DECODE_TO_INDEX, "avi", "h264", True),
        (Trait.DECODE_TO_INDEX, "mov", "h264", False),
        (Trait.COUNTED_TIMES, "mpegts", None, False),
        (Trait.STARTS_ANYWHERE, "avi", None, False),
        (Trait.ONE_PACKET_ONE_FRAME, "matroska", "h264", True),
        (Trait.ONE_PACKET_ONE_FRAME, "matroska", "mpeg2video", False),
        (Trait.ONE_PACKET_ONE_FRAME, "avi", "h264", False),
        (Trait.ONE_PACKET_ONE_FRAME, "mov", None, False),
        (Trait.SKIPS_UNREFERENCED, "mpegts", "h264", True),
        (Trait.SKIPS_UNREFERENCED, "mpegts", "hevc", False),
        (Trait.DECORD, "mov", "av1", False),
    ],
)
def test_what_applies(trait, container, codec, holds):
    assert applies(trait, container, codec) is holds


def test_what_the_table_says_of_indexing_makes_the_version():
    same = [replace(quirk, why="worded anew") for quirk in reversed(TABLE)]
    first = same[0] if len(same[0].containers) > 1 else next(quirk for quirk in same if len(quirk.containers) > 1)
    split = [replace(first, containers=(container,)) for container in first.containers]
    assert index_version(same) == index_version([*(q for q in same if q is not first), *split]) == index_version(TABLE)
    assert index_version([*TABLE, replace(NEW, trait=Trait.SKIPS_UNREFERENCED)]) == index_version(TABLE)  # asked when a file is read
    others = [[*TABLE, NEW], TABLE[1:], [*TABLE[1:], replace(TABLE[0], codecs=("h264",))], [*TABLE, replace(NEW, trait=Trait.WALKED)]]
    assert len({index_version(TABLE), *map(index_version, others)}) == 5


def test_a_new_quirk_makes_indexes_anew(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", n=6)
    before, stored = cache.VERSION, list(cache.cache_folder().rglob("*.npz"))
    cache.index_of(path)
    kept = set(cache.cache_folder().rglob("*.npz")) - set(stored)
    assert len(kept) == 1
    try:
        monkeypatch.setattr(quirks, "TABLE", (*TABLE, NEW))
        importlib.reload(cache)
        assert before != cache.VERSION
        assert len(cache.index_of(path).ticks) == 6
        assert len(set(cache.cache_folder().rglob("*.npz")) - set(stored) - kept) == 1
    finally:
        monkeypatch.undo()
        importlib.reload(cache)
    assert before == cache.VERSION
