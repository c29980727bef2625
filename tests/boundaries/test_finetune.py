"""Fine-tuning end to end, resuming, processes, and detection as in training."""

import json
from pathlib import Path

import finetune_toy
import numpy as np
import pytest
import torch
from finetune_toy import MODEL, PLAIN, KillsItself, settings, train
from pinned import same_everywhere
from safetensors.torch import load_file
from switching import switching_set
from worlds import train_in_world

from tasks.boundaries import finetune
from tasks.boundaries.classifier import BoundaryClassifier
from tasks.boundaries.config import FinetuneConfig, MergeConfig
from tasks.boundaries.labels import candidates, windows
from tasks.boundaries.learned import LearnedScorer, score_video, still_transform
from tasks.boundaries.merge import merge
from tasks.boundaries.supervised import BoundaryTraining
from tasks.boundaries.truth import read_truth
from tasks.boundaries.windows import window_loader
from tasks.core.checkpoint import save_model
from tasks.core.clips.augment import TrainTransform
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import read_metrics
from tasks.core.errors import InputError, Preempted, UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.video.open import open_video


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    return switching_set(tmp_path_factory.mktemp("switching"))


@pytest.fixture(scope="module")
def tuned(truth, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, train(folder, settings(truth))


@pytest.mark.slow
def test_eight_videos_are_learned_by_heart(tuned):
    """Spec A10.10."""
    folder, result = tuned
    assert result["f1@0.05"] == 1.0
    assert result["avg_f1"] == 1.0
    assert (result["n"], result["n_skipped"]) == (8, 0)
    losses = [r["loss"] for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "train"]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_published_model_finds_what_the_run_reported(tuned, truth):
    folder, result = tuned
    scorer = LearnedScorer(str(folder), "cpu", batch=5)
    predictions = json.loads(Path(result["predictions"]).read_text())
    assert sorted(predictions) == sorted(json.loads(truth.read_text()))
    for name in ("v0", "v5"):
        with open_video(truth.parent / f"{name}.mp4") as reader:
            found = merge(scorer.score(reader), scorer.merge)
        assert [b.t for b in found] == pytest.approx(predictions[name], abs=1e-4)


def test_the_model_folder_says_how_to_use_it(tuned):
    folder, _ = tuned
    saved = json.loads((folder / "model" / "config.json").read_text())
    assert saved["architecture"] == MODEL.model_dump()
    assert saved["preprocessing"]["stride_s"] == pytest.approx(1 / 6)
    assert saved["merge"] == MergeConfig().model_dump()
    card = (folder / "model" / "README.md").read_text()
    assert f"vid detect-boundaries VIDEO --model {folder}\n" in card
    assert "encoder.layer1.0.conv1.weight" in load_file(folder / "model" / "model.safetensors")


class Counting:
    """A reader that notes which frames are asked for."""

    def __init__(self, reader):
        self.reader, self.asked = reader, []
        self.pts, self.fps, self.n_frames = reader.pts, reader.fps, reader.n_frames

    def get(self, numbers, short_side=None):
        self.asked.append(list(numbers))
        return self.reader.get(numbers, short_side)


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("window", [{"before": 3, "stride_s": 1 / 6}, {"before": 2, "stride_frames": 3}])
def test_streaming_scores_are_those_of_every_window_by_itself(truth, batch, window):
    torch.manual_seed(0)
    classifier = BoundaryClassifier(MODEL).eval()
    config = settings(truth, window=window)
    transform = still_transform(config.augment, 32)
    with open_video(truth.parent / "v3.mp4") as video:
        reader = Counting(video)
        behind = []
        scores = score_video(classifier, reader, config.window, transform, None, batch, progress=behind.append)
        chosen = candidates(video.pts, config.window)
        expected = []
        for around in windows(video.pts, chosen, config.window):
            clip = torch.from_numpy(video.get(around)).permute(0, 3, 1, 2).contiguous()[None]
            seen = transform({"video": clip, "size": torch.tensor([[48, 48]]), "seed": torch.tensor([0])})
            with torch.no_grad():
                expected.append(float(classifier(seen).sigmoid()))
    assert scores.frame.tolist() == chosen.tolist()
    assert scores.t == pytest.approx(video.pts[chosen])
    assert scores.score == pytest.approx(np.array(expected), abs=1e-5)
    asked = [n for numbers in reader.asked for n in numbers]
    assert asked == sorted(set(asked))  # forwards, and every frame once
    assert max(map(len, reader.asked)) <= batch * 3 + 2 * config.window.before * 3
    assert sum(behind) == len(video.pts)


def test_a_part_of_a_video_is_scored_as_if_it_were_all(truth):
    config = settings(truth)
    classifier = BoundaryClassifier(MODEL).eval()
    with open_video(truth.parent / "v0.mp4") as video:
        scores = score_video(classifier, video, config.window, still_transform(config.augment, 32), None, 8, 2.0, 5.0)
    assert scores.t.min() == pytest.approx(2.0)
    assert scores.t.max() < 5.0


@pytest.mark.parametrize(("crop", "short_side"), [("none", None), ("none", 40), ("center", None)])
def test_detection_sees_the_windows_that_training_saw(truth, tmp_path, crop, short_side):
    """Bit for bit, with frames that are not square: same frames, same scaling, same crop, same normalisation."""
    wide = switching_wide(tmp_path)
    config = settings(wide, augment={"crop": crop})
    config = config.model_copy(update={"data": config.data.model_copy(update={"preload": False, "short_side": short_side})})
    batch = next(iter(window_loader(read_truth([str(wide)], "train"), config)))
    seen = TrainTransform(config.augment, 32)(batch)

    class Notes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(1))
            self.seen = []

        def forward(self, video):
            self.seen.append(video)
            return torch.zeros(len(video))

    notes = Notes()
    with open_video(wide.parent / "wide.mp4") as reader:
        score_video(notes, reader, config.window, still_transform(config.augment, 32), short_side, 16)
    detected = torch.cat(notes.seen)
    grid = [bool((window == detected).flatten(1).all(1).any()) for window in seen]
    assert sum(grid) >= 4  # the others begin between the candidates of detection


def switching_wide(folder: Path) -> Path:
    """One video of 96 x 48 px."""
    from switching import FPS, switching_frames

    from tasks.core.data.synthetic import encode

    frames = switching_frames(np.random.default_rng(0), "colour", [2.0, 6.0])
    (folder / "wide.mp4").write_bytes(encode(np.concatenate([frames, frames[:, ::-1]], 2), FPS))
    (folder / "m.csv").write_text("path,boundaries\nwide.mp4,2;6\n")
    return folder / "m.csv"


def test_the_head_compares_before_with_after():
    """By hand: mean over frames and places of each half of the encoder's maps, side by side."""
    torch.manual_seed(0)
    classifier = BoundaryClassifier(MODEL).eval()
    video = torch.randn(2, 6, 3, 32, 32)
    maps = classifier.encoder(video.flatten(0, 1), 6).view(2, 6, classifier.encoder.channels, -1)
    halves = torch.cat([maps[:, :3].mean((1, 3)), maps[:, 3:].mean((1, 3))], 1)
    assert torch.allclose(classifier(video), halves @ classifier.head.weight[0] + classifier.head.bias, atol=1e-5)


def test_two_groups_keep_the_halves_apart():
    torch.manual_seed(0)
    video = torch.randn(1, 6, 3, 32, 32)
    other = video.clone()
    other[:, 3:] = torch.randn(1, 3, 3, 32, 32)
    for apart in (True, False):
        classifier = BoundaryClassifier(MODEL, two_groups=apart).eval()
        before = [classifier.encoder(v.flatten(0, 1), 3 if apart else 6)[:3] for v in (video, other)]
        assert torch.equal(*before) == apart
    assert classifier(video).shape == (1,)


def test_pinned_losses(float64):
    method = same_everywhere(BoundaryTraining(FinetuneConfig(), MODEL))
    groups = method.optimizers()["main"].groups
    optimizer = torch.optim.SGD([{"params": g["params"], "lr": 0.01 * g["lr_scale"], "weight_decay": g["weight_decay"]} for g in groups])
    target = torch.tensor([1.0, 0.0, 0.6, 0.0])
    video = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 6, 3, 32, 32)))
    batch = {"video": video, "target": target, "boundary": target > 0.5}
    losses = []
    for _ in range(4):
        loss = method(batch, BatchRandom(0, 0, rows=4), Progress(0, 0, 1, 1))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == pytest.approx(PINNED, rel=1e-8)


PINNED = [0.7451305697, 0.3924730275, 0.3005077828, 0.2601628976]


def test_layer_decay_grows_towards_the_head():
    groups = BoundaryTraining(FinetuneConfig(optim={"layer_decay": 0.5}), MODEL).optimizers()["main"].groups
    scale = {g["lr_scale"]: len(g["params"]) for g in groups}
    assert sorted(scale) == [0.5**n for n in (5, 4, 3, 2, 1, 0)]


def records(folder: Path) -> list[dict]:
    """What was logged, less the times."""
    return [{k: v for k, v in r.items() if k not in ("clips_per_s", "wait_share")} for r in read_metrics(folder / "metrics.jsonl")]


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(truth, tmp_path):
    config = settings(truth, epochs=6, every=2, patience=50)
    train(tmp_path / "whole", config)
    for after in (3, 1):  # once within an epoch, once before an evaluation
        with pytest.raises(Preempted):
            train(tmp_path / "parts", config, KillsItself(after))
    train(tmp_path / "parts", config)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    a, b = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts"))
    assert a["best_step"] == b["best_step"]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_with_the_double_batch(truth, tmp_path):
    train_in_world(2, finetune_toy.__file__, tmp_path / "two", truth, "epochs=3", "batch_size=4", "every=3")
    train(tmp_path / "one", settings(truth, epochs=3, every=3, model=PLAIN))
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [r.pop("kind") for r in one] == [r.pop("kind") for r in two] == ["train"] * 3 + ["eval"]
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4)


def test_the_encoder_comes_from_the_model_given(truth, tmp_path):
    torch.manual_seed(7)
    given = BoundaryClassifier(MODEL)
    weights = {name: tensor for name, tensor in given.state_dict().items() if name.startswith("encoder.")}
    saved = {"task": "boundaries", "method": "cvclr", "architecture": MODEL.model_dump()}
    save_model(tmp_path / "pre", {**weights, "heads.x": torch.zeros(1)}, saved, "")
    config = settings(truth, model=None, init=str(tmp_path / "pre"))
    method = finetune.build(config, finetune.architecture(config))
    assert all(torch.equal(a, b) for a, b in zip(given.encoder.parameters(), method.classifier.encoder.parameters(), strict=True))
    with pytest.raises(UsageError, match="not a detector of event boundaries"):
        LearnedScorer(str(tmp_path / "pre"))
    with pytest.raises(UsageError, match=r"another architecture.* width 8, .* width 16"):
        finetune.check(settings(truth, model=ResNetConfig(**{**MODEL.model_dump(), "width": 16}), init=str(tmp_path / "pre")))
    save_model(tmp_path / "vit", weights, {**saved, "task": "masked", "architecture": {"size": "tiny"}}, "")
    with pytest.raises(UsageError, match="of the family 'vit'; boundaries need a ResNet"):
        finetune.check(settings(truth, model=None, init=str(tmp_path / "vit")))


def test_an_encoder_without_motion_gets_a_new_motion_layer(truth, tmp_path):
    """MoCo or ImageNet weights to start from: the baseline without pretraining on video."""
    torch.manual_seed(7)
    plain = BoundaryClassifier(PLAIN)
    saved = {"task": "boundaries", "method": "moco-v2", "architecture": PLAIN.model_dump()}
    weights = {name: tensor for name, tensor in plain.state_dict().items() if name.startswith("encoder.")}
    save_model(tmp_path / "moco", weights, saved, "")
    config = settings(truth, init=str(tmp_path / "moco"))
    encoder = finetune.build(config, finetune.architecture(config)).classifier.encoder
    assert encoder.motion is not None
    assert torch.equal(encoder.conv1.weight, plain.encoder.conv1.weight)


def test_a_dry_run_counts_what_the_run_does(truth):
    plan = finetune.plan(settings(truth, epochs=5, visits=2, batch_size=4))
    assert (plan["videos"], plan["val_videos"], plan["steps"], plan["windows_per_step"]) == (8, 8, 20, 16)
    assert plan["parameters"] == sum(p.numel() for p in BoundaryClassifier(MODEL).parameters())


def test_missing_and_damaged_videos_are_listed_not_hidden(truth, tmp_path):
    entries = json.loads(truth.read_text())
    kept = {name: {**entries[name], "path": str(truth.parent / f"{name}.mp4")} for name in ("v0", "v1")}
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    odd = {"gone": entries["v2"] | {"path": "gone.mp4"}, "broken": entries["v3"] | {"path": "broken.mp4"}}
    (tmp_path / "t.json").write_text(json.dumps({**kept, **odd}))
    result = train(tmp_path / "run", settings(tmp_path / "t.json", epochs=1, batch_size=4))
    assert (result["n"], result["n_skipped"]) == (2, 1)
    listed = (tmp_path / "run" / "skipped.csv").read_text()
    assert "gone.mp4,no such file" in listed
    assert "broken.mp4" in listed


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": None}, UsageError, "nothing says which network"),
        ({"data": {"train": []}}, UsageError, "no training videos given"),
        ({"data": {"train": ["absent.json"]}}, InputError, "absent.json"),
        ({"data": {"train": ["{truth}"], "clip": {"frames": 8}, "repeats": 4}}, UsageError, "data.clip says nothing"),
        ({"data": {"train": ["{truth}"], "clip": {"frames": 10}, "repeats": 4}, "patience": 2}, UsageError, "patience needs videos"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(truth, changes, error, says):
    if "data" in changes:
        changes = {**changes, "data": {**changes["data"], "train": [t.format(truth=truth) for t in changes["data"]["train"]]}}
        changes["data"].setdefault("repeats", 4)
        changes["data"].setdefault("clip", {"frames": 10})
    with pytest.raises(error, match=says):
        finetune.check(settings(truth, **changes))


def test_without_validation_the_last_weights_are_published(truth, tmp_path):
    config = settings(truth, epochs=1)
    config = config.model_copy(update={"data": config.data.model_copy(update={"val": []})})
    result = train(tmp_path / "run", config)
    assert "avg_f1" not in result
    assert LearnedScorer(str(tmp_path / "run"), "cpu").merge == MergeConfig()


@pytest.mark.parametrize("data", [{"fraction": 0.5}, {"balance": True}])
def test_shares_of_classes_are_refused(data):
    with pytest.raises(ValueError, match="go by classes, which boundaries have not"):
        FinetuneConfig(data={"repeats": 4, **data})
