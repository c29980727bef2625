"""Checkpoints of public code: read, written, and answered as the public code answers."""

import json
from pathlib import Path

import localization_toys as toys
import numpy as np
import pytest
import torch
import yaml
from public_reference import Reference, tensors
from torch.nn import functional as F

from tasks.core import convert as files
from tasks.core.checkpoint import find_model, load_config, load_weights
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.localization.config import EventsConfig, LocalizerConfig
from tasks.localization.convert import convert, export, take
from tasks.localization.decode import decode, settle
from tasks.localization.model import EventLocalizer
from tasks.localization.objective import head_sums
from tasks.localization.public import PUBLISHED, read_settings
from tasks.localization.targets import assign, make_points

RANGES = [[0, 4], [4, 8], [8, 16], [16, 10000]]


def settings(windows: int | list[int] = -1, positions: bool = False, length: int = 64) -> dict:
    """The part of ActionFormer's configuration that its tensors do not say."""
    model = {"n_head": 2, "n_mha_win_size": windows, "use_abs_pe": positions, "regression_range": RANGES}
    return {"dataset": {"max_seq_len": length}, "model": model, "train_cfg": {"droppath": 0.1}, "test_cfg": {"max_seg_num": 7}}


def written(folder: Path, held: dict, said: dict | None, name: str = "config.yaml") -> Path:
    """A checkpoint as the public code writes it, with its settings beside it."""
    folder.mkdir(exist_ok=True)
    if said is not None:
        text = {"config.yaml": yaml.safe_dump, "config.json": json.dumps, "config.txt": repr}[name](said)
        (folder / name).write_text(text)
    prefixed = {f"module.{key}": value for key, value in held.items()}
    torch.save({"epoch": 3, "state_dict": {}, "state_dict_ema": prefixed, "optimizer": {}}, folder / "model.pth.tar")
    return folder / "model.pth.tar"


def loaded(folder: Path) -> EventLocalizer:
    saved = load_config(folder)
    dims = {name: stream["dim"] for name, stream in saved["streams"].items()}
    model = EventLocalizer(LocalizerConfig(**saved["architecture"]), dims, len(saved["labels"]))
    model.load_state_dict(load_weights(folder))
    return model.eval()


@pytest.mark.parametrize(
    ("windows", "positions", "length"), [(-1, False, 64), ([7, 5, 5, -1], True, 64), ([5, 5, -1, -1], True, 200), (5, False, 150)]
)
def test_actionformer_answers_as_its_tensors_say(float64, tmp_path: Path, windows: int | list[int], positions: bool, length: int):
    """Also of videos longer than the table of positions."""
    held = tensors(12, 8, 3)
    file = written(tmp_path / "public", {k: v.double() for k, v in held.items()}, settings(windows, positions))
    config, dims, classes, weights = take(held, "actionformer", read_settings(file, "actionformer", held)[0], file)
    assert dims == {"visual": 12}
    model = EventLocalizer(config, dims, classes).eval()
    model.load_state_dict({name: value.double() for name, value in weights.items()})  # take gives float32
    held = {name: value.float().double() for name, value in held.items()}
    padded = config.padded(length)
    assert padded >= 64
    torch.manual_seed(0)
    mask = torch.arange(padded) < torch.tensor([[length], [length - 11]])
    x = torch.randn(2, 12, padded) * mask[:, None]
    each = [windows] * 4 if isinstance(windows, int) else windows
    logits, offsets = Reference(held, 2, each, 64 if positions else None)(x, mask)
    found = model(x[:, :, :length], None, mask[:, :length])
    for level in range(4):
        assert torch.allclose(found.logits[level], logits[level], atol=1e-6)
        assert torch.allclose(found.offsets[level], offsets[level], atol=1e-6)


@pytest.mark.parametrize("name", ["config.txt", "config.yaml", "config.json"])
def test_a_checkpoint_becomes_a_model_folder_and_a_checkpoint_again(tmp_path: Path, name: str):
    held = tensors(12, 8, 3)
    file = written(tmp_path / "public", held, settings([5, 5, 5, -1], True), name)
    result = convert(file, "actionformer", tmp_path / "model", Quiet())
    assert result["parameters"] == sum(value.numel() for value in held.values())
    model, saved = loaded(tmp_path / "model"), load_config(tmp_path / "model")
    assert model.config.window == (5, 5, 5, None)
    assert (model.config.positions, model.config.public_padding, saved["events"]["keep"]) == (64, 64, 7)
    assert find_model(str(tmp_path / "model"))
    export(tmp_path / "model", "actionformer", tmp_path / "back", Quiet())
    again = files.read_pth(tmp_path / "back" / files.PUBLISHED)["state_dict_ema"]
    assert again.keys() == {f"module.{key}" for key in held}
    assert all(torch.equal(again[f"module.{key}"], value) for key, value in held.items())


def test_published_sizes_have_published_settings(tmp_path: Path):
    held = tensors(2048, 8, 20, levels=6)
    file = written(tmp_path / "public", held, None)
    found, where = read_settings(file, "actionformer", held)
    assert "THUMOS14" in where
    assert found == PUBLISHED["actionformer", 2048, 20][1]
    assert found.window == (19,)
    _, where = read_settings(file, "actionformer", tensors(7, 8, 3))
    assert "not in the file" in where


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("backbone.stem.1.mlp.3.bias"), "missing backbone.stem.1.mlp.3.bias"),
        (lambda held: held.update({"neck.lateral_convs.0.conv.weight": torch.ones(1)}), "unexpected neck.lateral_convs"),
        (lambda held: held.pop("cls_head.cls_head.conv.bias"), "has no cls_head.cls_head.conv.bias"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, change, said: str):
    held = tensors(12, 8, 3)
    change(held)
    file = written(tmp_path / "public", held, settings())
    with pytest.raises(InputError, match=said):
        convert(file, "actionformer", tmp_path / "model", Quiet())
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"model": {"fpn_type": "fpn"}}, "have no counterpart here"),
        ({"model": {"n_head": "many"}}, "does not hold the settings"),
        ({"something": 1}, "does not hold the settings"),
    ],
)
def test_settings_without_a_counterpart_are_refused(tmp_path: Path, said: dict, text: str):
    held = tensors(12, 8, 3)
    with pytest.raises(InputError, match=text):
        read_settings(written(tmp_path / "public", held, said), "actionformer", held)


def test_models_of_other_settings_cannot_be_written(tmp_path: Path):
    held = tensors(12, 8, 3)
    convert(written(tmp_path / "public", held, settings()), "actionformer", tmp_path / "model", Quiet())
    with pytest.raises(UsageError, match="not a model that unav knows"):
        export(tmp_path / "model", "unav", tmp_path / "back", Quiet())


@pytest.fixture
def unav(real_data: Path) -> Path:
    return real_data.parent / "parity" / "unav_small"


def public_model(folder: Path, file: str, which: str) -> EventLocalizer:
    held = files.state_dict(files.read_pth(folder / file), folder / file, (which,))
    held = {name.removeprefix("module."): value for name, value in held.items()}
    config, dims, classes, weights = take(held, "unav", read_settings(folder / file, "unav", held)[0], folder / file)
    model = EventLocalizer(config, dims, classes)
    model.load_state_dict(weights)
    return model.eval()


def padded_batch(videos: list[dict], size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = [[F.pad(video["feats"][name], (0, size - video["feats"][name].shape[1])) for video in videos] for name in ("visual", "audio")]
    lengths = torch.tensor([video["feats"]["visual"].shape[1] for video in videos])
    return torch.stack(parts[0]), torch.stack(parts[1]), torch.arange(size) < lengths[:, None]


@pytest.mark.real
def test_unav_answers_as_its_public_code(unav: Path):
    """Logits, offsets, targets, losses; also of a video longer than in training, and of trained weights, raw and averaged."""
    expected, given = np.load(unav / "expected.npz"), torch.load(unav / "inputs.pth", weights_only=True)
    model = public_model(unav, "checkpoint_init.pth.tar", "state_dict")
    with torch.no_grad():
        found = model(*padded_batch(given["videos"], 64))
        cases = [("train|", "", found)]
        long = given["long_video"]
        cases.append(("evallong|", "ev_", model(*padded_batch(long, long[0]["feats"]["visual"].shape[1]))))
        for name, which in (("after3", "state_dict"), ("after3ema", "state_dict_ema")):
            trained = public_model(unav, "checkpoint.pth.tar", which)
            cases.append((f"{name}|", "ev_", trained(*padded_batch(given["videos"][:1], 64))))
    for case, prefix, output in cases:
        for level in range(6):
            for kind, values in (("logits", output.logits), ("offsets", output.offsets)):
                theirs = expected[f"{case}{prefix}{kind}|{level}"]
                assert values[level].numpy() == pytest.approx(theirs, abs=1e-5), (case, kind, level)
    points = make_points([64 >> level for level in range(6)], model.config.ranges)
    targets = [assign(points, video["segments"], video["labels"], 12, True) for video in given["videos"]]
    for number, target in enumerate(targets):
        assert np.array_equal(target.classes.numpy(), expected[f"train|gt_cls|{number}"])
        assert target.offsets.numpy() == pytest.approx(expected[f"train|gt_off|{number}"], abs=1e-5)
    parts = [torch.cat(values, 1) for values in (found.logits, found.offsets, found.masks)]
    classes, boundaries, positives = head_sums(*parts, targets, 0.0)
    share = 0.9 * float(expected["train|loss_normalizer_before"]) + 0.1 * int(positives)
    assert share == pytest.approx(float(expected["train|loss_normalizer_after"]))
    assert (classes / share).item() == pytest.approx(float(expected["train|cls_loss"]), abs=1e-5, rel=1e-5)
    assert (boundaries / share).item() == pytest.approx(float(expected["train|reg_loss"]), abs=1e-5, rel=1e-5)


@pytest.mark.real
def test_unav_detects_what_its_public_code_detects(unav: Path, tmp_path: Path):
    """Events in seconds, as sets: equal scores may swap."""
    expected, given = np.load(unav / "expected.npz"), torch.load(unav / "inputs.pth", weights_only=True)
    convert(unav / "checkpoint_init.pth.tar", "unav", tmp_path / "model", Quiet())
    model, events = loaded(tmp_path / "model"), EventsConfig(**load_config(tmp_path / "model")["events"])
    for number, video in enumerate(given["videos"]):
        with torch.no_grad():
            found = settle(decode(model(*padded_batch([video], video["feats"]["visual"].shape[1])), events)[0], events)
        seconds = (found["segments"] * video["feat_stride"] + 0.5 * video["feat_num_frames"]) / video["fps"]
        mine = (found["labels"].numpy(), seconds.clamp(0, video["duration"]).numpy(), found["scores"].numpy())
        theirs = tuple(expected[f"eval{number}|{name}"] for name in ("labels", "segments", "scores"))
        rows = [np.column_stack(table)[np.lexsort((table[1][:, 0].round(3), table[0]))] for table in (mine, theirs)]
        assert rows[0].shape == rows[1].shape == (100, 4)
        assert np.array_equal(rows[0][:, 0], rows[1][:, 0])
        assert rows[0][:, 3] == pytest.approx(rows[1][:, 3], abs=1e-5)
        assert rows[0][:, 1:3] == pytest.approx(rows[1][:, 1:3], abs=1e-3)


@pytest.mark.real
def test_unav_trains_as_its_public_code(unav: Path):
    """Gradients of one step, and losses of three with AdamW."""
    expected, given = json.loads((unav / "expected.json").read_text()), torch.load(unav / "inputs.pth", weights_only=True)
    model = public_model(unav, "checkpoint_init.pth.tar", "state_dict").train()
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
    trained = toys.method(loss={"first_positives": 250})
    trained.localizer = model
    trained.config = trained.config.model_copy(update={"model": model.config})
    optimizer = torch.optim.AdamW(trained.optimizers()["main"].groups, 1e-3)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.05 * bool(group["weight_decay"])
    rates = [0.0, 0.0005, 0.001]  # a warm-up of three steps
    for videos, losses, rate in zip(given["train_batches"], expected["train_steps"], rates, strict=True):
        video, audio, mask = padded_batch(videos, 64)
        batch = {"segments": [each["segments"] for each in videos], "labels": [each["labels"] for each in videos]}
        found = trained.head_losses(model(video, audio, mask), batch)
        assert found["class_loss"].item() == pytest.approx(losses["cls_loss"], abs=1e-4, rel=1e-4)
        assert found["boundary_loss"].item() == pytest.approx(losses["reg_loss"], abs=1e-4, rel=1e-4)
        optimizer.zero_grad()
        sum(found.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
