"""Shapes and sizes of the networks, and the discriminator on what it can tell apart."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from tasks.anomalies.config import AutoencoderConfig, PretrainConfig
from tasks.anomalies.discriminator import Discriminator
from tasks.anomalies.method import Discrimination
from tasks.anomalies.model import Autoencoder
from tasks.anomalies.parts import optim_of
from tasks.core.engine.optim import make_optimizer
from tasks.core.engine.random import BatchRandom

# thesis table 4.2 with its missing row: channels, frames, side
LAYERS = [(96, 16, 128), (128, 8, 64), (256, 4, 32), (256, 2, 16), (256, 4, 32), (128, 8, 64), (96, 16, 128), (3, 16, 256)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_autoencoder_has_the_published_size():
    network = Autoencoder(AutoencoderConfig())
    assert parameters(network) == 5_991_171
    assert (parameters(network.encoder), parameters(network.decoder)) == (2_995_968, 2_995_203)


def test_every_layer_has_the_published_shape():
    with torch.device("meta"):
        network = Autoencoder(AutoencoderConfig())
        clip = torch.rand(2, 3, 16, 256, 256)
    shapes = []
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _given, out: shapes.append(tuple(out.shape)))
    assert network(clip).shape == clip.shape
    assert shapes == [(2, channels, frames, side, side) for channels, frames, side in LAYERS]


def test_the_output_has_the_shape_and_range_of_the_input():
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(image_size=32, width=0.1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(20)
    out = network(torch.rand(2, 3, 16, 32, 32) * 2 - 1)
    assert out.shape == (2, 3, 16, 32, 32)
    assert out.abs().max() <= 1
    assert out.abs().max() > 0.9


@pytest.mark.parametrize("width", [0.125, 0.01])
def test_width_scales_the_channels(width):
    network = Autoencoder(AutoencoderConfig(image_size=16, frames=8, width=width))
    expected = [max(1, round(c * width)) for c in (96, 128, 256, 256)]
    assert [m.out_channels for m in network.encoder if isinstance(m, nn.Conv3d)] == expected
    assert network(torch.zeros(2, 3, 8, 16, 16)).shape == (2, 3, 8, 16, 16)


def test_the_discriminator_has_the_published_size():
    assert parameters(Discriminator()) == 65_793


def test_normalized_features_lose_their_length():
    torch.manual_seed(0)
    features = torch.randn(4, 16)
    plain, unit = (Discriminator(16, 8, normalize) for normalize in (False, True))
    unit.load_state_dict(plain.state_dict())
    assert torch.allclose(unit(features), unit(7 * features), atol=1e-6)
    assert not torch.allclose(plain(features), plain(7 * features), atol=1e-3)


def test_the_discriminator_learns_shifted_gaussians_with_the_published_optimizer():
    config = PretrainConfig()
    torch.manual_seed(0)
    method = Discrimination(config.semantic, 512)
    spec = method.optimizers()["main"]
    optimizer = make_optimizer(spec.groups, optim_of(config, "semantic"), torch.device("cpu"))
    assert isinstance(optimizer, torch.optim.SGD)
    settings = optimizer.param_groups[0]
    assert {k: settings[k] for k in ("lr", "momentum", "weight_decay", "nesterov")} == {
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 1e-3,
        "nesterov": False,
    }
    assert len(optimizer.param_groups) == 1
    labels = torch.arange(2000) % 2
    features = torch.randn(2000, 512) + 0.2 * labels[:, None]
    train, test = slice(0, 1000), slice(1000, 2000)
    for step in range(300):
        rows = torch.from_numpy(np.random.default_rng(step).choice(1000, config.semantic.batch_size, replace=False))
        batch = {"features": features[train][rows], "label": labels[train][rows].float()}
        optimizer.zero_grad()
        method(batch, BatchRandom(0, step), None)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        probability = method.discriminator(features[test]).sigmoid().numpy()
    assert roc_auc_score(labels[test].numpy(), probability) > 0.99
