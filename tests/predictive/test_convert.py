"""Public checkpoints become model folders and come back; the numbers of the public code on random weights."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tasks.classify.evaluate import load_classifier
from tasks.core.checkpoint import load_config
from tasks.core.convert import PUBLISHED
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.r2d3d import BlockEncoder
from tasks.core.reporter import Quiet
from tasks.core.towers import load_encoder
from tasks.predictive import objective, pretrain
from tasks.predictive.config import PretrainConfig
from tasks.predictive.convert import convert, export
from vidcli import app

GATES = ("reset_gate", "update_gate", "out_gate")
LAYOUTS = ("dpc", "dpc-classifier", "memdpc", "memdpc-classifier")


def public(layout: str) -> dict[str, torch.Tensor]:
    """Random tensors as the public code names them, of a narrow network."""
    kind, classifier = layout.partition("-")[0], layout.endswith("classifier")
    torch.manual_seed(0)
    encoder = BlockEncoder(R2D3DConfig(width=4, bidirectional=kind == "memdpc"))
    backbone = "resnet." if layout == "dpc-classifier" else "backbone."
    found = {f"{backbone}{name}": tensor for name, tensor in encoder.backbone.state_dict().items()}
    if layout == "dpc":
        found = {name: tensor for name, tensor in found.items() if not name.endswith(("running_mean", "running_var", "tracked"))}
    names = {"dpc": ["agg"], "dpc-classifier": ["convrnn"]}.get(layout, ["agg_f", "agg_b"])
    for name, unit in zip(names, encoder.aggregators(), strict=True):
        for cell in ("ConvGRUCell_00", "cell_list.0"):
            found |= {f"{name}.{cell}.{key}": tensor for key, tensor in unit.state_dict().items()}
    if classifier:
        norm, linear = nn.BatchNorm1d(encoder.dim), nn.Linear(encoder.dim, 5)
        found |= {f"final_bn.{key}": tensor for key, tensor in norm.state_dict().items()}
        found |= {f"final_fc.1.{key}": tensor for key, tensor in linear.state_dict().items()}
    else:
        first, last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 7 if kind == "memdpc" else 16, 1)
        found |= {f"network_pred.0.{key}": tensor for key, tensor in first.state_dict().items()}
        found |= {f"network_pred.2.{key}": tensor for key, tensor in last.state_dict().items()}
        found |= {"mb": torch.randn(7, 16)} if kind == "memdpc" else {}
    wrapped = "module." if kind == "dpc" else ""
    return {wrapped + name: tensor.detach() for name, tensor in found.items()}


def save(file: Path, tensors: dict[str, torch.Tensor], **more) -> Path:
    optimizer = {"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    whole = {"epoch": 1, "net": "resnet18", "state_dict": tensors, "best_acc": np.float64(0.5), "optimizer": optimizer, "iteration": 5}
    torch.save({**whole, **more}, file)
    return file


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, legacy, tmp_path):
    kind, tensors = layout.partition("-")[0], public(layout)
    file = save(tmp_path / "checkpoint.pth.tar", tensors)
    if legacy:
        torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)
    result = convert(file, kind, tmp_path / "model", Quiet())
    assert result["task"] == load_config(tmp_path / "model")["task"] == ("classify" if layout.endswith("classifier") else "predictive")
    export(tmp_path / "model", kind, tmp_path / "back", Quiet())
    export(tmp_path / "model", kind, tmp_path / "back", Quiet())  # its own folder is replaced
    back = torch.load(tmp_path / "back" / PUBLISHED, weights_only=True)
    assert ("backbone" in back) == (layout == "memdpc-classifier")
    assert back["state_dict"].keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in back["state_dict"].items())


def test_a_network_on_public_flow_gives_the_same_on_ours(tmp_path):
    """Their pictures hold (128, v, u), ours (u, v, 128), and every channel is normalised with the numbers of its place there."""
    tensors = public("memdpc")
    file = save(tmp_path / "c.pth.tar", tensors)
    assert app.main(["convert", str(file), "--flow", "-o", str(tmp_path / "flow"), "-q"]) == 0
    convert(file, "memdpc", tmp_path / "public", Quiet())
    pictures, found = torch.rand(1, 40, 3, 32, 32), {}
    for folder, shown in (("flow", pictures), ("public", pictures.flip(2))):
        look = load_config(tmp_path / folder)["preprocessing"]
        mean, std = (torch.tensor(look[name]).view(3, 1, 1) for name in ("mean", "std"))
        found[folder] = load_encoder(tmp_path / folder)((shown - mean) / std)["map"].detach()
    torch.testing.assert_close(found["flow"], found["public"], rtol=1e-4, atol=1e-5)
    export(tmp_path / "flow", "memdpc", tmp_path / "back", Quiet())
    back = torch.load(tmp_path / "back" / PUBLISHED, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in back.items())
    assert app.main(["convert", str(tmp_path / "flow"), "--to", "memdpc", "--flow", "-o", str(tmp_path / "x"), "-q"]) == 2


def test_what_a_checkpoint_says_of_itself(tmp_path):
    for layout, statistics, directions, method in (("dpc", "batch", False, "dpc"), ("memdpc", "running", True, "memdpc")):
        convert(save(tmp_path / "c.pth.tar", public(layout)), layout, tmp_path / layout, Quiet())
        saved = load_config(tmp_path / layout)
        found = saved["architecture"]
        assert (found["width"], found["statistics"], found["bidirectional"], saved["method"]) == (4, statistics, directions, method)
    assert saved["prediction"]["slots"] == 7
    encoder = load_encoder(tmp_path / "dpc")
    norm = encoder.network.backbone.bn1  # of a checkpoint without statistics: as a public classifier begins
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert torch.equal(norm.running_var, torch.ones(4))


def test_the_command_tells_the_kinds_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid"])
    for layout in LAYOUTS:
        file = save(tmp_path / f"{layout}.pth.tar", public(layout))
        assert app.main(["convert", str(file), "-o", str(tmp_path / layout), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["source"] == layout.partition("-")[0]
    assert app.main(["convert", str(file), "--from", "dpc", "-o", str(tmp_path / "x")]) == 2
    assert "looks like memdpc, not dpc" in capsys.readouterr().err
    assert app.main(["convert", str(tmp_path / "dpc"), "--to", "dpc", "-o", str(tmp_path / "back"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "resnet18"


class Stranger:
    """Something that no checkpoint of ours holds."""


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("dpc", lambda s: s.pop("module.backbone.layer2.0.conv1.weight"), "missing encoder.backbone.layer2.0.conv1.weight"),
        ("dpc", lambda s: s.update({"module.queue": torch.zeros(3)}), "it has 'queue'"),
        ("dpc", lambda s: s.update({"module.agg.cell_list.0.out_gate.bias": torch.ones(16)}), "two different tensors"),
        ("memdpc", lambda s: s.pop("mb"), "has no memory"),
        ("memdpc-classifier", lambda s: s.pop("final_bn.bias"), "missing head.norm.bias"),
        ("memdpc", lambda s: s.update({"mb": torch.zeros(7, 15)}), "memory has shape"),
    ],
)
def test_what_does_not_fit_is_named(layout, change, message, tmp_path):
    tensors = public(layout)
    change(tensors)
    with pytest.raises(InputError, match=message):
        convert(save(tmp_path / "c.pth.tar", tensors), layout.partition("-")[0], tmp_path / "model", Quiet())
    assert not (tmp_path / "model").exists()


def test_anything_but_numbers_is_refused_by_name(tmp_path):
    file = save(tmp_path / "c.pth.tar", public("dpc"), best_model=Stranger())
    with pytest.raises(InputError, match=r"asks for .*Stranger"):
        convert(file, "dpc", tmp_path / "model", Quiet())


def test_back_to_another_kind_is_refused(tmp_path):
    convert(save(tmp_path / "c.pth.tar", public("dpc")), "dpc", tmp_path / "dpc", Quiet())
    with pytest.raises(UsageError, match="one aggregator"):
        export(tmp_path / "dpc", "memdpc", tmp_path / "back", Quiet())


@pytest.fixture
def cases(real_data) -> Path:
    folder = real_data.parent / "parity"
    if not folder.exists():
        pytest.skip("no parity cases beside this checkout")
    return folder


def clip_of(case: Path) -> torch.Tensor:
    """The blocks (B, N, 3, L, S, S) of a case as clips (B, N * L, 3, S, S)."""
    return torch.from_numpy(np.load(case / "inputs.npz")["block"]).transpose(2, 3).flatten(1, 2)


class Compare:
    """What a case expects, with its tolerances."""

    def __init__(self, case: Path):
        self.expected, self.arrays = np.load(case / "expected.npz"), json.loads((case / "case.json").read_text())["arrays"]

    def __call__(self, name: str, found: torch.Tensor) -> None:
        told = self.arrays[name]
        exact = {"rtol": 0, "atol": 0} if told.get("compare") == "exact" else {"rtol": told.get("rtol", 0.0), "atol": told["atol"]}
        np.testing.assert_allclose(found.detach().numpy(), self.expected[name], err_msg=name, **exact)


class RecordedMasks(nn.Module):
    """Dropout with the masks of a case."""

    def __init__(self, masks: np.ndarray):
        super().__init__()
        self.masks = iter(torch.from_numpy(masks).float())

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state * next(self.masks) / 0.9


@pytest.mark.real
def test_dpc_gives_the_numbers_of_the_public_code(cases, tmp_path):
    case = cases / "dpc_r18"
    compare, clip = Compare(case), clip_of(case)
    convert(case / "checkpoint.pth.tar", "dpc", tmp_path / "model", Quiet())
    encoder = load_encoder(tmp_path / "model")
    with torch.no_grad():
        out = encoder(clip)
        compare("backbone_out", encoder.network.maps(clip).flatten(0, 1))
        compare("context_steps", encoder.network.aggregator(out["map"][:, :5].relu()))
    compare("z", out["map"])
    compare("context", out["context"])
    coder = pretrain.build(PretrainConfig(init=str(tmp_path / "model"))).train().coder
    unit = coder.encoder.aggregator
    for prefix, dropout in (("", nn.Identity()), ("traindrop/", RecordedMasks(compare.expected["traindrop/dropout_keep_masks"]))):
        unit.dropout = dropout
        (direction,) = coder(clip)
        score = objective.scores(objective.as_rows(direction.predicted), objective.as_rows(direction.target))
        right = objective.positives(2, 48)
        loss = objective.prediction_loss(score, right)
        compare(f"{prefix}context", direction.context)
        compare(f"{prefix}pred", direction.predicted)
        compare(f"{prefix}score", score.view(2, 3, 16, 2, 3, 16))
        compare(f"{prefix}loss", loss)
        compare(f"{prefix}top1", objective.accuracy(score, right) / 100)
        if not prefix:
            loss.backward()
            compare("target", right)
            compare("top3", objective.accuracy(score, right, 3) / 100)
            compare("top5", objective.accuracy(score, right, 5) / 100)
            compare("mask", objective.candidate_kinds(2, 3, 16).view(2, 3, 16, 2, 3, 16))
    ours = {"encoder.backbone.": "backbone.", "encoder.aggregator.": "agg.ConvGRUCell_00.", "predictor.": "network_pred."}
    gradients = {}
    for name, parameter in coder.named_parameters():
        start = next(start for start in ours if name.startswith(start))
        gradients[ours[start] + name.removeprefix(start)] = parameter.grad.double().flatten()
    for number, name in enumerate(json.loads((case / "case.json").read_text())["grad_param_names"]):
        found, norm = gradients[name], compare.expected["grad/norm"][number]
        assert float(found.norm()) == pytest.approx(norm, rel=3e-3), name
        values = found[torch.arange(8) * found.numel() // 8].numpy()
        assert np.abs(values - compare.expected["grad/values"][number]).max() <= 3e-3 * norm, name


@pytest.mark.real
def test_the_classifier_of_memdpc_gives_the_numbers_of_the_public_code(cases, tmp_path):
    case = cases / "memdpc_r18_lc"
    compare, clip = Compare(case), clip_of(case)
    convert(case / "checkpoint.pth.tar", "memdpc", tmp_path / "model", Quiet())
    encoder = load_encoder(tmp_path / "model")
    classifier, _ = load_classifier(str(tmp_path / "model"))
    with torch.no_grad():
        rectified = encoder.network.maps(clip).relu().mean(3)
        compare("context_steps_f", encoder.network.aggregator(rectified))
        compare("context_steps_b", encoder.network.backward_aggregator(rectified.flip(1)))
        pooled, logits = encoder(clip)["pooled"], classifier(clip)
        compare("embedding_512", pooled[:, None])
        compare("context_after_bn", classifier.head.norm(pooled)[:, None])
        compare("logits", logits[:, None])
        compare("prob_mean_over_windows", logits.softmax(-1).mean(0, keepdim=True))
