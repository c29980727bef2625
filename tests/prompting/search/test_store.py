"""The index on disk: what is written is what is read, whatever happened in between."""

import math

import numpy as np
import pytest
from search_toys import GRID, head, unit, write_index

from tasks.core.data.captions import Sentence
from tasks.core.data.rows import Row
from tasks.core.errors import UsageError
from tasks.core.reporter import Quiet
from tasks.prompting.search.store import Index, Part, claim

A = np.stack([unit(1, 0, 0, k) for k in range(3)])
B = np.stack([unit(0, 1, k, 0) for k in range(5)])


def held(index):
    """Path -> its vectors."""
    return {video.path: np.asarray(index.vectors(video.part)[video.first : video.first + video.n]) for video in index.videos}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_come_back_and_are_mapped(tmp_path, dtype):
    index = write_index(tmp_path / "i", {"/a.mp4": A, "/b.mp4": B}, dtype=dtype)
    found = held(index)
    np.testing.assert_array_equal(found["/a.mp4"], A.astype(dtype))
    np.testing.assert_array_equal(found["/b.mp4"], B.astype(dtype))
    assert isinstance(index.vectors("1-of-1"), np.memmap)
    assert [(video.grid, video.until_s) for video in index.videos] == [(GRID, 6.0), (GRID, 10.0)]
    assert (tmp_path / "i/1-of-1.vectors").stat().st_size == 8 * 4 * np.dtype(dtype).itemsize


def test_shares_and_later_runs_fill_one_index(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": A}, part="1-of-2")
    write_index(tmp_path / "i", {"/b.mp4": B}, part="2-of-2")
    index = write_index(tmp_path / "i", {"/c.mp4": A[:1]}, part="1-of-1")
    assert {path: len(rows) for path, rows in held(index).items()} == {"/a.mp4": 3, "/b.mp4": 5, "/c.mp4": 1}


def test_a_video_that_is_done_again_takes_the_place_of_the_old_one(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": A, "/b.mp4": B}, {"/a.mp4": [Sentence(0, 1, "old")]}, part="1-of-1")
    index = write_index(tmp_path / "i", {"/a.mp4": B[:2]}, {"/a.mp4": [Sentence(0, 1, "new")]}, part="1-of-2")
    np.testing.assert_array_equal(held(index)["/a.mp4"], B[:2].astype(np.float16))
    assert [s.text for s in index.sentences()[("/a.mp4", None, None)]] == ["new"]


@pytest.mark.parametrize("torn", [b'{"path": "/x.mp4", "fi', b'{"path": "/x.mp4"}\n', b"\x00\xff\n", b"[1]\n"])
def test_what_a_killed_process_left_behind_is_written_over(tmp_path, torn):
    write_index(tmp_path / "i", {"/a.mp4": A})
    with open(tmp_path / "i/1-of-1.vectors", "ab") as rows, open(tmp_path / "i/1-of-1.jsonl", "ab") as lines:
        rows.write(b"\x01" * 11)
        lines.write(torn)
    index = write_index(tmp_path / "i", {"/b.mp4": B})
    found = held(index)
    assert list(found) == ["/a.mp4", "/b.mp4"]
    np.testing.assert_array_equal(found["/b.mp4"], B.astype(np.float16))


def test_a_line_whose_rows_are_not_there_does_not_count(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": A, "/b.mp4": B})
    with open(tmp_path / "i/1-of-1.vectors", "ab") as rows:
        rows.truncate(5 * 8)
    assert list(held(Index(tmp_path / "i"))) == ["/a.mp4"]


def test_sentences_come_back_also_those_without_an_end(tmp_path):
    said = [Sentence(0.0, math.inf, "all of it"), Sentence(1.5, 2.25, "naïve 🐶")]
    index = write_index(tmp_path / "i", {"/a.mp4": A, "/b.mp4": B}, {"/a.mp4": said, "/gone.mp4": said, "/b.mp4": []})
    assert index.sentences() == index.sentences({"/a.mp4", "/b.mp4"}) == {("/a.mp4", None, None): said}
    assert index.sentences({"/a.mp"}) == index.sentences(()) == {}


def test_parts_of_a_video_are_videos(tmp_path):
    claim(tmp_path / "i", head())
    share = Part(tmp_path / "i", "1-of-1", head(), Quiet())
    for start in (0.0, 6.0):
        share.add(Row("/a.mp4", start_s=start, end_s=start + 6), "a.mp4", A, GRID, start + 6)
    share.close()
    assert [video.key for video in Index(tmp_path / "i").videos] == [("/a.mp4", 0.0, 6.0), ("/a.mp4", 6.0, 12.0)]


def test_another_model_is_refused_in_one_line(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": A})
    with pytest.raises(UsageError, match=r"is an index of toy \(a{16}\), every 2 s, float16; this is toy") as told:
        claim(tmp_path / "i", head(id="d" * 16))
    assert "\n" not in told.value.message


def test_words_alone_may_get_a_model_later(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": A[:0]}, {"/a.mp4": [Sentence(0, 1, "said")]}, id=None, model=None)
    index = write_index(tmp_path / "i", {"/a.mp4": A})
    assert held(index)["/a.mp4"].shape == (3, 4)
    assert index.sentences()


def test_one_process_writes_a_share(tmp_path):
    claim(tmp_path / "i", head())
    share = Part(tmp_path / "i", "1-of-2", head(), Quiet())
    with pytest.raises(UsageError, match="another process is writing to share 1-of-2"):
        Part(tmp_path / "i", "1-of-2", head(), Quiet())
    Part(tmp_path / "i", "2-of-2", head(), Quiet()).close()
    share.close()
    Part(tmp_path / "i", "1-of-2", head(), Quiet()).close()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 9, "id": "x", "model": null}', '{"version": 1, "id": "x", "model": {}, "dim": "3"}', '{"version": 1}'],
)
def test_what_describes_no_index_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UsageError, match="describes no index"):
        Index(tmp_path)


def test_a_folder_of_something_else_is_not_written_into(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and is no index"):
        claim(tmp_path, head())
    with pytest.raises(UsageError, match="is no index"):
        Index(tmp_path)
