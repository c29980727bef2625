"""The page of a training run, from the files of its folder."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.core.data.synthetic import render_motion_set
from tasks.core.engine.samples import SAMPLES, drawing_first
from tasks.core.report import training
from tasks.core.report.strips import tile


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "mine"
    (run / "pictures").mkdir(parents=True)
    facts = {"task": "classify", "verb": "finetune", "preset": "classify/tiny", "argv": ["vid", "finetune", "--data", "a b.csv"], "seed": 3}
    (run / "run.json").write_text(json.dumps(facts))
    (run / "result.json").write_text(json.dumps({"run": str(run), "top1": 43.21, "views": "5x3"}))
    (run / "config.yaml").write_text("task: classify\ntrain: {epochs: 3}\n")
    lines = [{"kind": "train", "step": n, "total": 3, "loss": 2.0 / n, "grad_norm": 1.0, "lr": 0.1, "skipped": 1} for n in (1, 2, 3)]
    lines.append({"kind": "eval", "step": 3, "top1": 43.21, "n": 3})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "confusion.csv").write_text("label,wave<b>,walk\nwave<b>,1,1\nwalk,0,1\n")
    (run / "skipped.csv").write_text("path,reason\nbroken.mp4,empty file (0 bytes)\n")
    render_motion_set(tmp_path / "set", 1, seed=0, frames=8, size=32, splits={"train": 1.0})
    videos = sorted((tmp_path / "set").rglob("*.mp4"))[:2]
    table = [(videos[0], "wave<b>", "wave<b>", 0.9, 0.1), (videos[1], "wave<b>", "walk", 0.2, 0.8), ("gone.mp4", "walk", "walk", 0.4, 0.6)]
    rows = "".join(",".join(map(str, row)) + "\n" for row in table)
    (run / "predictions.csv").write_text(f"path,label,predicted,wave<b>,walk\n{rows}")
    (run / "pictures" / "0.png").write_bytes(tile([("frames", np.zeros((2, 8, 8, 3), np.uint8))]))
    return run


def test_the_page_shows_what_the_run_left(folder):
    html = training.write_report(folder).read_text()
    for text in ("43.21", "vid finetune --data &#x27;a b.csv&#x27;", "epochs: 3", "broken.mp4", "wave&lt;b&gt;, taken for walk (0.20)"):
        assert text in html, text
    assert "<b>" not in html
    assert html.count("data:image/svg") == 5  # losses, evaluations, gradient norm, learning rate, confusion
    assert html.count("data:image/jpeg") == 2  # of the three hardest, two can be read
    assert html.count("data:image/png") == 1
    assert "gone.mp4" in html


def test_the_hardest_come_first_by_the_probability_of_their_own_class(folder):
    assert [item[3] for item in training.hardest(folder / "predictions.csv")] == [0.2, 0.6, 0.9]
    assert len(training.hardest(folder / "predictions.csv", 2)) == 2


def test_parts_of_a_run_have_curves_of_their_own(tmp_path):
    for part in ("frames", "flow"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1.0}\n')
    logs = training.logs_of(tmp_path)
    assert list(logs) == ["flow", "frames"]
    ((drawing, _),) = training.loss_figures(logs)
    assert "<svg" in drawing
    assert training.other_figures(logs) == []


def test_a_folder_with_next_to_nothing_still_gives_a_page(tmp_path):
    assert "<h1>" in training.write_report(tmp_path).read_text()


def test_the_first_clips_of_a_run_are_drawn_once_as_they_were_shown(tmp_path):
    augment = SimpleNamespace(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    video = torch.rand(6, 2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    shown = (video - torch.tensor(augment.mean).view(3, 1, 1)) / torch.tensor(augment.std).view(3, 1, 1)
    batches = iter([{"target": torch.zeros(2)}, {"video": shown[:0]}, {"video": shown}, {"video": shown * 0}])
    prepare = drawing_first(lambda batch, device: next(batches), tmp_path, SimpleNamespace(augment=augment))
    for seen in (False, False, True, True):
        prepare({}, torch.device("cpu"))
        assert (tmp_path / SAMPLES).exists() == seen
    picture = np.asarray(Image.open(tmp_path / SAMPLES).convert("RGB"))
    first = (video[0, 0].permute(1, 2, 0) * 255).round().byte().numpy()
    found = [x for x in range(picture.shape[1] - 96) if (picture[8 : 8 + 96, x : x + 96] == first).all()]
    assert len(found) == 1  # the clip as it was, before it was normalised
    assert picture.shape[0] > 4 * 96
    nothing = drawing_first(lambda batch, device: {"video": shown}, tmp_path / "other", SimpleNamespace())
    nothing({}, torch.device("cpu"))
    assert not (tmp_path / "other").exists()
