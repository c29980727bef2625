"""The encoder: shapes, TSM, and a plain ResNet where both are passed over."""

import pytest
import torch
import torchvision

from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.resnet_tsm import MotionResNet, temporal_shift


def without_head(resnet):
    return torch.nn.Sequential(*list(resnet.children())[:-2])


@pytest.fixture(scope="module")
def pair():
    """Ours and torchvision's ResNet-50 with the same weights."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50()
    ours = MotionResNet(ResNetConfig())
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("motion.") for name in missing)
    return ours, without_head(theirs)


def test_shapes_from_stage_to_stage():
    model, seen = MotionResNet(ResNetConfig()), {}
    for name in ("layer1", "layer2", "motion", "layer3", "layer4"):
        getattr(model, name).register_forward_hook(lambda module, given, out, name=name: seen.update({name: tuple(out.shape)}))
    with torch.no_grad():
        out = model.eval()(torch.randn(8, 3, 224, 224), 4)
    assert seen == {
        "layer1": (8, 256, 56, 56),
        "layer2": (8, 512, 28, 28),
        "motion": (8, 512, 28, 28),
        "layer3": (8, 1024, 14, 14),
        "layer4": (8, 2048, 7, 7),
    }
    assert out.shape[1] == model.channels == 2048


@pytest.mark.parametrize("training", [False, True])
def test_without_segments_it_is_torchvisions_resnet_bit_for_bit(pair, training):
    frames = torch.randn(2, 3, 64, 64)
    ours, theirs = (model.train(training)(frames) for model in pair)
    assert torch.equal(ours, theirs)


def test_basic_blocks_are_torchvisions_too():
    theirs = torchvision.models.resnet18()
    ours = MotionResNet(ResNetConfig(size="resnet18", shift=False, motion=None))
    ours.load_state_dict({name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")})
    frames = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(frames, 2), without_head(theirs)(frames))


def test_an_impulse_moves_with_the_channel():
    x = torch.zeros(8, 16, 1, 1)  # two clips of four frames
    for channel in (0, 2, 5):  # the first fold, the second, the rest
        x[1, channel] = 1.0
    shifted = temporal_shift(x, 4, 8).flatten(1)
    expected = torch.zeros(8, 16)
    expected[2, 0] = expected[0, 2] = expected[1, 5] = 1.0
    assert torch.equal(shifted, expected)


def test_nothing_crosses_the_ends_of_a_clip():
    x = torch.ones(8, 16, 1, 1)
    shifted = temporal_shift(x, 4, 8).unflatten(0, (2, 4))
    assert not shifted[:, 0, :2].any()
    assert not shifted[:, -1, 2:4].any()
    assert shifted.sum() == 8 * 16 - 2 * 4


def test_the_shortcut_sees_unshifted_features():
    block = MotionResNet(ResNetConfig(size="resnet18", width=16, motion=None)).layer1[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)  # the branch adds nothing
    x = torch.rand(8, 16, 4, 4)
    assert torch.equal(block(x, 4), x)
    torch.nn.init.ones_(block.bn2.weight)
    assert not torch.equal(block(x, 4), block(x, None))


def test_a_clip_does_not_see_another():
    model = MotionResNet(ResNetConfig(size="resnet18", width=8)).eval()
    frames = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        both = model(frames, 4)
        frames[4:] = 0
        assert torch.allclose(model(frames, 4)[:4], both[:4], atol=1e-6)
        assert not torch.allclose(model(frames.flip(0), 4)[4:].flip(0), both[:4], atol=1e-2)  # but it does see time


def test_every_parameter_gets_a_gradient_from_a_clip():
    model = MotionResNet(ResNetConfig(size="resnet18", width=8))
    model(torch.randn(4, 3, 64, 64), 2).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_layers_for_layer_wise_learning_rates():
    model = MotionResNet(ResNetConfig(size="resnet18", width=8))
    names = (
        "conv1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer2.1.bn2.bias",
        "motion.transform.0.0.weight",
        "layer4.0.conv1.weight",
    )
    assert [model.layer_of(name) for name in names] == [0, 0, 1, 2, 2, 4]
    assert all(model.layer_of(name) in range(model.depth + 1) for name, _ in model.named_parameters())
