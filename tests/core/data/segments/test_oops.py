"""The clips of Oops, from a file by hand with what the real one holds."""

import json
from collections import Counter

import pytest

from tasks.core.data.segments.annotations import Choices
from tasks.core.data.segments.formats import load_content, read_segments, recognise
from tasks.core.errors import InputError, UsageError


def video(times, length):
    """An entry as the public file has it."""
    unseen = sum(time == -1 for time in times)
    return {"t": times, "len": length, "stdev": 0.1, "rel_t": [time / length for time in times], "rel_stdev": 0.01, "n_notfound": unseen}


OOPS = {
    "Best Fails (May 2017)10": video([2.1, 1.6, 9.0], 4.0),  # the middle one, 2.1
    "Funny vs. Sad3": video([3.0, -1, 3.2], 5.1),
    "nobody saw it": video([-1, 2.0, -1], 5.0),
    "short": video([1.0, 1.0, 1.0], 3.1),
    "long": video([1.0, 1.0, 1.0], 31.0),
    "at once": video([0.01, 0.01, 0.02], 6.0),
    "at the end": video([5.99, 5.99, 5.98], 6.0),
    "bad quality": video([2.0, 2.0, 2.0], 4.0),
}


def read(folder, content=None, lists=(), **choices):
    file = folder / "transition_times.json"
    file.write_text(json.dumps(OOPS if content is None else content))
    for name, videos in lists:
        (folder / name).write_text("".join(f"{video}\n" for video in videos))
    found = load_content(file)
    assert recognise(found) == "oops"
    return read_segments(found, str(file), "oops", Choices(**choices))


def test_clips_before_with_and_after_the_failure(tmp_path):
    rows = [row for row in read(tmp_path).rows if row.path == "Best Fails (May 2017)10"]
    assert [(row.start_s, row.end_s) for row in rows] == [(k / 4, k / 4 + 1) for k in range(13)]
    labels = ["intentional"] * 5 + ["transitional"] * 4 + ["unintentional"] * 4
    assert [row.label for row in rows] == labels  # 2.1 s lies in the clips from 1.25, 1.5, 1.75 and 2 s
    assert rows[0].extra == {"duration": "4.0", "failure_s": "2.1"}


def test_a_clip_begins_at_its_start_and_ends_before_its_end(tmp_path):
    rows = read(tmp_path, {"v": video([2.0, 2.0, 2.0], 4.0)}, window_s=1.0, step_s=1.0).rows
    assert [row.label for row in rows] == ["intentional", "intentional", "transitional", "unintentional"]


def test_what_the_public_code_leaves_out_is_counted(tmp_path):
    found = read(tmp_path)
    assert {row.path for row in found.rows} == {"Best Fails (May 2017)10", "Funny vs. Sad3", "bad quality"}
    assert found.left_out == {
        "videos in which most people saw no failure": 1,
        "videos that are not 3.2 to 30 s long": 2,
        "videos that fail at their very beginning or end": 2,
    }
    assert {row.split for row in found.rows} == {None}
    assert any("no lists of splits" in fact for fact in found.facts)


def test_splits_are_those_of_the_lists_beside_the_file(tmp_path):
    lists = [
        ("train_filtered.txt", ["Best Fails (May 2017)10", "short"]),
        ("val_filtered.txt", ["Funny vs. Sad3"]),
        ("train.txt", [*OOPS]),
    ]
    found = read(tmp_path, lists=lists)
    assert {row.path: row.split for row in found.rows} == {"Best Fails (May 2017)10": "train", "Funny vs. Sad3": "val"}
    assert found.left_out["videos of no chosen split"] == 5
    assert {row.path for row in read(tmp_path, split="val").rows} == {"Funny vs. Sad3"}
    with pytest.raises(UsageError, match="no list of split 'test'") as error:
        read(tmp_path, split="test")
    assert error.value.hint == "splits there: train, val"


def test_unfiltered_lists_do_where_there_are_no_others(tmp_path):
    found = read(tmp_path, lists=[("train.txt", ["bad quality"]), ("val.txt", ["Funny vs. Sad3"])])
    assert Counter(row.split for row in found.rows) == {"train": 13, "val": 17}


def test_a_list_that_is_no_text_is_said(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"val.txt: cannot be read as a list"):
        read(tmp_path)


def test_window_and_step_are_chosen(tmp_path):
    rows = read(tmp_path, {"v": video([2.5], 6.0)}, window_s=4.0, step_s=0.5).rows
    assert [(row.start_s, row.end_s, row.label) for row in rows] == [
        (0.0, 4.0, "transitional"),
        (0.5, 4.5, "transitional"),
        (1.0, 5.0, "transitional"),
        (1.5, 5.5, "transitional"),
        (2.0, 6.0, "transitional"),
    ]
    with pytest.raises(InputError, match="no segment in it can be used"):
        read(tmp_path, {"v": video([2.0], 4.0)}, window_s=5.0)


def test_what_is_damaged_or_does_not_fit_is_said(tmp_path):
    with pytest.raises(InputError, match="the video 'b' cannot be used"):
        read(tmp_path, {"a": video([2.0], 4.0), "b": {"t": ["soon"], "len": 4.0}})
    other = {"database": {"a": {"annotations": [{"segment": [1, 2], "label": "x"}]}}}
    with pytest.raises(UsageError, match="format activitynet has segments of its own"):
        read_segments(other, "x.json", "activitynet", Choices(window_s=1.0))
    with pytest.raises(InputError, match="no times of failures in it"):
        read_segments(other, "x.json", "oops", Choices())
