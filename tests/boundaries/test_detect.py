"""Three ways to scores, one way from there: training-free, with a model, from saved scores."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from finetune_toy import PLAIN
from switching import FPS, switching_frames

from tasks.boundaries.classifier import BoundaryClassifier
from tasks.boundaries.config import DetectConfig
from tasks.boundaries.detect import ModelDetector, SavedScores, TrainingFreeDetector, run, run_from_scores, saved_inputs
from tasks.boundaries.result import Scores
from tasks.boundaries.scores import read_scores
from tasks.core.checkpoint import save_model
from tasks.core.data.inputs import gather
from tasks.core.data.synthetic import encode
from tasks.core.errors import UsageError
from tasks.core.inference.output import Output
from tasks.core.reporter import Quiet


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A classifier with random weights, whose scores lie around a half."""
    torch.manual_seed(0)
    saved = {
        "task": "boundaries",
        "method": "gebd",
        "architecture": PLAIN.model_dump(),
        "window": {"before": 3, "stride_s": 1 / 6},
        "merge": {"threshold": 0.5, "window_s": 0.5},
        "preprocessing": {"crop": "none", "short_side": None, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, BoundaryClassifier(PLAIN).state_dict(), saved, "")
    return str(folder)


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """A video whose colours change at 2 and 6 s, and a manifest of its second half."""
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    frames = switching_frames(np.random.default_rng(0), "colour", [2.0, 6.0])
    (tmp_path / "v.mp4").write_bytes(encode(frames, FPS))
    (tmp_path / "half.csv").write_text("path,start,end\nv.mp4,4,\n")
    return gather([str(tmp_path / "v.mp4"), str(tmp_path / "half.csv")])


def config(way, model, **changes):
    return DetectConfig(**{"model": model, "device": "cpu", "batch_size": 7, "threshold": 0.4} if way == "model" else {}, **changes)


def without_files(records):
    return [{key: value for key, value in record.items() if key != "files"} for record in records]


class Listener(Quiet):
    def __init__(self):
        self.heard = []

    def warn(self, text):
        self.heard.append(text)


@pytest.mark.parametrize("way", ["training-free", "model"])
def test_saved_scores_lead_to_the_same_results(videos, model, tmp_path, way):
    output = Output(tmp_path / "out", ("scores", "csv", "edl", "html"))
    found = list(run(config(way, model), videos, output, 0, Quiet()))
    assert all(record["boundaries"] for record in found)
    again = list(run_from_scores(DetectConfig(), saved_inputs([str(tmp_path / "out")]), Output(tmp_path / "new", output.kinds), Quiet()))
    assert without_files(again) == without_files(sorted(found, key=lambda record: record["files"]))
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "new" / file.name).read_bytes() == file.read_bytes()  # the records too
    one = saved_inputs([str(tmp_path / "out" / "v.boundaries.scores.csv")])
    more = list(run_from_scores(DetectConfig(threshold=1.0), one, Output(), Quiet()))
    assert (more[0]["settings"]["threshold"], more[0]["method"]) == (1.0, found[0]["method"])
    assert len(more[0]["boundaries"]) < len(found[0]["boundaries"])


def test_a_model_scores_some_windows_at_a_time_in_order(videos, model):
    detector, frames = ModelDetector(config("model", model)), []
    for source in videos:
        with detector.open(source) as footage:
            pieces = list(detector.score(footage, frames.append))
            whole = detector.scorer.score(footage.reader, start_s=footage.start_s, end_s=footage.end_s)
        assert len(pieces) > 2
        assert max(map(len, pieces)) == 7
        assert all(a.t[-1] < b.t[0] for a, b in pairwise(pieces))
        joined = Scores.join(pieces)
        for name in ("t", "frame", "score"):
            assert np.array_equal(getattr(joined, name), getattr(whole, name))
            assert getattr(joined, name).dtype == getattr(whole, name).dtype
        assert sum(frames) == footage.stop - footage.start
        frames.clear()


def test_nothing_scored_is_nothing_found():
    empty = Scores.join([])
    assert (len(empty), empty.t.dtype, empty.frame.dtype, empty.score.dtype) == (0, np.float64, np.int64, np.float32)


def test_what_may_leave_this_process_can(model):
    detector = TrainingFreeDetector(DetectConfig(threshold=0.25))
    assert detector.portable
    assert pickle.loads(pickle.dumps(detector)).settings == {"threshold": 0.25, "min_gap_s": 0.5}
    assert not ModelDetector(config("model", model)).portable


def test_settings_of_the_other_method_are_refused_whichever_way_the_scores_came(videos, model, tmp_path):
    for way in ("training-free", "model"):
        list(run(config(way, model), videos[:1], Output(tmp_path / way, ("scores",)), 0, Quiet()))
    saved = {way: read_scores(tmp_path / way / "v.boundaries.scores.csv") for way in ("training-free", "model")}
    for way, wrong, word in (("training-free", {"merge": {"rule": "runs"}}, "merge"), ("model", {"min_gap_s": 1.0}, "min-gap")):
        with pytest.raises(UsageError, match=word):
            SavedScores(saved[way], DetectConfig(**wrong), Quiet())
        with pytest.raises(UsageError, match=word):
            (TrainingFreeDetector if way == "training-free" else ModelDetector)(config(way, model, **wrong))
    changed = SavedScores(saved["model"], DetectConfig(merge={"rule": "runs"}), Quiet()).settings
    assert (changed["threshold"], changed["merge"]["rule"], changed["merge"]["window_s"]) == (0.4, "runs", 0.5)
    assert changed["model_hash"] == saved["model"].settings["model_hash"]


def test_a_report_has_pictures_as_long_as_the_video_is_the_same(videos, tmp_path):
    list(run(DetectConfig(), videos[:1], Output(tmp_path / "out", ("scores",)), 0, Quiet()))
    page, warnings = {}, {}
    for case in ("there", "other", "gone"):
        if case == "other":
            (tmp_path / "v.mp4").write_bytes(encode(np.zeros((20, 32, 32, 3), np.uint8), FPS))
        elif case == "gone":
            (tmp_path / "v.mp4").unlink()
        listener = Listener()
        (record,) = run_from_scores(DetectConfig(), saved_inputs([str(tmp_path / "out")]), Output(tmp_path / case, ("html",)), listener)
        assert record["boundaries"]
        page[case], warnings[case] = (tmp_path / case / "v.boundaries.html").read_text(), listener.heard
    assert ["<img" in page[case] for case in page] == [True, False, False]
    assert warnings["there"] == []
    assert "is another video now" in warnings["other"][0]
    assert "no such file" in warnings["gone"][0]


def test_damaged_scores_fail_alone(videos, tmp_path):
    list(run(DetectConfig(), videos, Output(tmp_path / "out", ("scores",)), 0, Quiet()))
    damaged = tmp_path / "out" / "v.boundaries.scores.csv"
    damaged.write_text(damaged.read_text()[:-9])
    found = list(run_from_scores(DetectConfig(), saved_inputs([str(tmp_path / "out"), "gone.csv"]), Output(), Quiet()))
    assert ["error" in record for record in found] == [False, True, True]
    assert found[1]["video"] == str(damaged)
    assert found[2] == {"video": "gone.csv", "error": "no such file"}
