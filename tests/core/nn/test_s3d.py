"""S3D: sizes of the published network, shapes, isolation."""

import pytest
import torch

from tasks.core.nn.config import S3DConfig
from tasks.core.nn.encoders import build_for, usable_weights, without_projection
from tasks.core.nn.s3d import S3D


def test_as_many_parameters_as_published():
    with torch.device("meta"):
        network = S3D(S3DConfig(projection=128))
    head = sum(p.numel() for p in network.projection.parameters())
    assert head == 1_180_800
    assert sum(p.numel() for p in network.parameters()) - head == 7_910_048


def test_shapes_on_the_way():
    shapes = {}
    with torch.device("meta"):
        network = S3D(S3DConfig(projection=128))
        for name, module in network.named_children():
            module.register_forward_hook(lambda module, given, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
        out = network.outputs(torch.empty(2, 32, 3, 128, 128))
    assert shapes["conv_1a"] == (64, 16, 64, 64)
    assert shapes["conv_2c"] == (192, 16, 32, 32)
    assert shapes["mixed_3c"] == (480, 16, 16, 16)
    assert shapes["mixed_4f"] == (832, 8, 8, 8)
    assert shapes["mixed_5c"] == (1024, 4, 4, 4)
    assert {name: tuple(tensor.shape) for name, tensor in out.items()} == {
        "map": (2, 1024, 4, 4, 4),
        "pooled": (2, 1024),
        "projection": (2, 128),
    }


def test_convolutions_begin_as_published():
    torch.manual_seed(0)
    network = S3D(S3DConfig(projection=16))
    for name, parameter in network.named_parameters():
        if parameter.ndim == 5 and not name.startswith("projection.") and parameter.numel() > 10_000:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05), name
            assert abs(parameter.mean().item()) < 5e-4, name


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_short_clips_have_features_too(frames):
    network = S3D(S3DConfig(width=0.05, image_size=32, projection=4)).eval()
    with torch.no_grad():
        out = network.outputs(torch.randn(2, frames, 3, 32, 32))
    assert out["map"].shape[2:] == (1, 1, 1)
    torch.testing.assert_close(out["projection"].norm(dim=1), torch.ones(2))


def test_a_projection_head_can_be_left_out():
    settings = S3DConfig(width=0.05, image_size=32, projection=4)
    whole = S3D(settings).eval()
    bare = S3D(without_projection(settings)).eval()
    assert without_projection(bare.config) == bare.config
    bare.load_state_dict(usable_weights(bare, whole.state_dict()))
    clips = torch.randn(2, 8, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(bare.outputs(clips)["pooled"], whole.outputs(clips)["pooled"])
    assert set(build_for(settings, whole.state_dict()).state_dict()) == set(whole.state_dict())


def test_a_single_clip_with_one_place_left_can_be_learned_from():
    """Its last maps have no statistics of their own; earlier ones have."""
    network = S3D(S3DConfig(width=0.05, image_size=32, projection=4)).train()
    network.outputs(torch.randn(1, 8, 3, 32, 32))["projection"].sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert network.conv_1a.bn1.num_batches_tracked == 1
    assert network.mixed_5c.branch0[0].bn.num_batches_tracked == 0
