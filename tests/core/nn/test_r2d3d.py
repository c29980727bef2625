"""The encoder of DPC and MemDPC: sizes as counted in the papers' code, what sees what, the recurrent unit by hand."""

import pytest
import torch
from pinned import same_everywhere
from torch.nn import functional as F

from tasks.core.errors import UsageError
from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.r2d3d import BlockEncoder, ConvGRU
from tasks.core.nn.shared_norm import share_norms

TINY = {"width": 4, "image_size": 64, "block_frames": 5, "predict": 2}


def encoder(**changes) -> BlockEncoder:
    torch.manual_seed(0)
    return BlockEncoder(R2D3DConfig(**{**TINY, **changes})).eval()


def clips(n: int = 2, blocks: int = 4, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, blocks * 5, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "parameters"), [("resnet18", 14_057_536), ("resnet34", 32_422_208)])
def test_the_published_sizes(size, parameters):
    with torch.device("meta"):
        built = BlockEncoder(R2D3DConfig(size=size))
        assert sum(p.numel() for p in built.backbone.parameters()) == parameters
        assert sum(p.numel() for p in built.aggregator.parameters()) == 393_984
        for side in (128, 224):
            assert built.backbone(torch.empty(3, 3, 5, side, side)).shape == (3, 256, 2, side // 32, side // 32)
            assert built.outputs(torch.empty(1, 40, 3, side, side))["map"].shape == (1, 8, 256, side // 32, side // 32)


def test_early_stages_see_single_frames_and_features_are_signed():
    built = encoder()
    kernels = {name: p.shape[2] for name, p in built.backbone.named_parameters() if p.ndim == 5 and "downsample" not in name}
    assert all(depth == (3 if name.startswith(("layer3", "layer4")) else 1) for name, depth in kernels.items())
    with torch.no_grad():
        z = built.outputs(clips())["map"]
    assert (z < 0).float().mean() > 0.2


def test_a_block_sees_only_its_own_frames():
    built, video = encoder(), clips(1)
    other = video.clone()
    other[:, 10:15] += torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        changed = (built.outputs(video)["map"] - built.outputs(other)["map"]).abs().amax((0, 2, 3, 4))
    assert (changed > 0).tolist() == [False, False, True, False]


def test_statistics_of_the_batch_or_running_ones():
    """DPC's norms take those of the blocks at hand, in evaluation mode too."""
    for statistics in ("running", "batch"):
        built, video = encoder(statistics=statistics), clips(2)
        before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
        with torch.no_grad():
            both, first = built.outputs(video)["map"][:1], built.outputs(video[:1])["map"]
            built.train()
            training = built.outputs(video)["map"][:1]
            built.eval()
            built.load_state_dict(before)
            share_norms(built)
            built.eval()
            shared = built.outputs(video)["map"][:1]
        assert torch.allclose(both, first, atol=1e-4) == (statistics == "running")
        assert torch.allclose(both, training, atol=1e-4) == (statistics == "batch")
        assert torch.allclose(both, shared, atol=1e-5)


def test_a_context_knows_its_own_place_only():
    torch.manual_seed(0)
    unit = ConvGRU(4, 0.1).eval()
    maps = torch.randn(1, 3, 4, 2, 2)
    other = maps.clone()
    other[:, 1, :, 0, 1] += 1
    with torch.no_grad():
        changed = (unit(maps) - unit(other)).abs().amax((0, 2))
    assert (changed[0] == 0).all()
    assert (changed[1:] > 0).tolist() == [[[False, True], [False, False]]] * 2


def test_the_recurrent_unit_by_its_equations(float64):
    unit = same_everywhere(ConvGRU(3, 0.0), 0.3)
    x = torch.randn(2, 2, 3, 1, 1)
    state = torch.zeros(2, 3)

    def gate(layer, *parts):
        return torch.cat(parts, 1) @ layer.weight.flatten(1).T + layer.bias

    states = []
    for step in range(2):
        now = x[:, step, :, 0, 0]
        update, reset = (torch.sigmoid(gate(layer, now, state)) for layer in (unit.update_gate, unit.reset_gate))
        new = torch.tanh(gate(unit.out_gate, now, reset * state))
        state = (1 - update) * state + update * new
        if step == 0:
            assert torch.allclose(state, update * new)
        states.append(state)
    torch.testing.assert_close(unit(x)[..., 0, 0], torch.stack(states, 1))


def test_dropped_states_are_carried_on():
    unit = ConvGRU(64, 0.5).train()
    states = unit(torch.randn(4, 2, 64, 1, 1))
    for step in range(2):  # the whole state is dropped, not what is new in it
        assert 0.35 < (states[:, step] == 0).float().mean() < 0.65
    lost = states[:, 0] == 0
    torch.manual_seed(0)
    second = unit.step(torch.zeros(4, 64, 1, 1), states[:, 0])
    torch.manual_seed(0)
    expected = unit.step(torch.zeros(4, 64, 1, 1), torch.where(lost, 0.0, states[:, 0]))
    assert torch.equal(second, expected)


def test_what_a_classifier_sees_is_the_context_of_all_blocks_both_ways():
    built, video = encoder(bidirectional=True), clips()
    with torch.no_grad():
        out, maps = built.outputs(video), built.maps(video)
        rectified = F.relu(maps).mean(3)
        forwards, backwards = built.aggregator(rectified)[:, -1], built.backward_aggregator(rectified.flip(1))[:, -1]
        z = F.relu(maps.mean(3))
        torch.testing.assert_close(out["context"], built.aggregator(z[:, :2])[:, -1])
        torch.testing.assert_close(out["context_backward"], built.backward_aggregator(z[:, 2:].flip(1))[:, -1])
    torch.testing.assert_close(out["tokens"].mean(1), torch.cat([forwards, backwards], 1).mean((2, 3)))
    assert out["tokens"].shape == (2, 4, built.dim) == (2, 4, 32)


def test_clips_that_cannot_be_cut_into_blocks_are_refused():
    with pytest.raises(UsageError, match="clips of 7 frames cannot be cut into blocks of 5"):
        encoder().outputs(torch.zeros(1, 7, 3, 64, 64))
