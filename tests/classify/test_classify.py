"""Heads, views and frozen-feature protocols, and from videos to numbers by command."""

import json

import numpy as np
import pytest
import torch
from pinned import same_everywhere
from safetensors.torch import load_file

from tasks.classify.config import FinetuneConfig, HeadConfig
from tasks.classify.heads import HEADS
from tasks.classify.method import Classification
from tasks.classify.model import Classifier
from tasks.classify.similarity import cosine
from tasks.classify.views import collect, model_data
from tasks.core.checkpoint import save_model
from tasks.core.clips.config import ClipConfig, DataConfig
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.core.reporter import Quiet

VIT = VitConfig(size="tiny", dim=32, depth=2, heads=2, image_size=32, frames=4, tubelet=2, patch=8)


@pytest.mark.parametrize("mode", sorted(HEADS))
def test_every_head_runs_forward_and_backward(mode):
    method = Classification(FinetuneConfig(head={"mode": mode}), VIT, 5)
    target = torch.eye(5)[:3]
    losses = method({"video": torch.randn(3, 4, 3, 32, 32), "target": target}, BatchRandom(0, 0, rows=3), Progress(0, 0, 1, 1))
    losses["loss"].backward()
    encoder = [p.grad for p in method.classifier.encoder.parameters()]
    assert all((g is None) == (mode != "finetune") for g in encoder)
    assert all(p.grad is not None for p in method.classifier.head.parameters())


def test_probe_keeps_the_encoder_in_evaluation_mode():
    classifier = Classifier(VIT, 3, HeadConfig(mode="linear", drop_path=0.5)).train()
    assert classifier.head.training
    assert not classifier.encoder.training


def test_loss_is_cross_entropy_with_soft_targets():
    method = Classification(FinetuneConfig(head={"drop_path": 0.0}), VIT, 4).eval()
    video, target = torch.randn(2, 4, 3, 32, 32), torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0]])
    got = method({"video": video, "target": target}, BatchRandom(0, 0, rows=2), Progress(0, 0, 1, 1))["loss"]
    assert torch.allclose(got, torch.nn.functional.cross_entropy(method.classifier(video), target))


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_the_encoder_may_learn_slower_than_the_head(layer_decay):
    config = {"optim": {"layer_decay": layer_decay}, "head": {"drop_path": 0.0}}
    scales = []
    for factor in (1.0, 0.1):
        method = Classification(FinetuneConfig(encoder_lr=factor, **config), VIT, 4)
        names = {id(parameter): name for name, parameter in method.classifier.named_parameters()}
        groups = method.optimizers()["main"].groups
        scales.append({names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]})
    same, slower = scales
    assert same.keys() == slower.keys() == set(names.values())
    assert all(slower[name] == pytest.approx(same[name] * (0.1 if name.startswith("encoder.") else 1)) for name in same)


def test_pinned_losses(float64):
    method = same_everywhere(Classification(FinetuneConfig(head={"drop_path": 0.0, "init_scale": 1.0}), VIT, 4))
    groups = method.optimizers()["main"].groups
    optimizer = torch.optim.AdamW([{"params": g["params"], "lr": 1e-3 * g["lr_scale"], "weight_decay": g["weight_decay"]} for g in groups])
    video, target = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 4, 3, 32, 32))), torch.eye(4)
    losses = []
    for _ in range(4):
        loss = method({"video": video, "target": target}, BatchRandom(0, 0, rows=4), Progress(0, 0, 1, 1))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == pytest.approx(PINNED, rel=1e-8)


PINNED = [1.649095757, 1.499831565, 1.365996046, 1.246197195]


@pytest.mark.parametrize(("clips", "crops"), [(5, 3), (2, 3)])
def test_views_are_averaged_per_video_and_their_order_does_not_matter(clips, crops):
    seen = []

    def forward(views: torch.Tensor, _: list[int]) -> torch.Tensor:
        seen.append(len(views))
        return views.mean((1, 2, 3, 4))[:, None] * torch.tensor([[1.0, 2.0]])

    values = torch.rand(2 * clips)
    video = values.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4)
    uid = torch.arange(2).repeat_interleave(clips)

    def run(order: torch.Tensor):
        names = {"path": [f"v{u}" for u in uid[order]], "skipped": []}
        batch = {"main": "video", "video": video[order], "uid": uid[order], "label": uid[order], **names}
        transform = lambda b: b["video"].repeat_interleave(crops, 0)  # noqa: E731
        return collect(forward, iter([batch]), transform, crops, torch.device("cpu"), lambda: None, Quiet(), 2)

    straight, shuffled = run(torch.arange(2 * clips)), run(torch.randperm(2 * clips))
    assert seen[0] == 2 * clips * crops
    assert straight.values[:, 0] == pytest.approx(values.view(2, clips).mean(1).numpy(), rel=1e-5)
    assert np.allclose(straight.values, shuffled.values, atol=1e-6)
    assert straight.paths == ["v0", "v1"]


@pytest.mark.parametrize("max_clips", [1, 7, 64])
def test_views_go_through_the_network_in_parts(max_clips):
    """A video of five clips and one of two, ten crops each."""
    sizes, values, uid = [], torch.rand(7), torch.tensor([0, 0, 0, 0, 0, 1, 1])
    batch = {
        "main": "video",
        "video": values.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4),
        "size": torch.full((7, 2), 4),
        "uid": uid,
        "label": uid,
    }
    batch |= {"path": [f"v{u}" for u in uid], "skipped": []}

    def forward(views: torch.Tensor, _: list[int]) -> torch.Tensor:
        sizes.append(len(views))
        return views.mean((1, 2, 3, 4))[:, None]

    transform = lambda part: part["video"].repeat_interleave(10, 0)  # noqa: E731
    found = collect(forward, iter([batch]), transform, 10, torch.device("cpu"), lambda: None, Quiet(), 2, max_clips=max_clips)
    assert max(sizes) <= max(10, max_clips)
    assert found.values[:, 0] == pytest.approx([float(values[:5].mean()), float(values[5:].mean())], rel=1e-5)


def test_model_data_takes_over_preprocessing_and_lets_a_stride_win():
    saved = {
        "image_size": 64,
        "frames": 8,
        "sampling": "dense",
        "stride_frames": 2,
        "crop": "center",
        "motion_margin": 1.4,
        "flow": None,
        "short_side": None,
        "stride_s": 0.08,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
    }
    data, augment = model_data(DataConfig(clip={}), saved)
    assert (data.clip.stride_frames, data.clip.frames, data.short_side, augment.mean) == (2, 8, 64, (0, 0, 0))
    assert model_data(DataConfig(clip={}), {**saved, "flow": "dis"})[0].short_side == 128  # flow is computed at twice the size
    assert model_data(DataConfig(clip={}), {**saved, "crop": "motion"})[0].short_side is None  # as in training
    data, _ = model_data(DataConfig(clip=ClipConfig(stride_s=0.5)), saved)
    assert (data.clip.stride_s, data.clip.stride_frames, data.clip.frames) == (0.5, None, 8)


def test_cosine_by_hand():
    gallery, queries = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 6.0]]), np.array([[2.0, 3.0], [4.0, 3.0]])
    assert cosine(queries, gallery, "none")[0] == pytest.approx(np.array([2, -2, 3]) / 13**0.5)
    centred = np.array([[1.0, -2.0], [-1.0, -2.0], [0.0, 4.0]])
    assert cosine(queries, gallery)[0] == pytest.approx([0.0, -4 / 5, 1 / 5**0.5])
    assert cosine(queries, gallery, "own") == pytest.approx(np.array([[-1], [1]]) * centred[:, 0] / np.linalg.norm(centred, axis=1))


def vid(*words: object) -> dict:
    """Runs a command in this process and returns its last JSON line."""
    import contextlib
    import io

    from vidcli.app import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([str(w) for w in words])
    assert code == 0, out.getvalue()
    return json.loads(out.getvalue().splitlines()[-1])


SMALL = (
    "model={size: tiny, dim: 32, depth: 2, heads: 2, image_size: 32, frames: 4, tubelet: 2, patch: 8}",
    "data.clip={frames: 4, stride_frames: 2}",
    "data.short_side=32",
    "data.workers=0",
)


def pretrain(folder, manifest) -> dict:
    """The pretraining of the chain, by command."""
    sets = [word for s in SMALL for word in ("--set", s)]
    return vid(
        "pretrain",
        "--preset",
        "masked/tats-tiny",
        "--data",
        manifest,
        "--out",
        folder / "pre",
        "--epochs",
        2,
        "--visualize",
        1,
        *sets,
        "--set",
        "sampler.warmup_epochs=1",
        "--set",
        "sampler.heads=2",
        "--json",
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A motion set, a pretraining run and a fine-tuning run, made by commands."""
    from tasks.core.data.synthetic import render_motion_set

    folder = tmp_path_factory.mktemp("chain")
    manifest = render_motion_set(folder / "videos", 5, 0, 32, 12)
    pre = pretrain(folder, manifest)
    tuned = vid(
        "finetune",
        "--preset",
        "classify/tiny",
        "--from",
        folder / "pre",
        "--data",
        manifest,
        "--val",
        manifest,
        "--out",
        folder / "ft",
        "--epochs",
        2,
        *[w for s in SMALL[1:] for w in ("--set", s)],
        "--json",
    )
    return folder, manifest, pre, tuned


def test_chain_writes_models_and_pictures(chain):
    folder, _, pre, tuned = chain
    assert (folder / "pre" / "model" / "model.safetensors").exists()
    card = (folder / "pre" / "model" / "README.md").read_text()
    last = [json.loads(line) for line in (folder / "pre" / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"| epochs | {last['epoch']:g} |\n| steps | {last['step']} |" in card  # what ran, not what was set
    assert f"--from {folder / 'pre'} " in card
    assert "frame stride" in card
    assert next((folder / "pre" / "pictures").glob("*.png")).stat().st_size > 1000
    config = json.loads((folder / "ft" / "model" / "config.json").read_text())
    assert config["preprocessing"]["stride_s"] == pytest.approx(2 / 12, abs=1e-3)
    assert config["provenance"]["init"] == str(folder / "pre")
    assert len(config["labels"]) == 10
    assert tuned["views"] == "2x1"
    assert pre["steps"] > 0


def test_eval_repeats_the_finetuned_number(chain):
    folder, manifest, _, tuned = chain
    found = vid("eval", "classify", "--model", folder / "ft", "--data", manifest, "--clips", 2, "--crops", 1, "--json")
    assert {k: found[k] for k in ("top1", "top5", "n", "views")} == {k: tuned[k] for k in ("top1", "top5", "n", "views")}
    assert found["n_skipped"] == 0
    assert found["protocol"] == "finetuned"
    assert found["top5"] >= found["top1"]


@pytest.mark.parametrize("protocol", ["knn", "retrieval"])
def test_frozen_protocols_run_on_a_pretraining_run(chain, protocol):
    folder, manifest, _, _ = chain
    found = vid(
        "eval",
        "classify",
        "--model",
        folder / "pre",
        "--data",
        manifest,
        "--gallery",
        manifest,
        "--protocol",
        protocol,
        "--clips",
        1,
        "--crops",
        1,
        "--json",
    )
    assert found["n"] == 10
    assert 0 <= found["top1" if protocol == "knn" else "r@1"] <= 100


def test_a_probe_on_a_fine_tuned_transformer_does_without_its_final_norm(chain):
    from tasks.classify.finetune import architecture, build
    from tasks.core.towers import load_encoder

    folder, _, _, _ = chain
    config = FinetuneConfig(head={"mode": "linear"}, init=str(folder / "ft"))
    method = build(config, architecture(config), 10)
    video = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(method.classifier.encoder(video), load_encoder(folder / "ft")(video)["tokens"])
    assert architecture(config.model_copy(update={"init": str(folder / "pre")})).final_norm


def test_two_models_average_their_probabilities(chain, tmp_path):
    """The second is the first with its classes in reverse: what is averaged are the same numbers."""
    import csv

    folder, manifest, _, _ = chain
    (tmp_path / "model").mkdir()
    saved = json.loads((folder / "ft/model/config.json").read_text())
    weights = load_file(folder / "ft/model/model.safetensors")
    weights |= {f"head.linear.{name}": weights[f"head.linear.{name}"].flip(0).contiguous() for name in ("weight", "bias")}
    save_model(tmp_path / "turned", weights, {**saved, "labels": saved["labels"][::-1]}, "")
    other = {**weights, "head.linear.bias": torch.linspace(-1, 1, 10)}
    save_model(tmp_path / "other", other, {**saved, "labels": saved["labels"][::-1]}, "")
    scores = {}
    for name, models in {"one": ["ft"], "same": ["ft", "turned"], "other": ["other"], "both": ["ft", "other"]}.items():
        words = [w for m in models for w in ("--model", folder / m if m == "ft" else tmp_path / m)]
        file = tmp_path / f"{name}.csv"
        found = vid("eval", "classify", *words, "--data", manifest, "--clips", 1, "--crops", 1, "--scores", file, "--workers", 0, "--json")
        rows = list(csv.DictReader(file.open()))
        scores[name] = np.array([[float(row[label]) for label in saved["labels"]] for row in rows])
    assert found["model"] == [str(folder / "ft"), str(tmp_path / "other")]
    assert np.allclose(scores["same"], scores["one"], atol=2e-6)
    assert np.allclose(scores["both"], (scores["one"] + scores["other"]) / 2, atol=2e-6)
    assert np.abs(scores["other"] - scores["one"]).max() > 0.05


def test_half_overlapping_windows_and_ten_crops_by_command(chain):
    """24 frames, windows of 4 frames 2 apart: each begins 4 frames after the one before."""
    from tasks.classify.evaluate import load_classifier
    from tasks.core.clips.prepare import view_transform
    from tasks.core.data.manifest import read_sources
    from tasks.core.video.open import open_video

    folder, manifest, _, _ = chain
    words = ("--windows", "half-overlap", "--crops", 10, "--scores", folder / "half.csv", "--batch-size", 4, "--workers", 0)
    found = vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words, "--json")
    assert found["views"] == "half-overlapx10"
    line = (folder / "half.csv").read_text().splitlines()[1].split(",")
    classifier, saved = load_classifier(str(folder / "ft"))
    row = next(row for row in read_sources([str(manifest)], "val") if row.path == line[0])
    with open_video(row.path) as reader:
        starts = [*range(0, reader.n_frames - 7, 4), reader.n_frames - 7]
        clips = torch.stack([torch.from_numpy(reader.get(range(s, s + 7, 2))) for s in dict.fromkeys(starts)]).permute(0, 1, 4, 2, 3)
    views = view_transform({**saved["preprocessing"]}, 10)({"video": clips, "size": torch.full((len(clips), 2), clips.shape[-1])})
    assert len(views) == 10 * len(clips)
    with torch.no_grad():
        expected = classifier(views).softmax(-1).mean(0)
    assert np.allclose([float(v) for v in line[3:]], expected.numpy(), atol=2e-5)


def test_wrong_views_are_said(chain, capsys):
    from vidcli.app import main

    folder, manifest, _, _ = chain
    for words, told in (
        (("--crops", "4"), "expected one of 1, 3, 10"),
        (("--windows", "half-overlp"), "did you mean 'half-overlap'"),
        (("--center", "mine"), "expected one of gallery, own, none"),
        (("--model", str(folder / "pre")), "not a classifier"),
    ):
        assert main(["eval", "classify", "--model", str(folder / "ft"), "--data", str(manifest), *words]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["linear-probe", "attentive-probe"])
def test_probes_leave_the_encoder_as_it_was(chain, mode, tmp_path):
    folder, manifest, _, _ = chain
    vid(
        "finetune",
        "--preset",
        f"classify/{mode}",
        "--from",
        folder / "pre",
        "--data",
        manifest,
        "--val",
        manifest,
        "--out",
        tmp_path / "probe",
        "--epochs",
        1,
        "--batch-size",
        8,
        *[w for s in SMALL[1:] for w in ("--set", s)],
        "--json",
    )
    before, after = load_file(folder / "pre/model/model.safetensors"), load_file(tmp_path / "probe/model/model.safetensors")
    encoder = [k for k in before if k.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(before[k], after[k]) for k in encoder)


def test_the_same_command_again_says_finished_and_gives_the_result(chain):
    folder, manifest, pre, _ = chain
    again = pretrain(folder, manifest)
    assert again == pre


def test_stop_is_asked_as_often_as_the_longest_share_needs():
    asked = []
    numbers = {"uid": torch.tensor([0]), "label": torch.tensor([0])}
    batch = {"main": "video", "video": torch.zeros(1, 2, 3, 4, 4), **numbers, "path": ["v"], "skipped": []}
    forward = lambda views, _: torch.zeros(len(views), 2)  # noqa: E731
    collect(forward, iter([batch]), lambda b: b["video"], 1, torch.device("cpu"), lambda: asked.append(1), Quiet(), 1, rounds=3)
    assert len(asked) == 3


def test_two_processes_fine_tune_and_test_with_unequal_shares(chain, tmp_path):
    """Nine test videos in batches of two: two batches here, three there."""
    import subprocess
    import sys

    folder, manifest, _, _ = chain
    lines = manifest.read_text().splitlines()
    val = [line for line in lines[1:] if line.endswith(",val")][:9]
    short = manifest.with_name("nine.csv")
    short.write_text("\n".join([lines[0], *val]) + "\n")
    sets = [word for s in SMALL[1:] for word in ("--set", s)]
    command = [
        "finetune",
        "--preset",
        "classify/tiny",
        "--from",
        folder / "pre",
        "--data",
        manifest,
        "--val",
        short,
        "--out",
        tmp_path / "two",
    ]
    words = [sys.executable, "-m", "vidcli", *map(str, command), "--epochs", "1", "--batch-size", "2", *sets, "--processes", "2", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["n"] == 9


@pytest.mark.parametrize("protocol", [("finetuned",), ("knn", "--gallery")])
def test_testing_is_shared_by_the_processes_of_a_world(chain, tmp_path, protocol):
    """Two processes with unequal shares give the numbers of one; the main one alone reports."""
    import os
    import subprocess
    import sys

    from worlds import free_port, variables

    folder, manifest, _, _ = chain
    name, *gallery = protocol
    words = ["eval", "classify", "--model", folder / "ft", "--data", manifest, "--protocol", name, *gallery, *([manifest] * len(gallery))]
    words += ["--clips", 2, "--crops", 1, "--json"]
    alone, port = vid(*words), free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "vidcli", *map(str, words)],
            env={**os.environ, **variables(rank, 2, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[1][0] == ""
    found = json.loads(said[0][0])
    assert found.keys() == alone.keys()
    assert {k: v for k, v in found.items() if isinstance(v, float)} == pytest.approx(
        {k: v for k, v in alone.items() if isinstance(v, float)}
    )
    assert found["n"] == alone["n"]


def test_a_query_that_is_in_the_gallery_is_refused():
    from tasks.classify.search import check_apart
    from tasks.core.data.rows import Row
    from tasks.core.errors import InputError

    gallery = [Row("a.mp4"), Row("b.mp4", start_s=0.0, end_s=2.0)]
    check_apart([Row("c.mp4"), Row("b.mp4", start_s=2.0, end_s=4.0)], gallery)
    with pytest.raises(InputError, match=r"1 of the test videos are in the gallery too.*: a\.mp4"):
        check_apart([Row("c.mp4"), Row("a.mp4")], gallery)
