"""From normal footage to a model folder to scores: one run over all parts, resuming, two processes, the command line."""

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import anomaly_toys
import numpy as np
import pytest
import torch
from worlds import train_in_world

from tasks.anomalies import data, parts, prepare, pretrain
from tasks.anomalies.config import DetectConfig
from tasks.anomalies.learned import LearnedScorer
from tasks.core.checkpoint import load_config, load_weights, save_model
from tasks.core.engine.run import read_metrics
from tasks.core.errors import InputError, Preempted, UsageError, VidError
from tasks.core.video.open import open_video
from vidcli import app


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return anomaly_toys.vit_folder(tmp_path_factory.mktemp("vit") / "vit")


@pytest.fixture(scope="module")
def trained(videos, twins, encoder, tmp_path_factory) -> Path:
    """A run with all three parts."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    anomaly_toys.train(folder, three(videos, twins, encoder))
    return folder


def three(videos: Path, twins: Path, encoder: Path, **changes):
    semantic = {"encoder": str(encoder), "batch_size": 8}
    return anomaly_toys.config(videos, pseudo=str(twins), parts=["appearance", "motion", "semantic"], semantic=semantic, **changes)


def logged(folder: Path, part: str) -> list[dict]:
    rows = read_metrics(folder / part / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("clips_per_s", "wait_share")} for row in rows]


def test_one_run_trains_every_part(trained, encoder):
    result = json.loads((trained / "result.json").read_text())
    assert result["parts"] == ["appearance", "motion", "semantic"]
    assert [result[f"{part}_steps"] for part in result["parts"]] == [6, 6, 6]
    for part in result["parts"]:
        assert len(logged(trained, part)) == 6
        assert not (trained / part / "prepared").exists()
    saved = load_config(trained / "model")
    assert (saved["task"], saved["method"], saved["weights"]) == ("anomalies", "pseudo-anomalies", [0.65, 0.25, 0.1])
    assert saved["pseudo"] == {"p_s": 0.4, "p_t": 0.5, "seed": 0, "settings": {"temporal": {"flow": {"warps": 7}}}}
    assert saved["architecture"]["semantic"]["encoder"]["source"] == encoder.name
    assert (saved["architecture"]["flow"]["short_side"], saved["architecture"]["flow"]["tvl1"]["warps"]) == (32, 7)
    assert saved["preprocessing"]["stride_s"] == pytest.approx(0.04)
    for kept in saved["calibration"].values():
        assert kept["low"] <= kept["mean"] <= kept["high"]
    assert set(saved["calibration"]) == set(result["parts"])
    weights = load_weights(trained / "model")
    assert {name.split(".")[0] for name in weights} == {"appearance", "motion", "semantic", "features"}
    frozen = load_weights(encoder)
    for name, tensor in weights.items():
        if name.startswith("features."):
            assert torch.equal(tensor, frozen[name.replace("features.network.", "encoder.")])


@pytest.mark.parametrize("part", ["appearance", "motion", "semantic"])
def test_ten_steps_are_five_and_five_in_whatever_part_a_run_is_stopped(videos, twins, encoder, trained, tmp_path, monkeypatch, part):
    settings, folder, seen = three(videos, twins, encoder), tmp_path / "run", []
    name = "Discrimination" if part == "semantic" else "Reconstruction"
    forward = getattr(parts, name).forward
    stop_at = {"appearance": 3, "motion": 6 + 3, "semantic": 3}[part]

    def stop_in_the_third(self, *given):
        seen.append(1)
        if len(seen) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(getattr(parts, name), "forward", stop_in_the_third)
        with pytest.raises(Preempted):
            anomaly_toys.train(folder, settings)
    assert len(logged(folder, part)) == 3
    anomaly_toys.train(folder, settings)
    for each in ("appearance", "motion", "semantic"):
        assert logged(folder, each) == logged(trained, each)
    first, second = (load_weights(run / "model") for run in (folder, trained))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_signal_while_flow_is_made_loses_nothing(videos, tmp_path, monkeypatch):
    settings, compute = anomaly_toys.config(videos, parts=["motion"]), prepare.flow_of
    calls = []

    def stop_in_the_second(*given, **more):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(*given, **more)

    monkeypatch.setattr(prepare, "flow_of", stop_in_the_second)
    with pytest.raises(Preempted, match="optical flow"):
        anomaly_toys.train(tmp_path / "run", settings)
    made = sorted((tmp_path / "run" / "motion" / "prepared").iterdir())
    assert len(made) == 1
    before = made[0].stat().st_mtime_ns
    kept = []
    monkeypatch.setattr(parts, "flow_loader", lambda *given: kept.append(made[0].stat().st_mtime_ns) or data.flow_loader(*given))
    anomaly_toys.train(tmp_path / "run", settings)
    assert kept == [before]


def test_progress_counts_what_is_done(videos, twins, encoder, tmp_path, monkeypatch):
    """Only videos with twins are described frame by frame."""
    some = tmp_path / "pseudo"
    shutil.copytree(twins, some)
    (some / "videos.csv").write_text("".join((twins / "videos.csv").read_text().splitlines(keepends=True)[:2]))
    working, told = parts.Session.working, {}

    @contextmanager
    def watched(self, what, frames):
        told[what] = [frames, 0]
        with working(self, what, frames) as tick:
            yield lambda done: (told[what].__setitem__(1, told[what][1] + done), tick(done))

    monkeypatch.setattr(parts.Session, "working", watched)
    settings = anomaly_toys.config(videos, pseudo=str(some), parts=["motion", "semantic"], semantic={"encoder": str(encoder)})
    anomaly_toys.train(tmp_path / "run", settings)
    assert told == {"optical flow": [60, 60], "features": [40, 40], "calibration on normal footage": [60, 60]}


def test_validation_videos_are_looked_at_before_anything_is_trained(videos, tmp_path):
    with pytest.raises(VidError, match="nowhere"):
        pretrain.check(anomaly_toys.config(videos, data={"val": [str(tmp_path / "nowhere")]}))
    anomaly_toys.write_frames(tmp_path / "val" / "short", anomaly_toys.clip(5, 0))
    settings = anomaly_toys.config(videos, parts=["appearance"], data={"val": [str(tmp_path / "val")]})
    with pytest.raises(InputError, match=r"none of the 1 validation videos is usable; .*5 frames, a clip has 8"):
        anomaly_toys.train(tmp_path / "run", settings)
    assert not (tmp_path / "run" / "appearance").exists()
    anomaly_toys.write_frames(tmp_path / "val" / "whole", anomaly_toys.clip(12, 0))
    assert anomaly_toys.train(tmp_path / "run", settings)["n_skipped"] == 1


def test_other_settings_and_other_videos_are_refused_once_a_part_has_begun(videos, twins, encoder, trained):
    with pytest.raises(UsageError, match=r"p_s: 0\.4 -> 0\.3"):
        anomaly_toys.train(trained, three(videos, twins, encoder, p_s=0.3))


def test_two_processes_with_shared_norms_are_one_with_the_double_batch(videos, twins, tmp_path):
    """With `norm: local` each process norms over its own clips, as in the thesis, and the losses differ."""
    anomaly_toys.train(tmp_path / "one", anomaly_toys.config(videos, pseudo=str(twins), model={"norm": "sync"}))
    train_in_world(2, anomaly_toys.__file__, tmp_path / "two", videos, f"pseudo={twins}", "norm=sync", "rows=2")
    for part in ("appearance", "motion"):
        one, two = ([row["loss"] for row in logged(tmp_path / name, part)] for name in ("one", "two"))
        assert len(one) == 6
        assert two == pytest.approx(one, rel=1e-3)  # Adam's first steps enlarge the last bit
    first, second = (load_weights(tmp_path / name / "model") for name in ("one", "two"))
    for name in (name for name in first if name.endswith(".weight")):  # a bias before a norm has no gradient but rounding
        assert torch.allclose(first[name], second[name], rtol=1e-2, atol=1e-3), name


def test_a_detector_scores_every_frame(trained, videos):
    detector = LearnedScorer(str(trained), DetectConfig(device="cpu"))
    assert detector.parts == ("appearance", "motion", "semantic")
    with open_video(videos / "v0") as reader:
        found = detector.score(reader)
        notes = detector.notes(reader)
        assert len(found) == 20
        assert np.array_equal(found.t, reader.pts)
    expected = 0.65 * found.parts["appearance"] + 0.25 * found.parts["motion"] + 0.1 * found.parts["semantic"]
    assert found.score == pytest.approx(expected, abs=1e-6)
    for part in ("appearance", "motion"):
        assert (found.parts[part].min(), found.parts[part].max()) == pytest.approx((0, 1))
    assert ((found.parts["semantic"] > 0) & (found.parts["semantic"] < 1)).all()
    assert found.heat.shape == (20, 16, 16)
    assert found.heat.dtype == np.uint8
    assert detector.threshold == 0.5
    assert any("first 4 and last 3 frames" in note for note in notes)
    assert any("relative to this video" in note for note in notes)


@pytest.mark.parametrize("name", ["foo", "cuda:99"])
def test_devices_that_are_not_there(trained, name):
    with pytest.raises(UsageError, match=f"cannot use device '{name}'"):
        LearnedScorer(str(trained), DetectConfig(device=name))


def test_ways_to_score(trained, videos):
    given = {"edges": "drop", "fusion": "standard", "weights": (0.0, 1.0, 0.0), "threshold": 2.0, "device": "cpu"}
    plain = LearnedScorer(str(trained), DetectConfig(**given))
    smooth = LearnedScorer(str(trained), DetectConfig(smoothing_s=0.1, **given))
    with open_video(videos / "v1") as reader:
        found, softer = plain.score(reader), smooth.score(reader)
        part = plain.score(reader, start_s=0.2)
    assert found.frame.tolist() == list(range(4, 17))
    assert np.array_equal(found.score, found.parts["motion"])
    assert np.abs(np.diff(softer.score)).sum() < np.abs(np.diff(found.score)).sum()
    assert np.array_equal(softer.parts["motion"], found.parts["motion"])
    assert part.frame.tolist() == list(range(9, 17))
    assert part.score == pytest.approx(found.score[5:], rel=1e-3, abs=1e-3)
    assert plain.threshold == 2.0
    normal = plain.calibration["motion"]
    with open_video(videos / "v0") as reader:  # calibrated on these very videos
        again = np.concatenate([plain.score(reader).score])
    assert normal.low >= 0
    assert abs(again.mean()) < 3


def test_a_model_of_one_part(videos, tmp_path):
    anomaly_toys.train(tmp_path / "run", anomaly_toys.config(videos, parts=["appearance"]))
    saved = load_config(tmp_path / "run" / "model")
    assert (saved["method"], saved["pseudo"], saved["architecture"]["parts"]) == ("reconstruction", None, ["appearance"])
    detector = LearnedScorer(str(tmp_path / "run"), DetectConfig(device="cpu"))
    with open_video(videos / "v0") as reader:
        found = detector.score(reader)
    assert np.array_equal(found.score, found.parts["appearance"])
    with pytest.raises(UsageError, match="weights leave nothing"):
        LearnedScorer(str(tmp_path / "run"), DetectConfig(weights=(0, 1, 0)))
    further = anomaly_toys.config(videos, init=str(tmp_path / "run"))
    start = parts.build(further, "appearance").autoencoder.state_dict()
    assert all(torch.equal(start[k.removeprefix("appearance.")], v) for k, v in load_weights(tmp_path / "run" / "model").items())
    with pytest.raises(UsageError, match="of this size"):
        pretrain.check(anomaly_toys.config(videos, init=str(tmp_path / "run"), model={"width": 0.1}))


def test_models_of_other_tasks_are_refused(tmp_path):
    save_model(tmp_path / "model", {}, {"task": "masked", "architecture": {}}, "")
    with pytest.raises(UsageError, match="not an anomaly model"):
        LearnedScorer(str(tmp_path / "model"), DetectConfig())


def test_the_semantic_part_is_left_out_where_something_lacks(videos, twins, encoder):
    assert parts.parts_of_run(three(videos, twins, encoder)) == ["appearance", "motion", "semantic"]
    assert parts.parts_of_run(anomaly_toys.config(videos, parts=["semantic", "motion"], pseudo=str(twins))) == ["motion"]
    with pytest.raises(UsageError, match="needs an encoder"):
        pretrain.check(anomaly_toys.config(videos, parts=["semantic"]))


@pytest.mark.parametrize("name", ["ped2", "avenue", "shanghaitech", "ubnormal"])
def test_presets_of_the_thesis(name, videos, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid"])
    given = ["pretrain", "--preset", f"anomalies/{name}", "--data", str(videos), "--dry-run", "--json"]
    assert app.main(given) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["parameters"] == 5_991_171
    assert plan["appearance_items"] == 3 * (20 - 15)
    assert plan["appearance_batch"] == 24
    assert plan["parts"] == ["appearance", "motion"]


def test_on_the_command_line(videos, twins, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid"])
    given = ["pretrain", "--preset", "anomalies/tiny", "--data", str(videos), "--out", str(tmp_path / "run"), "--json"]
    small = ["--batch-size", "2", "--max-steps", "1", "--set", "model.image_size=32", "--set", f"pseudo={twins}"]
    assert app.main([*given, *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["appearance_steps"], result["motion_steps"]) == (1, 1)
    assert app.main([*given, *small]) == 0  # finished: says so
    assert json.loads(capsys.readouterr().out) == result
