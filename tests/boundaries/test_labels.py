"""Candidates, windows and targets, and annotation files."""

import json

import numpy as np
import pytest

from tasks.boundaries.config import LabelConfig, WindowConfig
from tasks.boundaries.labels import best_rater, candidates, hard_labels, soft_labels, targets, windows
from tasks.boundaries.truth import boundary_times, present, read_truth
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError, UsageError

PTS = np.arange(200) / 25
EVERY = np.arange(200)
BY_FRAMES, BY_SECONDS = WindowConfig(before=5, stride_frames=3), WindowConfig(before=2, stride_s=0.2)


def test_candidates_are_every_third_frame_from_an_offset():
    assert candidates(PTS[:11], BY_FRAMES).tolist() == [0, 3, 6, 9]
    assert candidates(PTS[:11], BY_FRAMES, offset=1 / 3 + 1e-9).tolist() == [1, 4, 7, 10]
    assert candidates(PTS[:11], BY_FRAMES, offset=0.999).tolist() == [2, 5, 8]
    assert candidates(PTS, BY_FRAMES, 50, 60).tolist() == [50, 53, 56, 59]
    assert candidates(PTS[:1], BY_FRAMES, offset=0.9).tolist() == [0]


def test_candidates_in_seconds_follow_presentation_time():
    """30 frames/s, then 10: the same time between candidates, another number of frames."""
    pts = 3.0 + np.concatenate([np.arange(30) / 30, 1 + np.arange(10) / 10])
    chosen = candidates(pts, BY_SECONDS)
    assert np.diff(pts[chosen]) == pytest.approx(0.2, abs=1e-9)
    assert len(chosen) == 10
    assert candidates(pts, BY_SECONDS, offset=0.5)[0] == 3
    slow = np.arange(4) * 1.0  # slower than the stride: every frame once
    assert candidates(slow, BY_SECONDS).tolist() == [0, 1, 2, 3]


def test_windows_leave_the_candidate_out_and_stay_in_the_video():
    around = windows(PTS, np.array([60, 4, 199]), BY_FRAMES)
    assert around[0].tolist() == [45, 48, 51, 54, 57, 63, 66, 69, 72, 75]
    assert around[1].tolist() == [0, 0, 0, 0, 1, 7, 10, 13, 16, 19]
    assert around[2].tolist() == [184, 187, 190, 193, 196, 199, 199, 199, 199, 199]
    part = windows(PTS, np.array([50, 59]), BY_FRAMES, 50, 60)
    assert part.min() == 50
    assert part.max() == 59


def test_windows_in_seconds_take_the_nearest_frames_of_a_variable_rate():
    pts = np.concatenate([np.arange(30) / 30, 1 + np.arange(10) / 10])
    around = windows(pts, np.array([30]), BY_SECONDS)  # at 1.0 s
    assert pts[around[0]] == pytest.approx([0.6, 0.8, 1.2, 1.4], abs=1e-9)


def test_hard_positives_are_exactly_those_within_half_the_width():
    """Spec A10.8: at 25 frames/s |i - b| <= 3.75."""
    b = 100
    assert np.flatnonzero(hard_labels(PTS, EVERY, np.array([b / 25]), 0.3)).tolist() == list(range(b - 3, b + 4))
    assert hard_labels(PTS, EVERY, np.array([(b + 0.5) / 25]), 0.32).sum() == 8  # +-4 frames of b + 0.5, both ends hit
    assert not hard_labels(PTS, EVERY, np.array([]), 0.3).any()


def test_soft_labels_in_frames():
    """Spec A10.8: 1 at b, exp(-1/2) at b +- 3, the sum cut at 1."""
    label = LabelConfig(kind="soft")
    found = soft_labels(PTS, EVERY, np.array([100 / 25]), label, BY_FRAMES)
    assert found[100] == 1
    assert found[[97, 103]] == pytest.approx(np.exp(-0.5))
    assert found[[93, 107]] == pytest.approx(np.exp(-((7 / 3) ** 2) / 2))
    two = soft_labels(PTS, EVERY, np.array([100, 102]) / 25, label, BY_FRAMES)
    assert two[101] == 1
    assert two[97] == pytest.approx(np.exp(-0.5) + np.exp(-25 / 18))
    assert two.max() == 1


@pytest.mark.parametrize(
    ("unit", "window", "frames"), [("candidates", BY_FRAMES, 9), ("candidates", BY_SECONDS, 15), ("seconds", BY_FRAMES, 75)]
)
def test_soft_labels_in_other_units(unit, window, frames):
    """One deviation of 3 units lies 3 x 3 frames, 3 x 0.2 s or 3 s from the boundary."""
    found = soft_labels(PTS, EVERY, np.array([4.0]), LabelConfig(kind="soft", soft_unit=unit), window)
    assert found[[100 - frames, 100 + frames]] == pytest.approx(np.exp(-0.5))


def test_soft_labels_count_the_frames_of_a_variable_rate():
    pts = np.concatenate([np.arange(50) / 50, 1 + np.arange(10) / 10])
    found = soft_labels(pts, np.arange(60), np.array([1.0]), LabelConfig(kind="soft"), BY_FRAMES)
    assert found[[47, 53]] == pytest.approx(np.exp(-0.5))


def test_targets_choose_the_kind():
    boundaries = np.array([4.0])
    hard = targets(PTS, EVERY, boundaries, LabelConfig(), BY_FRAMES)
    assert hard.dtype == np.float32
    assert set(hard) == {0.0, 1.0}
    assert 0 < targets(PTS, EVERY, boundaries, LabelConfig(kind="soft"), BY_FRAMES)[97] < 1


def test_the_rater_who_agrees_most_is_taken():
    assert best_rater([0.4, 0.9, 0.9]) == 1
    assert best_rater([]) == 0


def test_boundaries_are_counted_from_the_start_of_video_or_part():
    pts = 7.5 + PTS
    assert boundary_times(Row("v.mp4", label="1.0 2.5"), pts).tolist() == [8.5, 10.0]
    assert boundary_times(Row("v.mp4", label="1.0", start_s=9.0), pts).tolist() == [10.0]
    assert boundary_times(Row("v.mp4", label=""), pts).tolist() == []


def entry(**changes) -> dict:
    return {"video_duration": 8.0, "f1_consis": [0.4, 0.9], "f1_consis_avg": 0.65, "substages_timestamps": [[1.0], [3.25, 2.0]], **changes}


def test_json_names_videos_by_path_or_by_id(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.mkv").touch()
    (tmp_path / "b.webm").touch()
    truth = {"a": entry(path="deep/a.mkv"), "b": entry(), "gone": entry()}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    videos = read_truth([str(tmp_path / "truth.json")], "train")
    assert videos[0].boundaries == (3.25, 2.0)  # of the second rater
    assert [v.row.label for v in videos] == ["3.25 2.0"] * 3
    there, missing = present(videos)
    assert [v.row.path for v in there] == [str(tmp_path / "deep" / "a.mkv"), str(tmp_path / "b.webm")]
    assert missing == [(str(tmp_path / "gone.mp4"), "no such file")]
    assert videos[0].as_truth(99.0)["video_duration"] == 8.0
    assert videos[0].as_truth(99.0)["substages_timestamps"] == [[1.0], [3.25, 2.0]]


def test_other_boundaries_change_the_data_hash(tmp_path):
    from tasks.core.engine.run import hash_rows

    hashes = []
    for times in ([1.0], [1.5]):
        (tmp_path / "t.json").write_text(json.dumps({"a": entry(substages_timestamps=[times], f1_consis=[1.0])}))
        hashes.append(hash_rows([v.row for v in read_truth([str(tmp_path / "t.json")], "train")]))
    assert hashes[0] != hashes[1]


def test_a_manifest_with_boundaries(tmp_path):
    text = "path,split,boundaries,start,end\na.mp4,train,1.5;3,,\nb.mp4,val,2 4.25,,\nc.mp4,train,,10,20\n"
    (tmp_path / "m.csv").write_text(text)
    train = read_truth([str(tmp_path / "m.csv")], "train")
    assert [(v.id, v.boundaries, v.duration_s) for v in train] == [("a", (1.5, 3.0), None), ("c@10-20", (), 10.0)]
    assert [v.boundaries for v in read_truth([f"{tmp_path / 'm.csv'}@val"], "train")] == [(2.0, 4.25)]


@pytest.mark.parametrize(
    ("name", "text", "error", "says"),
    [
        ("t.json", "[1]", UsageError, "no annotation"),
        ("t.json", "{nonsense", UsageError, "not JSON"),
        ("t.json", '{"a": {"substages_timestamps": [["x"]]}}', UsageError, "entry 'a'"),
        ("t.json", '{"a": {"substages_timestamps": [[1]], "f1_consis": [1, 1]}}', UsageError, "entry 'a'"),
        ("t.json", '{"a": {"substages_timestamps": [[NaN]]}}', UsageError, "entry 'a'"),
        ("m.csv", "path,label\na.mp4,walk\n", UsageError, "says nothing about boundaries"),
        ("m.csv", "path,boundaries\na.mp4,soon\n", UsageError, "'soon'"),
        ("m.csv", "path,boundaries\na.mp4,1\na.mp4,2\n", UsageError, "occurs twice"),
        ("absent.json", None, InputError, "absent.json"),
    ],
)
def test_what_is_no_annotation_is_refused(tmp_path, name, text, error, says):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=says):
        read_truth([str(tmp_path / name)], "train")
