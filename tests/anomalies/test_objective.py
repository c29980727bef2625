"""The rule of targets, and losses that are pinned."""

import anomaly_toys
import numpy as np
import pytest
import torch
from pinned import same_everywhere
from torch.nn import functional as F

from tasks.anomalies.config import SemanticConfig
from tasks.anomalies.method import Discrimination, Reconstruction
from tasks.anomalies.objective import paired, reconstruction_loss, replaced
from tasks.core.engine.config import OptimConfig
from tasks.core.engine.optim import make_optimizer
from tasks.core.engine.random import BatchRandom


@pytest.mark.parametrize("p", [0.4, 0.5])
def test_clips_are_replaced_at_the_rate_asked_for(p):
    rng = np.random.default_rng(0)
    assert np.mean([replaced(rng, p) for _ in range(10_000)]) == pytest.approx(p, abs=0.015)


def test_never_and_always():
    rng = np.random.default_rng(0)
    assert not any(replaced(rng, 0.0) for _ in range(1000))
    assert all(replaced(rng, 1.0) for _ in range(1000))


def test_pseudo_anomalies_go_in_and_normal_clips_are_the_target():
    clips = torch.arange(7.0).view(7, 1)  # normal 0, normal 1 with twin 2, normal 3, normal 4 with twin 5, normal 6
    inputs, targets = paired(clips, torch.tensor([0, 0, 1, 0, 0, 1, 0]))
    assert inputs.flatten().tolist() == [0, 2, 3, 5, 6]
    assert targets.flatten().tolist() == [0, 1, 3, 4, 6]


def test_without_twins_inputs_are_targets():
    clips = torch.rand(3, 2)
    inputs, targets = paired(clips, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(inputs, clips)
    assert torch.equal(targets, clips)


def test_the_loss_is_the_mean_over_all_numbers_of_all_clips():
    """Equations 4.4 and 4.5 in float64: the squared norm over T C H W, averaged over the batch."""
    rng = np.random.default_rng(0)
    output, normal = rng.uniform(-1, 1, (2, 3, 3, 8, 4, 4))
    expected = np.mean([np.linalg.norm((o - n).ravel()) ** 2 / (8 * 3 * 4 * 4) for o, n in zip(output, normal, strict=True)])
    assert float(reconstruction_loss(torch.tensor(output), torch.tensor(normal))) == pytest.approx(expected, rel=1e-6)


def test_the_loss_ignores_what_went_in():
    """Its gradient pulls the output towards the normal clip: where the output is that clip, there is none."""
    method = Reconstruction(anomaly_toys.config())
    method.autoencoder = torch.nn.Identity()
    normal, other = torch.rand(2, 2, 3, 8, 16, 16)
    assert float(method({"input": normal, "target": normal}, None, None)["loss"]) == 0
    assert float(method({"input": other, "target": normal}, None, None)["loss"]) == pytest.approx(float(F.mse_loss(other, normal)))


def losses(method: torch.nn.Module, batches: list[dict], name: str, lr: float) -> list[float]:
    spec = method.optimizers()["main"]
    settings = anomaly_toys.config().optim.model_dump()
    optim = OptimConfig(name=name, base_lr=lr, betas=settings["betas"], momentum=0.9, nesterov=False)
    optimizer = make_optimizer(spec.groups, optim, torch.device("cpu"))
    found = []
    for step, batch in enumerate(batches):
        loss = method(batch, BatchRandom(0, step), None)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_four_losses_of_an_autoencoder_are_pinned(float64):
    method = same_everywhere(Reconstruction(anomaly_toys.config()))
    frames = torch.from_numpy(np.stack([anomaly_toys.clip(8, seed)[:, :, 8:40] for seed in range(4)]))
    target = frames.permute(0, 4, 1, 2, 3).double() / 127.5 - 1
    changed = target.clone()
    changed[::2, :, :, 10:20, 10:20] = -1
    found = losses(method, [{"input": changed, "target": target}] * 4, "adamw", 1e-3)
    assert found == pytest.approx([0.3315636332, 0.3206085902, 0.3103866051, 0.3010287354], rel=1e-8)


def test_four_losses_of_the_discriminator_are_pinned(float64):
    method = same_everywhere(Discrimination(SemanticConfig(), 32))
    labels = (torch.arange(16) % 2).double()
    features = torch.from_numpy(np.random.default_rng(1).standard_normal((16, 32)))
    batch = {"features": features + labels[:, None], "label": labels}
    found = losses(method, [batch] * 4, "sgd", 0.02)
    assert found == pytest.approx([0.6536663009, 0.6093041665, 0.5388966698, 0.4623008327], rel=1e-8)
