"""Detection from videos to records; the training-free detector itself and trained models have tests of their own."""

import json
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from found_anomalies import write_yard

from tasks.anomalies import detect, training_free
from tasks.anomalies.config import DetectConfig
from tasks.anomalies.detect import ModelDetector, TrainingFreeDetector, run
from tasks.anomalies.result import FrameScores
from tasks.anomalies.stream import Raw
from tasks.core.data.inputs import gather
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.output import Output
from tasks.core.metrics.anomalies import smoothed
from tasks.core.reporter import Quiet
from tasks.core.video.open import open_video

RUNS = (50, 70)


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """Two videos of people who walk, and one in which somebody runs."""
    folder = tmp_path_factory.mktemp("yard")
    for seed in (1, 2):
        write_yard(folder / "quiet" / f"{seed}.mp4", (0, 0), 100, seed)
    write_yard(folder / "day.mp4", RUNS, 90, 3)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))


def records(config, sources, output=None):
    return list(run(config, gather([str(source) for source in sources]), output or Output(), 0, Quiet()))


class Learned(NamedTuple):
    skipped: tuple = ()


class Made:
    """A detector whose frames score their number / 100; counts how often it learns."""

    def __init__(self, monkeypatch):
        self.fitted = []
        monkeypatch.setattr(training_free, "fit", self.fit)
        monkeypatch.setattr(training_free, "score_video", self.score_video)

    def fit(self, sources, advance=lambda n: None, decoder="auto"):
        self.fitted.append(sources)
        return Learned()

    def score_video(self, model, reader, advance=lambda n: None, start=0, stop=None):
        assert isinstance(model, Learned)
        frame = np.arange(start, stop)
        return FrameScores(reader.pts[start:stop], frame, (frame / 100).astype(np.float32), {"motion": np.zeros(len(frame), np.float32)})


def test_someone_who_runs_is_found(yard):
    (quiet,) = records(DetectConfig(normal=[str(yard / "quiet")]), [yard / "day.mp4"])
    (alone,) = records(DetectConfig(first_part=0.4), [yard / "day.mp4"])
    for record in (quiet, alone):
        assert RUNS[0] <= record["peak"]["frame"] < RUNS[1] + 5
        assert record["peak"]["score"] == max(record["frames"]["score"])
        assert len(record["frames"]["score"]) == 90
        assert set(record["frames"]["parts"]) == set(training_free.PARTS)
    assert "the first 3.6 s were taken as normal" in alone["notes"][-1]
    assert not any("taken as normal" in note for note in quiet["notes"])


def test_normal_footage_is_learned_from_once_and_its_model_travels(yard, monkeypatch):
    made = Made(monkeypatch)
    config = DetectConfig(normal=[str(yard / "quiet")])
    found = records(config, [yard / "day.mp4", yard / "quiet" / "1.mp4"])
    assert len(found) == 2
    ((first, second),) = made.fitted
    assert (first.path, second.path) == (str(yard / "quiet" / "1.mp4"), str(yard / "quiet" / "2.mp4"))
    detector = TrainingFreeDetector(config)
    detector.prepare(Quiet())
    assert pickle.loads(pickle.dumps(detector)).normal == Learned()


def test_without_normal_footage_the_first_part_of_each_video_is(yard, monkeypatch):
    made = Made(monkeypatch)
    (yard / "part.csv").write_text("path,start,end\nday.mp4,2,8\n")
    (record,) = records(DetectConfig(first_part=0.5), [yard / "part.csv"])
    ((source,),) = made.fitted
    assert (source.start_s, source.end_s) == pytest.approx((2.0, 5.0))
    assert record["frames"]["frame"] == list(range(20, 80))
    assert record["start_s"] == pytest.approx(2.0)
    assert record["duration_s"] == pytest.approx(6.0)


def test_threshold_duration_and_gap_make_the_intervals(yard, monkeypatch):
    Made(monkeypatch)
    (record,) = records(DetectConfig(), [yard / "day.mp4"])
    assert [(i["start_frame"], i["end_frame"], i["peak"]) for i in record["intervals"]] == [(50, 89, 0.89)]
    (record,) = records(DetectConfig(threshold=0.8, min_duration_s=2), [yard / "day.mp4"])
    assert (record["intervals"], record["settings"]["threshold"], record["settings"]["min_duration_s"]) == ([], 0.8, 2)


def test_smoothing_changes_the_fused_score_only(yard, monkeypatch):
    Made(monkeypatch)
    (record,) = records(DetectConfig(smoothing_s=0.5), [yard / "day.mp4"])
    expected = smoothed(np.arange(90) / 100, np.arange(90) / 10, 0.5)
    assert np.allclose(record["frames"]["score"], expected, atol=1e-5)
    assert not any(record["frames"]["parts"]["motion"])
    assert record["settings"]["smoothing_s"] == 0.5


def test_outputs_are_made_once_and_nothing_is_learned_for_them_again(yard, tmp_path, monkeypatch):
    made = Made(monkeypatch)
    output = Output(tmp_path / "out", ("json", "csv"))
    config = DetectConfig(normal=[str(yard / "quiet")])
    (first,) = records(config, [yard / "day.mp4"], output)
    (second,) = records(config, [yard / "day.mp4"], output)
    assert (second.pop("skipped"), second) == (True, first)
    assert len(made.fitted) == 1
    assert "skipped" not in records(DetectConfig(normal=[str(yard / "quiet")], threshold=0.9), [yard / "day.mp4"], output)[0]
    (less,) = records(DetectConfig(normal=[str(yard / "quiet" / "1.mp4")], threshold=0.9), [yard / "day.mp4"], output)
    assert "skipped" not in less  # other footage
    assert len(made.fitted) == 3


def test_changed_footage_is_learned_from_again(yard, tmp_path, monkeypatch):
    Made(monkeypatch)
    normal = write_yard(tmp_path / "normal.mp4", frames=20)
    output = Output(tmp_path / "out")
    records(DetectConfig(normal=[str(normal)]), [yard / "day.mp4"], output)
    write_yard(normal, frames=30)
    assert "skipped" not in records(DetectConfig(normal=[str(normal)]), [yard / "day.mp4"], output)[0]


def test_a_limit_has_the_scores_of_finished_videos_whatever_was_written(yard, tmp_path, monkeypatch):
    Made(monkeypatch)
    output = Output(tmp_path / "out", ("csv",))
    records(DetectConfig(), [yard / "day.mp4"], output)
    (kept,) = records(DetectConfig(fail_above=0.5), [yard / "day.mp4"], output)
    assert (kept["skipped"], kept["peak"]["frame"]) == (True, 89)


def test_what_cannot_be_used_fails_alone(yard, tmp_path):
    write_yard(tmp_path / "short.mp4", frames=15)
    (tmp_path / "text.mp4").write_text("no video")
    found = records(DetectConfig(), [tmp_path / "short.mp4", tmp_path / "text.mp4", "gone.mp4", yard / "day.mp4"])
    assert ["error" in record for record in found] == [True, True, True, False]
    assert "too little to learn from" in found[0]["error"]
    assert found[2] == {"video": "gone.mp4", "error": "no such file"}


def test_a_video_of_another_shape_than_the_normal_footage_fails_alone(yard, tmp_path):
    from tasks.core.data.synthetic import encode

    (tmp_path / "tall.mp4").write_bytes(encode(np.zeros((30, 128, 64, 3), np.uint8), 10))
    found = records(DetectConfig(normal=[str(yard / "quiet")]), [tmp_path / "tall.mp4", yard / "day.mp4"])
    assert "another shape than the normal footage" in found[0]["error"]
    assert "intervals" in found[1]


def test_normal_footage_that_cannot_be_used_is_an_error(yard, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        records(DetectConfig(normal=[str(tmp_path / "gone.mp4")]), [yard / "day.mp4"])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4"):
        records(DetectConfig(normal=[str(tmp_path / "text.mp4")]), [yard / "day.mp4"])
    with pytest.raises(UsageError, match="exclude each other"):
        ModelDetector(DetectConfig(model="x", normal=[str(yard / "quiet")]))


class Trained:
    """Stands where a trained model would: scores fall from the fifth frame to the fifth last but for the last one scored."""

    def __init__(self, reference, config):
        self.settings, self.config = {"threshold": 3.0, "weights": {"motion": 1.0}}, {"task": "anomalies"}

    def raw(self, reader, progress=None, start_s=None, end_s=None):
        progress(reader.n_frames)
        frame = np.arange(4, reader.n_frames - 4)
        return Raw(frame, {"motion": (reader.n_frames - frame) / 10})

    def fused(self, raw, t):
        score = raw.values["motion"].astype(np.float32)
        score[-1] = 5
        return FrameScores(t, raw.frame, score, {})

    def notes(self, reader):
        return ["the first and last 4 frames have no score"]


def test_a_trained_model_is_taken_with_its_own_threshold_and_notes(yard, tmp_path, monkeypatch):
    import tasks.anomalies.learned as learned

    monkeypatch.setattr(learned, "LearnedScorer", Trained)
    (record,) = records(DetectConfig(model="runs/yard", fusion="standard"), [yard / "day.mp4"], Output(tmp_path, ("json", "html", "mp4")))
    assert (record["method"], record["settings"]["threshold"], record["notes"]) == (
        "runs/yard",
        3.0,
        ["the first and last 4 frames have no score"],
    )
    assert [(i["start_frame"], i["end_frame"]) for i in record["intervals"]] == [(4, 60), (85, 85)]
    assert record["intervals"][1]["end_s"] == pytest.approx(8.6)  # frames after it have no score
    assert json.loads((tmp_path / "day.anomalies.json").read_text())["frames"]["frame"][0] == 4
    with open_video(tmp_path / "day.anomalies.mp4") as reader:
        assert reader.n_frames == 90


def test_thresholds_of_the_training_free_detector_are_calibrated():
    assert TrainingFreeDetector(DetectConfig()).settings["threshold"] == detect.THRESHOLD == 0.5
