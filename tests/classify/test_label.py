"""`vid classify`: what is said of a video is what testing says, and of a long one what each window says."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from tiny_classifier import far_from_start, tiny_classifier

from tasks.classify.labelling import Labelling, as_record
from tasks.classify.predict import load
from tasks.core.checkpoint import save_model
from tasks.core.clips.prepare import prepare_frames
from tasks.core.data.synthetic import render_motion_set
from tasks.core.nn.config import VitConfig
from tasks.core.video.open import open_video
from vidcli import app

VIT = VitConfig(size="tiny", dim=16, depth=1, heads=2, image_size=16, frames=4, tubelet=2, patch=8)
LABELS = ["left", "right", "up"]
SPAN_S = 0.8  # 4 frames, 0.2 s apart


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `model` and two videos, `short.mp4` (1.2 s) and `long.mp4` (6.4 s)."""
    folder = tmp_path_factory.mktemp("label")
    module, saved = tiny_classifier(VIT, LABELS)
    saved["preprocessing"] |= {"stride_frames": None, "stride_s": 0.2, "short_side": 24}
    save_model(folder / "model", far_from_start(module).state_dict(), saved, "a card\n")
    for name, frames in (("short", 12), ("long", 64)):
        render_motion_set(folder / name, 1, seed=3, frames=frames, size=48, splits={"train": 1.0})
        next((folder / name).rglob("*.mp4")).rename(folder / f"{name}.mp4")
    return folder


@pytest.fixture
def vid(place, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vid"])
    monkeypatch.setenv("VID_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)

    def run(*arguments):
        code = app.main(["classify", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_short_video_gets_the_probabilities_of_testing(vid):
    code, out, _ = vid("short.mp4", "--model", "model", "--top", "3", "--clips", "4", "--crops", "3", "--json", "-q")
    (record,) = records(out)
    assert code == 0
    assert record["views"] == "4x3"
    assert "windows" not in record
    expected = load("model").predict("short.mp4", clips=4, crops=3)
    assert [label["label"] for label in record["labels"]] == list(expected)
    assert [label["score"] for label in record["labels"]] == pytest.approx(list(expected.values()), abs=2e-6)


@pytest.mark.parametrize(("hop", "step"), [((), SPAN_S), (("--hop", "0.5"), 0.5)])
def test_a_long_video_is_seen_window_by_window(vid, place, hop, step):
    code, out, _ = vid("long.mp4", "--model", "model", "--top", "3", "--crops", "1", "--batch-size", "3", *hop, "--json", "-q")
    (record,) = records(out)
    assert code == 0
    model = load("model")
    with open_video(place / "long.mp4") as reader:
        n = int(np.ceil(record["duration_s"] / step - 1e-6))
        assert [window["start"] for window in record["windows"]] == pytest.approx([step * i for i in range(n)], abs=1e-3)
        scores = []
        for i in range(n):
            wanted = step * i + 0.2 * np.arange(4)
            frames = [int(np.abs(reader.pts - (second - 1e-6)).argmin()) for second in wanted]
            clip = torch.from_numpy(reader.get(frames, 24))
            with torch.no_grad():
                scores.append(model(prepare_frames(clip, model.preprocessing)).softmax(-1)[0].numpy())
    for window, expected in zip(record["windows"], scores, strict=True):
        told = {label["label"]: label["score"] for label in window["labels"]}
        assert [told[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)
        assert window["end"] == pytest.approx(min(window["start"] + SPAN_S, record["duration_s"]), abs=1e-3)
    told = {label["label"]: label["score"] for label in record["labels"]}
    assert [told[label] for label in LABELS] == pytest.approx(np.mean(scores, 0).tolist(), abs=1e-4)
    assert record["parts"][0]["start"] == 0
    assert record["parts"][-1]["end"] == pytest.approx(record["duration_s"], abs=1e-3)


def labelling(values, top=2):
    values = np.array(values, np.float32)
    times = np.stack([np.arange(len(values)), np.arange(len(values)) + 1.5], 1)
    facts = {"n_frames": 40, "fps": 10.0, "duration_s": 4.5, "start_s": 0.0, "width": 4, "height": 4, "damage": None}
    return Labelling("v", "/v", "m", {}, LABELS, top, values.mean(0), values.astype(np.float16), times, "4x1", 0.0, **facts)


def test_neighbouring_windows_of_one_class_are_one_part():
    record = as_record(labelling([[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [0.25, 0.25, 0.5], [0.5, 0.5, 0.0]]))
    assert record["parts"] == [
        {"start": 0.0, "end": 2.0, "label": "left", "score": 0.625},
        {"start": 2.0, "end": 3.0, "label": "up", "score": 0.5},
        {"start": 3.0, "end": 4.5, "label": "left", "score": 0.5},
    ]
    assert record["labels"] == [{"label": "left", "score": 0.5}, {"label": "right", "score": 0.28125}]


def test_files_of_each_video_and_what_was_done_before(vid, place):
    (place / "bad.mp4").write_text("not a video")
    call = ("short.mp4", "long.mp4", "bad.mp4", "--model", "model", "--out", "found", "--write", "csv,html", "--top", "2")
    code, _, err = vid(*call)
    assert code == 4
    assert "bad.mp4: not a readable video: it is text" in err
    assert {path.name for path in (place / "found").iterdir()} == {
        f"{name}.labels.{kind}" for name in ("short", "long") for kind in ("json", "csv", "html")
    }
    with open(place / "found" / "long.labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    record = json.loads((place / "found" / "long.labels.json").read_text())
    assert [row["label"] for row in rows if row["of"] == "video"] == [label["label"] for label in record["labels"]]
    assert len(rows) == 2 * (1 + len(record["windows"]))
    page = (place / "found" / "long.labels.html").read_text()
    assert 'src="../long.mp4"' in page
    assert len(re.findall(r'class="block"', page)) == len(record["parts"])
    assert set(re.findall(r'class="lane-name" title="([^"]*)"', page)) >= {part["label"] for part in record["parts"]}
    assert 'data-noun="part"' in page
    before = {path: path.stat().st_mtime_ns for path in (place / "found").iterdir()}
    assert "2 were done before" in vid(*call)[2]
    assert before == {path: path.stat().st_mtime_ns for path in (place / "found").iterdir()}
    assert "done before" not in vid(*call, "--hop", "0.4")[2]


def test_a_manifest_with_parts_and_a_table(vid, place):
    (place / "parts.csv").write_text("path,start,end,split\nlong.mp4,1,2,test\nlong.mp4,3,6,test\nshort.mp4,,,train\n")
    code, out, _ = vid("parts.csv@test", "--model", "model", "--top", "1", "--crops", "1", "--json", "-q")
    assert code == 0
    assert [record["start_s"] for record in records(out)] == pytest.approx([1.0, 3.0], abs=0.05)
    code, out, _ = vid("short.mp4", "long.mp4", "--model", "model", "--top", "2", "-q")
    lines = out.splitlines()
    assert lines[0].split() == ["video", "when", "label", "score"]
    assert sum(" all " in line for line in lines) == 4
    assert any(" - " in line for line in lines)


def test_what_is_no_classifier_is_said(vid, place):
    assert "no model at 'nowhere'" in vid("short.mp4", "--model", "nowhere")[2]
    save_model(place / "encoder", {"encoder.x": torch.ones(2)}, {"task": "masked", "architecture": {}}, "")
    code, _, err = vid("short.mp4", "--model", "encoder")
    assert code == 2
    assert "not a classifier" in err
