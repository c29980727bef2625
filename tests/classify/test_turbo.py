"""Fine-tuning with token dropout, from the objective to the commands."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from pinned import same_everywhere
from safetensors.torch import load_file
from test_classify import vid

from tasks.classify.config import EvalConfig, FinetuneConfig
from tasks.classify.finetune import architecture, build
from tasks.classify.method import Classification
from tasks.classify.predict import load
from tasks.classify.turbo import check
from tasks.core.engine.config import TrainConfig
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.workload import count_workload
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.registry import example
from vidcli.resolve import Given, resolve

VIT = VitConfig(size="tiny", dim=32, depth=2, heads=2, image_size=32, frames=4, tubelet=2, patch=8)
TURBO = {"mask": 0.75, "reconstruct": 0.25, "decoder": {"dim": 16, "depth": 1, "heads": 1}}
START = Progress(0, 0, 1, 1)


def config(turbo: dict | None = TURBO, pool: str = "cls", **settings) -> FinetuneConfig:
    return FinetuneConfig(head={"drop_path": 0.0, "pool": pool}, turbo=turbo, **{"model": VIT, **settings})


def method(given: FinetuneConfig, classes: int = 4) -> Classification:
    return build(given, architecture(given), classes)


def batch(n: int = 4, classes: int = 4) -> dict[str, torch.Tensor]:
    draws = np.random.default_rng(1)
    video = torch.from_numpy(draws.standard_normal((n, 4, 3, 32, 32))).to(torch.get_default_dtype())
    return {"video": video, "target": torch.eye(classes)[torch.arange(n) % classes]}


def step(trained: Classification, at: int = 0, given: dict | None = None) -> dict[str, torch.Tensor]:
    given = given or batch()
    return trained(given, BatchRandom(0, at, rows=len(given["video"])), START)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_no_share_hidden_is_ordinary_fine_tuning_bit_for_bit(pool):
    plain, turbo = method(config(None, pool)), method(config({**TURBO, "mask": 0.0, "reconstruct": 0.0}, pool))
    assert type(turbo) is type(plain) is Classification
    first, second = step(plain), step(turbo)
    assert torch.equal(first["loss"], second["loss"])
    for losses in (first, second):
        losses["loss"].backward()
    for a, b in zip(plain.named_parameters(), turbo.named_parameters(), strict=True):
        assert a[0] == b[0]
        assert torch.equal(a[1].grad, b[1].grad)


@pytest.mark.parametrize("pattern", ["random", "tube"])
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_every_weight_learns(pool, pattern):
    trained = method(config({**TURBO, "pattern": pattern}, pool))
    losses = step(trained)
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())
    assert losses["loss"].item() == pytest.approx(losses["task_loss"].item() / math.log(4) + losses["reconstruction"].item(), rel=1e-6)


def test_the_task_begins_at_one():
    assert step(method(config()))["task_loss"].item() / math.log(4) == pytest.approx(1, abs=0.01)


def test_the_decoder_learns_at_the_rate_of_the_head():
    trained = method(config(optim={"layer_decay": 0.5}, encoder_lr=0.1))
    scales = {id(p): group["lr_scale"] for group in trained.optimizers()["main"].groups for p in group["params"]}
    assert len(scales) == len(list(trained.parameters()))
    assert {scales[id(p)] for p in (*trained.dropout.parameters(), *trained.classifier.head.parameters())} == {1.0}
    assert scales[id(trained.classifier.encoder.embed.weight)] == pytest.approx(0.1 * 0.5**3)
    decays = {id(p): group["weight_decay"] for group in trained.optimizers()["main"].groups for p in group["params"]}
    assert decays[id(trained.classifier.encoder.cls_token)] == decays[id(trained.dropout.decoder.mask_token)] == 0


def test_pinned_losses(float64):
    trained = same_everywhere(method(config()))
    groups = trained.optimizers()["main"].groups
    optimizer = torch.optim.AdamW([{"params": g["params"], "lr": 1e-3 * g["lr_scale"], "weight_decay": g["weight_decay"]} for g in groups])
    found = []
    for at in range(4):
        losses = step(trained, at)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(losses["loss"].item())
    assert found == pytest.approx(PINNED, rel=1e-8)


PINNED = [2.098531808359, 2.163463570263, 2.027502489513, 2.220152877726]


def moving_shapes() -> dict[str, torch.Tensor]:
    """16 clips of 4 classes: a square that moves to one of four sides, from four places."""
    clips, size = torch.full((16, 4, 3, 32, 32), -1.0), 8
    for number in range(16):
        dy, dx = ((0, 5), (0, -5), (5, 0), (-5, 0))[number % 4]
        y, x = 12 + 4 * (number // 8) - 2, 12 + 4 * (number // 4 % 2) - 2
        for frame in range(4):
            top, left = (min(max(0, round(at + (frame - 1.5) * d)), 32 - size) for at, d in ((y, dy), (x, dx)))
            clips[number, frame, :, top : top + size, left : left + size] = 1.0
    return {"video": clips, "target": torch.eye(4)[torch.arange(16) % 4]}


def test_sixteen_clips_are_learned_by_heart_and_all_tokens_see_at_least_as_much():
    given = config(
        {**TURBO, "decoder": {"dim": 32, "depth": 1, "heads": 2}},
        pool="mean",
        model={**VIT.model_dump(), "dim": 48, "pos": "sincos3d", "pos_scale": 3.0, "start": "local", "patch": 4},
    )
    trained, clips = method(given).train(), moving_shapes()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3, weight_decay=0.0)
    for at in range(120):
        step(trained, at, clips)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    trained.eval()
    truth = clips["target"].argmax(-1)

    def top1(index: torch.Tensor | None = None) -> float:
        with torch.no_grad():
            return (trained.classifier(clips["video"], index).argmax(-1) == truth).float().mean().item()

    shares = [top1(trained.dropout.draw(16, BatchRandom(1, at, rows=16)).visible) for at in range(20)]
    assert top1() == 1.0
    assert top1() >= sum(shares) / len(shares) > 0.8


WIDE = {"model.size": "base", "model.dim": "null", "model.heads": "null", "model.image_size": 224}
WIDE |= {"model.patch": 16, "model.pos_scale": 1.0}


@cache
def workload(frames: int, m: float, r: float):
    sets = {
        **WIDE,
        "model.depth": 12,
        "model.frames": frames,
        "data.clip.frames": frames,
        "train.batch_size": 1,
        "turbo.decoder.dim": 384,
    }
    sets |= {"turbo.decoder.depth": 4, "turbo.decoder.heads": 6, "turbo.mask": m, "turbo.reconstruct": r}
    words = [f"{key}={value}" for key, value in sets.items()]
    resolved = resolve(Given("classify/tiny-scratch", (), {}, ["data.train=[unused]", "head.pool=cls", *words]), "finetune")
    with torch.device("meta"):
        made = example("classify", "finetune")(resolved.config, 101)
    return count_workload(made, TrainConfig(batch_size=1), mixed=True)


def memory(work) -> int:
    """Of a clip, beside weights."""
    return sum(work.held.values()) + work.temporary + work.batch


def test_operations_and_memory_fall_with_the_mask():
    """At full size, counted without computing."""
    found = [workload(16, m, r) for m, r in ((0, 0), (0.5, 0.5), (0.75, 0.75), (0.75, 0.25), (0.9, 0.9), (0.9, 0.1))]
    assert [work.training for work in found] == sorted((work.training for work in found), reverse=True)
    held = [memory(work) for work in found]
    assert held == sorted(held, reverse=True)


def test_four_times_the_frames_take_the_same_memory_at_as_many_visible_tokens():
    short, long = workload(16, 0.5, 0.5), workload(64, 0.875, 0.125)
    assert sum(long.held.values()) == pytest.approx(sum(short.held.values()), rel=0.05)
    assert memory(long) == pytest.approx(memory(short), rel=0.15)


def test_what_does_not_go_together_is_said_before_training():
    for settings, told in (
        ({"head": {"mode": "linear"}}, "a linear probe freezes it"),
        ({"augment": {"mixup": 0.8}}, "set augment.mixup and augment.cutmix to 0"),
        ({"turbo": {"mask": 0.5, "reconstruct": 0.7}}, "must be at most mask"),
    ):
        with pytest.raises(ValueError, match=told):
            FinetuneConfig(**{"model": VIT, "turbo": TURBO, **settings})
    with pytest.raises(ValueError, match="keep is for classifiers"):
        EvalConfig(model=("m",), protocol="knn", keep=0.5)
    FinetuneConfig(model=VIT, turbo={"mask": 0.0}, augment={"mixup": 0.8})
    s3d = FinetuneConfig(model={"family": "s3d"}, turbo=TURBO)
    with pytest.raises(UsageError, match="needs an encoder of tokens; one of the family 's3d' has none"):
        check(s3d, s3d.model)


SMALL = (
    "model={size: tiny, dim: 32, depth: 2, heads: 2, image_size: 32, frames: 4, tubelet: 2, patch: 8}",
    "data.clip={frames: 4, stride_frames: 2}",
    "data.short_side=32",
    "data.workers=0",
    "turbo.decoder={dim: 16, depth: 1, heads: 1}",
)


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A motion set, a pretrained encoder without a class token, and a classifier made of it with token dropout."""
    from tasks.core.data.synthetic import render_motion_set

    folder = tmp_path_factory.mktemp("turbo")
    manifest = render_motion_set(folder / "videos", 2, 0, 32, 16, splits={"train": 0.5, "val": 0.5})
    pre = ("--preset", "masked/tats-tiny", "--data", manifest, "--epochs", 1, "--visualize", 0, "--set", "sampler.heads=2")
    vid("pretrain", *pre, "--out", folder / "pre", *words(*SMALL[:4]), "--json")
    tune = ("finetune", "--preset", "classify/turbo-tiny", "--from", folder / "pre", "--data", manifest, "--val", manifest, "--epochs", 2)
    result = vid(*tune, "--out", folder / "ft", *words(*SMALL[1:]), "--json")
    return folder, manifest, tune, result


def test_the_published_model_has_a_class_token_and_no_decoder(place):
    folder, _, _, result = place
    names = load_file(folder / "ft" / "model" / "model.safetensors")
    saved = json.loads((folder / "ft" / "model" / "config.json").read_text())
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    assert "encoder.cls_token" in names
    assert (saved["architecture"]["class_token"], saved["head"]["pool"], saved["turbo"]["mask"]) == (True, "cls", 0.75)
    assert "token dropout" in (folder / "ft" / "model" / "README.md").read_text()
    rows = [json.loads(line) for line in (folder / "ft" / "metrics.jsonl").read_text().splitlines()]
    assert all({"reconstruction", "task_loss", "loss"} <= row.keys() for row in rows if row["kind"] == "train")
    assert result["n"] == 10


def test_testing_sees_all_tokens_or_a_seeded_share(place):
    folder, manifest, _, result = place
    test = ("eval", "classify", "--model", folder / "ft", "--data", manifest, "--clips", 2, "--crops", 1, "--json")
    whole = vid(*test)
    assert "keep" not in whole
    assert whole["top1"] == pytest.approx(result["top1"])
    scores = {}
    for name, more in (
        ("whole", ()),
        ("a", ("--keep", 0.25)),
        ("b", ("--keep", 0.25, "--batch-size", 3)),
        ("c", ("--keep", 0.25, "--set", "keep_seed=1")),
    ):
        told = vid(*test, *more, "--scores", folder / f"{name}.csv")
        scores[name] = (folder / f"{name}.csv").read_text()
        assert told.get("keep") == (0.25 if more else None)
    assert scores["a"] == scores["b"]
    assert len(set(scores.values())) == 3


def test_prediction_in_python_by_a_share(place):
    folder, *_ = place
    model, video = load(folder / "ft"), next((folder / "videos").rglob("*.mp4"))
    found = model.predict(video, clips=2, crops=1, keep=0.25)
    assert found == model.predict(video, clips=2, crops=1, keep=0.25)
    assert found != model.predict(video, clips=2, crops=1)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_a_share_that_leaves_no_token_is_refused(place, capsys):
    from vidcli.app import main

    folder, manifest, *_ = place
    assert main([str(w) for w in ("eval", "classify", "--model", folder / "ft", "--data", manifest, "--keep", 0.01)]) == 2
    assert "keep 0.01 leaves none of a clip's 32 tokens" in capsys.readouterr().err


def test_longer_clips_start_from_a_shorter_model(place, capsys):
    from vidcli.app import main

    folder, manifest, tune, _ = place
    long = words("data.clip={frames: 8, sampling: span}", "views.clips=3", *SMALL[2:])
    assert main([str(w) for w in (*tune, "--out", folder / "long", *long)]) == 2
    assert "--set longer=stretch" in capsys.readouterr().err
    assert vid(*tune, "--out", folder / "long", *long, "--set", "longer=stretch", "--json")["views"] == "3x1"
    saved = json.loads((folder / "long" / "model" / "config.json").read_text())
    assert (saved["architecture"]["frames"], saved["architecture"]["pos_frames"]) == (8, 4)
    assert (saved["preprocessing"]["sampling"], saved["preprocessing"]["stride_s"]) == ("span", None)
    found = vid("eval", "classify", "--model", folder / "long", "--data", manifest, "--clips", 3, "--crops", 1, "--json")
    assert found["n"] == 10


def test_a_plan_tells_tokens_operations_and_memory(place):
    _, _, tune, _ = place
    dry = vid(*tune, *words(*SMALL[1:]), "--dry-run", "--json")
    assert (dry["tokens"], dry["visible_tokens"], dry["reconstructed_tokens"], dry["ignored_tokens"]) == (32, 8, 8, 16)
    assert dry["gmacs_per_clip"] < dry["gmacs_all_tokens"]
    plan = vid(*tune, *words(*SMALL[1:]), "--plan", "--json")
    assert plan["forward_decode"]["value"] > 0
    assert plan["memory_activations_decode"]["value"] > 0
