"""The public implementation of UberNCE with S3D on random weights: features, projections, scores, losses and queue agree with ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive_helpers import PROGRESS, rng

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.convert import convert
from tasks.contrastive.method import UberNCE
from tasks.core.convert import read_pth
from tasks.core.engine.method import Progress
from tasks.core.reporter import Quiet
from tasks.core.towers import load_encoder

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def case(real_data) -> Path:
    folder = real_data.parent / "parity" / "ubernce_s3d"
    if not folder.exists():
        pytest.skip("no parity cases beside this checkout")
    return folder


@pytest.fixture(scope="module")
def expected(case) -> dict[str, np.ndarray]:
    return dict(np.load(case / "expected.npz"))


def agree(case: Path, expected: dict[str, np.ndarray], name: str, found: torch.Tensor) -> None:
    rule = json.loads((case / "case.json").read_text())["arrays"][name]
    np.testing.assert_allclose(found.detach().numpy(), expected[name], rtol=rule.get("rtol", 0), atol=rule.get("atol", 0), err_msg=name)


def clips(case: Path) -> torch.Tensor:
    """(B, 2, T, 3, S, S)."""
    return torch.from_numpy(np.load(case / "inputs.npz")["block"]).transpose(2, 3)


def test_a_converted_folder_gives_their_features(case, expected, tmp_path):
    convert(case / "checkpoint.pth.tar", "coclr", tmp_path / "model", Quiet())
    with torch.no_grad():
        out = load_encoder(tmp_path / "model")(clips(case)[:, 0])
    agree(case, expected, "eval/q_feature", out["pooled"])
    agree(case, expected, "eval/q", out["projection"])
    assert out["map"].shape == (4, 1024, 4, 2, 2)


@pytest.fixture
def method(case, tmp_path) -> UberNCE:
    """Ours in the state of theirs, key encoder and queue too."""
    theirs = read_pth(case / "checkpoint.pth.tar")["state_dict"]
    swapped = {name.replace("encoder_k.", "encoder_q."): tensor for name, tensor in theirs.items() if name.startswith("encoder_k.")}
    torch.save({"state_dict": swapped}, tmp_path / "keys.pth.tar")
    made = UberNCE(PretrainConfig(method={"name": "ubernce", "queue": 64}))
    for file, encoder in ((case / "checkpoint.pth.tar", made.encoder), (tmp_path / "keys.pth.tar", made.keyed.key_encoder)):
        convert(file, "coclr", tmp_path / "model", Quiet())
        encoder.load_state_dict(load_encoder(tmp_path / "model").network.state_dict())
    made.keyed.queue.keys.copy_(theirs["queue"].T)
    made.keyed.queue.videos.copy_(theirs["queue_label"])
    made.keyed.queue.next.copy_(theirs["queue_ptr"][0])
    return made


def test_losses_and_queue(case, expected, method):
    label = torch.from_numpy(np.load(case / "inputs.npz")["k_label"])
    batch = {"video": clips(case), "source": label, "label": label}
    method.eval()
    with torch.no_grad():
        losses = method(batch, rng(), PROGRESS)
    agree(case, expected, "eval/loss", losses["loss"])
    agree(case, expected, "eval/mask_top1", losses["top1"])
    agree(case, expected, "eval/mask_top5", losses["top5"])
    losses = method.train()(batch, rng(), Progress(1, 0, 10, 100))  # the keys follow before they are made
    agree(case, expected, "train/step1/loss", losses["loss"])
    queue = method.keyed.queue
    agree(case, expected, "train/step1/after/queue", queue.keys.T)
    assert queue.videos.tolist() == expected["train/step1/after/queue_label"].tolist()
    assert queue.next.tolist() == expected["train/step1/after/queue_ptr"][0]
    losses["loss"].backward()
    norms = torch.stack([parameter.grad.norm() for parameter in method.encoder.parameters()])
    apart = (norms.numpy() - expected["train/step1/grad_q/norm"]) / np.maximum(expected["train/step1/grad_q/norm"], 1e-8)
    assert np.quantile(np.abs(apart), 0.9) < 0.03
    assert np.abs(apart).max() < 0.2
