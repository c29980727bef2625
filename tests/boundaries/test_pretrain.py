"""Pretraining from videos to a model folder: sampling, augmentation, pinned losses, resuming, two processes, learning."""

import itertools
import json
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pretrain_helpers
import pytest
import torch
from pinned import same_everywhere
from pretrain_helpers import ENCODER, config, losses, method
from worlds import train_in_world

from tasks.boundaries import pretrain
from tasks.boundaries.config import ContrastConfig
from tasks.boundaries.data import PretrainViews, TuplePicker
from tasks.boundaries.weights import load_encoder
from tasks.core.checkpoint import load_config, load_weights
from tasks.core.clips.clips import ClipSampler
from tasks.core.clips.loader import make_train_loader
from tasks.core.data.manifest import Row, read_sources
from tasks.core.data.synthetic import render_motion_set
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run, read_metrics
from tasks.core.errors import Preempted, UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.resnet_tsm import MotionResNet
from vidcli import app

SMALL = config(model={**ENCODER, "image_size": 32})
FOUR = ("inter", "intra", "segment", "order")
NUMBERS = ("loss", "grad_norm", *FOUR)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Twenty videos of moving shapes, 24 frames at 12 frames per second."""
    return render_motion_set(tmp_path_factory.mktemp("shapes"), 2, 0, size=32, splits={"train": 1.0})


def on_videos(videos: Path, **changes):
    data = {"train": [str(videos)], "clip": {"frames": 2, "stride_frames": 2}, "short_side": 32, "preload": True, "workers": 0}
    return config(**{"data": data, "model": {**ENCODER, "image_size": 32}, **changes})


def draws(picker: TuplePicker, pts: np.ndarray, row: Row, count: int = 200) -> np.ndarray:
    return np.concatenate([picker(pts, np.random.default_rng(seed), row).frames for seed in range(count)])


def test_a_tuple_has_one_ordered_clip_per_segment_and_a_frame_of_every_third():
    pts = np.arange(90) / 30
    found = draws(TuplePicker(3, ClipSampler(4, stride_frames=2)), pts, Row("video.mp4"))
    clips, frames = found[:, :24].reshape(-1, 2, 3, 4), found[:, 24:]
    assert (np.diff(clips) == 2).all()
    assert (clips // 30 == np.arange(3)[:, None]).all()
    starts = clips[..., 0] % 30
    assert starts.min() == 0
    assert starts.max() == 30 - 7
    assert abs(np.corrcoef(starts[:, 0, 0], starts[:, 1, 0])[0, 1]) < 0.2  # anchor and positive do not know of each other
    assert (np.sort(frames // 30) == np.arange(3)).all()
    assert set(frames[:, 0] // 30) == {0, 1, 2}


def test_a_row_may_name_a_part_and_a_short_video_is_enough():
    pts = np.arange(90) / 30
    part = draws(TuplePicker(3, ClipSampler(4)), pts, Row("video.mp4", start_s=1.0, end_s=2.0), 20)
    assert part.min() >= 30
    assert part.max() < 60
    assert draws(TuplePicker(3, ClipSampler(4)), pts[:2], Row("video.mp4"), 20).max() == 1
    assert draws(TuplePicker(3, ClipSampler(4)), pts[:1], Row("video.mp4"), 2).shape == (2, 27)


def test_a_stride_in_seconds_keeps_its_speed():
    pts = np.sort(np.concatenate([np.arange(45) / 15, np.arange(45) / 15 + 0.01]))  # frames come in pairs
    clips = draws(TuplePicker(3, ClipSampler(3, stride_s=0.2)), pts, Row("video.mp4"), 20)[:, :18].reshape(-1, 3)
    assert np.abs(np.diff(pts[clips]) - 0.2).max() < 0.04


def test_vanilla_vclr_takes_frames():
    plain = config(contrast={"clip_tasks": False}, model={**ENCODER, "motion": None, "shift": False})
    assert draws(TuplePicker.from_config(plain), np.arange(90) / 30, Row("video.mp4"), 2).shape == (2, 9)


def still_batch(rows: int = 3) -> dict:
    """Videos of one picture each."""
    pictures = torch.randint(0, 256, (rows, 1, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([[40, 48]] * rows)
    numbers = torch.arange(rows)
    return {"main": "video", "video": pictures.expand(-1, 15, -1, -1, -1), "size": size, "seed": numbers + 5, "uid": numbers}


def test_every_clip_and_frame_is_augmented_by_itself_and_within_a_clip_alike():
    views = PretrainViews(SMALL)(still_batch(), torch.device("cpu"))
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "frames": (3, 4, 3, 32, 32),
        "anchor": (3, 3, 2, 3, 32, 32),
        "positive": (3, 3, 2, 3, 32, 32),
        "uid": (3,),
    }
    for row in range(3):
        clips = torch.cat([views["anchor"][row], views["positive"][row]])
        assert torch.equal(clips[:, 0], clips[:, 1])
        pictures = [*clips[:, 0], *views["frames"][row]]
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(pictures, 2))
    free = PretrainViews(SMALL.model_copy(update={"contrast": ContrastConfig(consistent_augment=False)}))(
        still_batch(), torch.device("cpu")
    )
    assert free["anchor"].shape == views["anchor"].shape
    assert not torch.equal(free["anchor"][:, :, 0], free["anchor"][:, :, 1])


def test_a_row_is_augmented_alike_in_every_batch():
    make, whole = PretrainViews(SMALL), still_batch()
    alone = make({name: value if name == "main" else value[1:2] for name, value in whole.items()}, torch.device("cpu"))
    together = make(whole, torch.device("cpu"))
    assert all(torch.equal(view[0], together[name][1]) for name, view in alone.items())


def test_four_pinned_losses(float64):
    pinned = same_everywhere(method())
    pinned.copy_to_keys()
    assert [row["loss"] for row in losses(pinned, 4)] == pytest.approx([2.746709885, 6.389331899, 6.525841165, 7.527502451], rel=1e-8)


@pytest.mark.parametrize("changes", [{}, {"contrast": {"intra": "pairwise"}}, {"contrast": {"norm": "sync"}}])
def test_forward_and_backward_of_the_variants(changes):
    (found,) = losses(method(**changes), 1)
    assert all(np.isfinite(value) for value in found.values())


def test_all_four_losses_fall_on_moving_shapes(videos):
    """Eight videos learnt by heart; intra (one of three) and order (one of four) get better than guessing."""
    settings = on_videos(
        videos,
        contrast={"queue": 24, "dim": 16},
        augment={"crop": "resized", "scale": (0.6, 1.0), "color": 0.2},
    )
    rows = read_sources(settings.data.train, "train")[:8]
    trained, views = method(contrast={"queue": 24, "dim": 16}), PretrainViews(settings)
    optimizer = torch.optim.Adam(trained.optimizers()["main"].groups, lr=3e-3)
    loader = make_train_loader(rows, settings.data, None, 8, picker=TuplePicker.from_config(settings))
    logs = []
    for step, batch in enumerate(itertools.islice(loader, 160)):
        out = trained(views(batch, torch.device("cpu")), BatchRandom(0, step, rows=8), Progress(step, step, 1, 160))
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        logs.append([float(out[name]) for name in FOUR])
    early, late = (dict(zip(FOUR, np.array(part).mean(0), strict=True)) for part in (logs[10:30], logs[-20:]))
    assert late["inter"] < early["inter"] / 2
    assert late["segment"] < early["segment"] / 2
    assert late["intra"] < min(early["intra"], math.log(3) - 0.03)
    assert late["order"] < min(early["order"], math.log(4) - 0.05)


def logged(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("clips_per_s", "wait_share")} for row in read_metrics(folder / "metrics.jsonl")]


def train(folder: Path, settings) -> dict:
    run = Run.open(folder, settings, "boundaries", "pretrain", ["test"])
    try:
        return pretrain.run(settings, run)
    finally:
        run.close()


def test_ten_steps_are_five_and_five(videos, tmp_path, monkeypatch):
    settings = on_videos(videos, train={"batch_size": 4, "max_steps": 10, "epochs": 5}, visualize=1)
    result = train(tmp_path / "whole", settings)
    assert result["steps"] == 10
    assert all(np.isfinite(result[name]) for name in FOUR)
    assert [path.name for path in (tmp_path / "whole" / "pictures").iterdir()] == ["clip-0.png"]
    call, seen = PretrainViews.__call__, []

    def stop_in_the_fifth(self, batch, device):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, batch, device)

    with monkeypatch.context() as patched:
        patched.setattr(PretrainViews, "__call__", stop_in_the_fifth)
        with pytest.raises(Preempted):
            train(tmp_path / "parts", settings)
    assert len(logged(tmp_path / "parts")) == 5
    train(tmp_path / "parts", settings)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    first, second = (load_weights(tmp_path / name / "model") for name in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def in_two_processes(folder: Path, *given: str) -> list[dict[str, torch.Tensor]]:
    train_in_world(2, pretrain_helpers.__file__, folder, *given)
    return [torch.load(folder / f"state-{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_with_shared_norms_are_one_with_the_double_batch(tmp_path, float64):
    alone = pretrain_helpers.train(tmp_path / "one", "sync", rows=4)
    states = in_two_processes(tmp_path / "two", "norm=sync", "rows=2")
    for one, two in zip(logged(tmp_path / "one"), logged(tmp_path / "two"), strict=True):
        assert {name: two[name] for name in NUMBERS} == pytest.approx({name: one[name] for name in NUMBERS}, rel=1e-6), one[
            "step"
        ]  # logged in float32
    expected = alone.accelerator.unwrap_model(alone.model).state_dict()
    for name, tensor in expected.items():
        for state in states:
            assert torch.allclose(state[name].double(), tensor.double(), rtol=1e-9, atol=1e-10), name


def test_two_processes_with_their_own_norms_share_queues_and_shuffle_keys(tmp_path):
    """With one row less on the first process, as an unreadable video leaves it."""
    first, second = in_two_processes(tmp_path / "run", "norm=local", "rows=2", "uneven=yes")
    for name in ("frame_queue.keys", "frame_queue.videos", "segment_queue.keys", "segment_queue.next"):
        assert torch.equal(first[name], second[name]), name
    assert first["segment_queue.next"] == 4 * 3 % 12
    assert first["segment_queue.videos"].tolist() == [1, 2, 3] * 4  # video 0 could not be read
    for state, rows in ((first, 3), (second, 4)):
        assert torch.equal(state["echo"], state["own"])
        assert len(state["saw"]) in (3, 4)
        assert len(state["own"]) == rows
    assert {int(v) for v in first["saw"]} | {int(v) for v in second["saw"]} == {0, 1, 2, 10, 11, 12, 13}
    assert any(int(v) >= 10 for v in first["saw"])


def test_a_model_folder_starts_the_next_run(videos, tmp_path):
    settings = on_videos(videos, train={"batch_size": 4, "max_steps": 1}, visualize=0)
    train(tmp_path / "run", settings)
    saved = load_config(tmp_path / "run" / "model")
    assert (saved["task"], saved["method"], saved["architecture"]["motion"]["patch"]) == ("boundaries", "cvclr", 3)
    assert saved["preprocessing"]["stride_s"] == pytest.approx(2 / 12, rel=0.01)
    again = pretrain.build(settings.model_copy(update={"init": str(tmp_path / "run")}))
    alone = MotionResNet(ResNetConfig(**saved["architecture"]))
    assert load_encoder(alone, str(tmp_path / "run")) == {}
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, again.encoder.state_dict()[name])
        assert torch.equal(tensor, again.key_encoder.state_dict()[name])
    with pytest.raises(UsageError, match="width 8"):
        pretrain.check(settings.model_copy(update={"init": str(tmp_path / "run"), "model": ResNetConfig(size="resnet18", width=16)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrast": {"clip_tasks": False}}, "nothing trains TSM"),
        ({"augment": {"mixup": 0.5}}, "mix labels"),
        ({"augment": {"time_reverse": 0.5}}, "backwards"),
    ],
)
def test_settings_that_make_no_sense_are_refused(videos, changes, message):
    with pytest.raises(UsageError, match=message):
        pretrain.check(on_videos(videos, **changes))


def test_on_the_command_line(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid"])
    given = ["pretrain", "--preset", "boundaries/cvclr-tiny", "--data", str(videos), "--out", str(tmp_path / "run")]
    small = ["--batch-size", "2", "--max-steps", "1", "--visualize", "0", "--json"]
    assert app.main([*given, *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 1
    assert set(FOUR) < set(result)
    assert app.main([*given, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames_per_clip"] == 2
