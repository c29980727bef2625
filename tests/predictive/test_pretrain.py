"""Pretraining from videos to a model folder: pinned losses, learning, resuming, two processes, curriculum, what a classifier takes."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import predictive_toys
import pytest
import torch
from killed import run_until_killed
from pinned import same_everywhere
from predictive_toys import clips, config, forward, losses, method
from worlds import train_in_world

from tasks.classify import finetune
from tasks.classify.config import FinetuneConfig
from tasks.core.checkpoint import load_config, load_weights
from tasks.core.clips.augment import TrainTransform
from tasks.core.data.synthetic import render_motion_set
from tasks.core.engine.run import Run, read_metrics
from tasks.core.errors import InputError, Preempted, UsageError
from tasks.core.towers import load_encoder
from tasks.predictive import objective, pretrain
from vidcli import app

EVERY = pytest.mark.parametrize("name", ["dpc", "memdpc"])
PINNED = {"dpc": [3.166274514, 3.176002052, 3.190354225, 3.165016594], "memdpc": [3.197629681, 3.194068954, 3.189008983, 3.191334821]}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Twenty videos of moving shapes, 24 frames at 12 frames per second."""
    return render_motion_set(tmp_path_factory.mktemp("shapes"), 2, 0, size=32, splits={"train": 1.0})


def on_videos(videos: Path, name: str = "dpc", **changes):
    data = {"train": [str(videos)], "short_side": 32, "preload": True, **changes.pop("data", {})}
    return config(name, data=data, model={"image_size": 32, **changes.pop("model", {})}, **changes)


def train(folder: Path, settings) -> dict:
    run = Run.open(folder, settings, "predictive", "pretrain", ["test"])
    try:
        return pretrain.run(settings, run)
    finally:
        run.close()


def logged(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("clips_per_s", "wait_share")} for row in read_metrics(folder / "metrics.jsonl")]


@EVERY
def test_four_pinned_losses(float64, name):
    assert losses(same_everywhere(method(name)), 4) == pytest.approx(PINNED[name], rel=1e-8)


@EVERY
def test_six_clips_are_learnt_by_heart(name):
    trained, video = method(name, model={"width": 16, "predict": 1}, method_settings={}), clips(6)
    optimizer = torch.optim.Adam(trained.optimizers()["main"].groups, lr=2e-3)
    for _ in range(600):  # about 150 suffice; how many exactly differs between processors
        out = forward(trained, video)
        if float(out["loss"].detach()) < 0.25 and float(out["top1"]) > 95:
            break
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert out["loss"] < 0.3
    assert out["top1"] > 95


@EVERY
def test_two_processes_that_share_candidates_are_one_with_the_double_batch(tmp_path, float64, name):
    alone = predictive_toys.train(tmp_path / "one", name, 4)
    train_in_world(2, predictive_toys.__file__, tmp_path / "two", name, 2, "all")
    numbers = ("loss", "top1", "grad_norm")
    for one, two in zip(logged(tmp_path / "one"), logged(tmp_path / "two"), strict=True):
        assert {key: two[key] for key in numbers} == pytest.approx({key: one[key] for key in numbers}, rel=1e-5)  # logged in float32
    expected = alone.accelerator.unwrap_model(alone.model).state_dict()
    for rank in range(2):
        state = torch.load(tmp_path / "two" / f"state-{rank}.pt", weights_only=True)
        for key, tensor in expected.items():
            assert torch.allclose(state[key].double(), tensor.double(), rtol=1e-6, atol=1e-8), key


def test_two_processes_with_candidates_of_their_own_average_two_losses(tmp_path, float64):
    """Norms are shared, so that the features are those of one process; each then compares within its own half."""
    train_in_world(2, predictive_toys.__file__, tmp_path / "two", "dpc", 2, "local")
    torch.manual_seed(0)
    whole = method("dpc", method_settings={"norm": "sync"})
    (direction,) = whole.coder(clips(4, 0))
    halves = []
    for half in (slice(0, 2), slice(2, 4)):
        score = objective.scores(objective.as_rows(direction.predicted[half]), objective.as_rows(direction.target[half]))
        halves.append(float(objective.prediction_loss(score, torch.arange(len(score))).detach()))
    assert logged(tmp_path / "two")[0]["loss"] == pytest.approx(np.mean(halves), rel=1e-5)


@EVERY
def test_ten_steps_are_five_and_five(videos, tmp_path, monkeypatch, name):
    shown = {"visualize": 2} if name == "memdpc" else {}
    settings = on_videos(videos, name, train={"batch_size": 4, "max_steps": 10, "epochs": 5}, **shown)
    result = train(tmp_path / "whole", settings)
    assert result["steps"] == 10
    assert np.isfinite(result["loss"])
    if name == "memdpc":
        for picture in ("memory.svg", "entropy.svg"):
            assert (tmp_path / "whole" / "pictures" / picture).read_text().startswith("<?xml")
        logged_last = logged(tmp_path / "whole")[-1]
        assert 0 <= logged_last["address_entropy"] <= logged_last["memory_entropy"] <= 1
    call, seen = TrainTransform.__call__, []

    def stop_in_the_fifth(self, batch):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(TrainTransform, "__call__", stop_in_the_fifth)
        with pytest.raises(Preempted):
            train(tmp_path / "parts", settings)
    assert len(logged(tmp_path / "parts")) == 5
    train(tmp_path / "parts", settings)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    first, second = (load_weights(tmp_path / part / "model") for part in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.slow
@EVERY
def test_kill_9_is_made_good_bit_for_bit(videos, tmp_path, name):
    line = ["pretrain", "--preset", f"predictive/{name}-tiny", "--data", str(videos), "--batch-size", "4", "--max-steps", "4", "-q"]
    sets = ["data.workers=0", "model.width=4", "train.log_every_steps=1", "train.save_every_steps=1"]
    line += [word for key in sets for word in ("--set", key)]
    assert app.main([*line, "--out", str(tmp_path / "whole")]) == 0
    for step in (1, 3):
        run_until_killed(tmp_path / "run", step, *line, "--out", tmp_path / "run")
    assert app.main([*line, "--out", str(tmp_path / "run")]) == 0
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")
    first, second = (load_weights(tmp_path / run / "model") for run in ("whole", "run"))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_a_curriculum_goes_on_with_encoder_predictor_and_memory(videos, tmp_path):
    settings = on_videos(videos, "memdpc", train={"max_steps": 1})
    train(tmp_path / "first", settings)
    harder = on_videos(videos, "memdpc", model={"predict": 3}, init=str(tmp_path / "first"))
    pretrain.check(harder)
    built, before = pretrain.build(harder).coder.state_dict(), load_weights(tmp_path / "first" / "model")
    assert built.keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in built.items())
    for changes, message in (
        ({"model": {"predict": 3, "width": 8}}, "model.width is 8, there 4"),
        ({"model": {"bidirectional": False}}, "model.bidirectional is False, there True"),
        ({"data": {"preload": False, "flow": {"compute": {"method": "dis"}, "frames": False}}}, "trained on colours"),
    ):
        with pytest.raises(UsageError, match=message):
            pretrain.check(on_videos(videos, "memdpc", init=str(tmp_path / "first"), **changes))


def test_another_method_starts_from_the_encoder_alone(videos, tmp_path):
    train(tmp_path / "dpc", on_videos(videos, "dpc", train={"max_steps": 1}))
    started = pretrain.build(on_videos(videos, "memdpc", model={"bidirectional": False}, init=str(tmp_path / "dpc"))).coder
    before = load_weights(tmp_path / "dpc" / "model")
    assert all(torch.equal(tensor, before[f"encoder.{key}"]) for key, tensor in started.encoder.state_dict().items())
    assert started.memory.shape == (6, 16)


def test_a_classifier_takes_the_encoder_without_the_memory(videos, tmp_path):
    settings = on_videos(videos, "memdpc", train={"max_steps": 2})
    train(tmp_path / "run", settings)
    saved = load_config(tmp_path / "run" / "model")
    assert (saved["task"], saved["method"], saved["architecture"]["predict"]) == ("predictive", "memdpc", 2)
    video = torch.randn(2, 8, 3, 32, 32)
    out = load_encoder(tmp_path / "run")(video)
    assert {name: tuple(tensor.shape) for name, tensor in out.items()} == {
        "tokens": (2, 1, 32),
        "map": (2, 4, 16, 1, 1),
        "context": (2, 16, 1, 1),
        "context_backward": (2, 16, 1, 1),
        "pooled": (2, 32),
    }
    head = {"norm": "batch", "affine": True, "norm_eps": 1e-5, "dropout": 0.5, "init_scale": 1.0}
    tuned = FinetuneConfig(head=head, data={"clip": {"frames": 8, "stride_frames": 1}}, init=str(tmp_path / "run"))
    built = finetune.build(tuned, finetune.architecture(tuned), 5)
    names = built.classifier.state_dict()
    assert not any("memory" in name or "predictor" in name for name in names)
    built.eval()
    torch.testing.assert_close(built.classifier.head.linear(built.classifier.head.norm(out["pooled"])), built.classifier(video))


def test_a_classifier_of_dpc_has_running_statistics_when_it_trains_the_whole_network(videos, tmp_path):
    train(tmp_path / "run", on_videos(videos, "dpc", train={"max_steps": 1}))
    clip = {"clip": {"frames": 8, "stride_frames": 1}}
    for mode, statistics in (("finetune", "running"), ("linear", "batch")):
        tuned = FinetuneConfig(head={"mode": mode}, data=clip, init=str(tmp_path / "run"))
        assert finetune.architecture(tuned).statistics == statistics
        assert finetune.build(tuned, finetune.architecture(tuned), 3).classifier.encoder.config.statistics == statistics


def test_short_videos_are_counted(videos, tmp_path):
    """24 frames at 12 per second; clips of 8 frames, 4 apart, do not fit."""
    long = {"clip": {"frames": 8, "stride_frames": 4}}
    padded = on_videos(videos, short="pad", data=long, train={"max_steps": 1})
    assert train(tmp_path / "padded", padded)["n_skipped"] == 0
    assert logged(tmp_path / "padded")[-1]["skipped"] == 0
    with pytest.raises(InputError, match="none of the"):
        train(tmp_path / "dropped", on_videos(videos, data=long, train={"max_steps": 1}))
    assert "too short for a clip: 24 of 29 frames (short: drop)" in (tmp_path / "dropped" / "skipped.csv").read_text()


def test_flow_of_other_videos_is_refused_before_training(videos, tmp_path):
    other = render_motion_set(tmp_path / "other", 1, 1, size=32, splits={"train": 1.0})
    folder, flow = str(tmp_path / "flow"), {"preload": False}
    assert app.main(["data", "flow", str(other), "-o", folder, "--method", "dis", "--short-side", "32", "--workers", "1", "-q"]) == 0
    settings = on_videos(videos, "memdpc", data={**flow, "flow": {"folder": folder, "frames": False}})
    with pytest.raises(InputError, match=r"is not of these videos: .* no flow of it"):
        pretrain.check(settings)
    pretrain.check(on_videos(other, "memdpc", data={**flow, "flow": {"folder": folder, "frames": False}}))


def test_flow_alone(videos, tmp_path):
    flow = {"preload": False, "flow": {"compute": {"method": "dis", "short_side": 32}, "frames": False}}
    augment = {"crop": "resized", "color": 0.5, "gray": 0.25, "color_per": "frame", "color_flow": True, "flip": 0.5, "flip_u": False}
    settings = on_videos(videos, "memdpc", data=flow, augment=augment, train={"max_steps": 2})
    result = train(tmp_path / "run", settings)
    assert np.isfinite(result["loss"])
    assert load_config(tmp_path / "run" / "model")["preprocessing"]["flow_input"]["frames"] is False


def test_on_the_command_line(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid"])
    given = ["pretrain", "--preset", "predictive/memdpc-tiny", "--data", str(videos), "--out", str(tmp_path / "run")]
    assert app.main([*given, "--batch-size", "2", "--max-steps", "1", "--visualize", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["method"]) == (1, "memdpc")
    assert {file.name for file in Path(result["pictures"]).iterdir()} == {"memory.svg", "entropy.svg"}
    assert app.main([*given, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["blocks"], planned["predicted"], planned["candidates_per_process"]) == (4, 2, 16 * 4 * 2)
    assert app.main([*given, "--plan", "--json"]) == 0
