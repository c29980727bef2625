"""The contract of detectors on one that looks at features of hours instead of frames, finds classes with start and end, and is none of
those that live here; and what every detector gets from the loop."""

import json
import pickle
from contextlib import contextmanager

import numpy as np
import pytest

from tasks.core.data.inputs import Input
from tasks.core.data.manifest import Row
from tasks.core.data.synthetic import encode
from tasks.core.errors import InputError
from tasks.core.files import write_text
from tasks.core.inference.detector import Detector, Footage, detect_all, detect_one, open_footage
from tasks.core.inference.loop import each_input, failure
from tasks.core.inference.output import Output
from tasks.core.reporter import Quiet
from tasks.core.video.reader import VideoError

GRID_S, WINDOW = 0.5, 20
CLASSES = ("speech", "music")


class Events(Detector):
    """Events in features (T, 2), one channel per class: runs of values above the threshold; windows overlap by half, and what two of them
    find of one event is joined in `finish`."""

    method, portable = "toy", True
    suffixes = {"json": ".events.json", "csv": ".events.csv"}  # noqa: RUF012 (never changed)

    def __init__(self, threshold=0.5):
        self.settings, self.prepared, self.longest = {"threshold": threshold}, 0, 0

    def prepare(self, reporter, workers):
        self.prepared += 1

    @contextmanager
    def open(self, source):
        features = np.load(source.row.path, mmap_mode="r")
        if features.shape[1] != len(CLASSES):
            raise InputError(f"{source.row.path}: features of {features.shape[1]} channels, {len(CLASSES)} expected")
        yield source, features

    def score(self, opened, advance=lambda n: None):
        _, features = opened
        for first in range(0, max(1, len(features) - WINDOW // 2), WINDOW // 2):
            part = np.asarray(features[first : first + WINDOW])
            self.longest = max(self.longest, len(part))
            for kind, column in zip(CLASSES, part.T, strict=True):
                above = np.flatnonzero(np.diff(np.r_[False, column > self.settings["threshold"], False].astype(int)))
                for low, high in above.reshape(-1, 2):
                    yield kind, first + low, first + high, float(column[low:high].max())
            advance(min(WINDOW // 2, len(features) - first))

    def finish(self, opened, scores):
        source, _ = opened
        events: dict[str, list[list]] = {kind: [] for kind in CLASSES}
        for kind, low, high, score in scores:
            known = events[kind]
            if known and low <= known[-1][1]:
                known[-1][1:] = [max(high, known[-1][1]), max(score, known[-1][2])]
            else:
                known.append([low, high, score])
        found = [(kind, low * GRID_S, high * GRID_S, score) for kind, known in events.items() for low, high, score in known]
        return source.shown, sorted(found, key=lambda event: event[1])

    def record(self, result):
        shown, events = result
        named = [dict(zip(("class", "start_s", "end_s", "score"), event, strict=True)) for event in events]
        return {"video": shown, "method": self.method, "settings": self.settings, "events": named}

    def write(self, kind, path, result, opened, advance=lambda n: None):
        write_text(path, "".join(f"{name},{start},{end}\n" for name, start, end, _ in result[1]))


def made(folder, name, *events, n=200):
    """Features with events (class, first, last + 1)."""
    features = np.zeros((n, 2), np.float32)
    for kind, low, high in events:
        features[low:high, CLASSES.index(kind)] = 0.9
    path = folder / f"{name}.npy"
    np.save(path, features)
    return Input(Row(str(path)), path.name, name)


@pytest.fixture
def inputs(tmp_path):
    return [made(tmp_path, "a", ("speech", 5, 90), ("music", 60, 70)), made(tmp_path, "b", n=7)]


def test_windows_over_features_become_events_with_class_start_and_end(tmp_path, inputs):
    detector, frames = Events(), []
    record = detect_one(detector, Output(tmp_path / "out", ("csv",)), inputs[0], frames.append)
    assert record["events"] == [
        {"class": "speech", "start_s": 2.5, "end_s": 45.0, "score": pytest.approx(0.9)},
        {"class": "music", "start_s": 30.0, "end_s": 35.0, "score": pytest.approx(0.9)},
    ]
    assert (tmp_path / "out" / "a.events.csv").read_text() == "speech,2.5,45.0\nmusic,30.0,35.0\n"
    assert json.loads((tmp_path / "out" / "a.events.json").read_text())["events"] == record["events"]
    assert detector.longest == WINDOW  # never more than a window at a time
    assert sum(frames) == 190


def test_it_is_prepared_once_and_not_at_all_where_everything_was_done(tmp_path, inputs):
    output, detector = Output(tmp_path / "out"), Events()
    first = list(detect_all(detector, inputs, output, 0, Quiet()))
    assert detector.prepared == 1
    second = list(detect_all(detector, inputs, output, 3, Quiet()))
    assert detector.prepared == 1
    assert [r.pop("skipped") for r in second] == [True, True]
    assert second == first
    (tmp_path / "out" / "b.events.json").unlink()
    again = list(detect_all(detector, inputs, output, 0, Quiet()))
    assert (detector.prepared, [r.get("skipped", False) for r in again]) == (2, [True, False])
    assert not any(r.get("skipped") for r in detect_all(Events(0.8), inputs, output, 0, Quiet()))


def test_an_input_that_cannot_be_used_fails_alone_and_leaves_nothing(tmp_path, inputs):
    np.save(tmp_path / "wide.npy", np.zeros((9, 3)))
    wide = Input(Row(str(tmp_path / "wide.npy")), "wide.npy", "wide")
    found = list(detect_all(Events(), [inputs[0], wide, inputs[1]], Output(tmp_path / "out"), 0, Quiet()))
    assert found[1] == {"video": "wide.npy", "error": "features of 3 channels, 2 expected"}
    assert ["error" in record for record in found] == [False, True, False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.events.json", "b.events.json"]


class Network(Events):
    """One that cannot leave its process."""

    portable = False

    def __reduce__(self):
        raise TypeError("stays here")


def test_one_that_is_not_portable_stays_in_this_process(inputs):
    assert [r["video"] for r in detect_all(Network(), inputs, Output(), 2, Quiet())] == ["a.npy", "b.npy"]
    with pytest.raises(TypeError):
        pickle.dumps(Network())


def test_footage_is_the_part_that_a_manifest_names(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "v.mp4").write_bytes(encode(np.zeros((30, 32, 48, 3), np.uint8), 10))
    with open_footage(Input(Row(str(tmp_path / "v.mp4"), start_s=1.0, end_s=2.5), "v.mp4", "v")) as footage:
        assert isinstance(footage, Footage)
        assert (footage.start, footage.stop) == (10, 25)
        facts = footage.facts()
    assert (facts["n_frames"], facts["width"], facts["height"], facts["damage"]) == (30, 48, 32, None)
    assert (facts["start_s"], facts["duration_s"]) == (pytest.approx(1.0), pytest.approx(1.5))
    with pytest.raises(VideoError), open_footage(Input(Row(str(tmp_path / "gone.mp4")), "gone.mp4", "gone")):
        pass


def test_reasons_come_without_the_path():
    source = Input(Row("/videos/v.mp4"), "v.mp4", "v")
    for error in (VideoError("/videos/v.mp4", "no such file"), InputError("/videos/v.mp4: no such file"), InputError("no such file")):
        assert failure(source, error) == {"video": "v.mp4", "error": "no such file"}


def crash_on_b(source, advance):
    if source.name == "b":
        raise RuntimeError("a decoder's own error")
    return {"video": source.shown}


@pytest.mark.parametrize("workers", [1, 2])
def test_records_come_in_order_from_processes_that_may_end(inputs, workers):
    found = list(each_input(crash_on_b, [inputs[1], inputs[0]], workers, Quiet(), "testing"))
    assert found[0]["video"] == "b.npy"
    assert "a decoder's own error" in found[0]["error"]
    assert found[1] == {"video": "a.npy"}
