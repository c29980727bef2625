"""Counting without numbers, against cases worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tasks.core.engine.counting import COPIES, Ledger, count_macs, counting
from tasks.core.engine.fake import fake, fake_copy
from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import Attention, Block, VideoTransformer
from tasks.core.profile import from_gradient, span


def test_a_small_computation():
    with FakeTensorMode(), Ledger() as ledger:
        a = torch.empty(100, 50)
        b = a.t() @ a  # 50 x 50
        assert (ledger.live, ledger.flops, ledger.kernels) == (4 * (5000 + 2500), 2 * 50 * 50 * 100, 1)
        assert ledger.bytes == 4 * (2 * 5000 + 2500)
        assert ledger.least_s(1e6, 1e6) == 2 * 50 * 50 * 100 / 1e6  # more operations than bytes
        del a
        c = b + 1
        del b
        assert (ledger.live, ledger.peak) == (4 * 2500, 4 * (5000 + 2500))
        ledger.restart()
        assert (ledger.peak, ledger.kernels) == (ledger.live, 0)
        assert c[0].sum().shape == ()
        assert ledger.bytes == 4 * (50 + 1)


def test_multiply_adds_of_layers():
    assert count_macs(nn.Linear(10, 20), torch.zeros(3, 7, 10)) == 3 * 7 * 10 * 20
    assert count_macs(nn.Conv3d(4, 8, 3, padding=1), torch.zeros(2, 4, 5, 6, 7)) == 2 * (5 * 6 * 7) * 8 * (4 * 27)
    assert count_macs(nn.ConvTranspose2d(4, 8, 2, stride=2), torch.zeros(1, 4, 5, 5)) == 25 * 4 * 8 * 4
    assert count_macs(nn.LSTM(8, 16), torch.zeros(5, 2, 8)) == 5 * 2 * (4 * 16) * (8 + 16)
    assert count_macs(nn.GRU(8, 16), torch.zeros(5, 2, 8)) == 5 * 2 * (3 * 16) * (8 + 16)
    assert count_macs(nn.LayerNorm(10), torch.zeros(3, 10)) == 0


def test_multiply_adds_of_attention_and_of_a_block():
    n, dim = 11, 24
    projections, scores_and_sums = 4 * n * dim**2, 2 * n**2 * dim
    assert count_macs(Attention(dim, 4), torch.zeros(2, n, dim)) == 2 * (projections + scores_and_sums)
    assert count_macs(Block(dim, 4), torch.zeros(2, n, dim)) == 2 * (projections + scores_and_sums + 8 * n * dim**2)
    seen = n - 5  # outputs of these only: keys and values of all
    last = (3 * n + seen) * dim**2 + 2 * seen * n * dim + 8 * seen * dim**2
    assert count_macs(Block(dim, 4), (torch.zeros(2, n, dim), 5)) == 2 * last


def test_a_layer_that_torch_would_run_as_one_kernel_counts_too():
    layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
    assert count_macs(layer, torch.zeros(2, 9, 16)) == 2 * 9 * (12 * 16**2 + 2 * 9 * 16)


def test_vit_base_on_16_frames():
    """180.5 "GFLOPs" in VideoMAE's tables, which are multiply-adds (and count norms): 12 blocks over 1568 tokens, and the embedding."""
    with torch.device("meta"):
        encoder, clip = VideoTransformer(VitConfig(size="base", frames=16, image_size=224)), torch.zeros(1, 16, 3, 224, 224)
    n, dim = 1568, 768
    by_hand = 12 * (12 * n * dim**2 + 2 * n**2 * dim) + n * 1536 * dim
    assert count_macs(encoder, clip) == by_hand
    assert by_hand == pytest.approx(180.5e9, rel=1e-3)


def test_a_function_counts_as_the_module_it_calls():
    layer = nn.Linear(10, 20)
    assert count_macs(lambda x, y: layer(x) @ y, (torch.zeros(3, 10), torch.zeros(20, 4))) == 3 * 10 * 20 + 3 * 20 * 4


def test_what_is_counted_stays_as_it_is():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_macs(module, torch.ones(3, 4))
    count_macs(module.eval().forward, torch.ones(3, 4))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert type(module[0].weight) is nn.Parameter


class Schedule:
    """Not a module, but holds a tensor."""

    def __init__(self):
        self.steps = {"all": [torch.ones(4)]}


def test_copies_share_what_the_module_shares():
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        module[1].weight = module[0].weight
        module.schedule = Schedule()
    with counting() as ledger:
        copied = fake_copy(module)
        assert copied[1].weight is copied[0].weight
        assert ledger.live == 4 * (16 + 4 + 4 + 4)
        assert copied(torch.zeros(2, 4) * copied.schedule.steps["all"][0]).device.type == "cpu"
        (copied, shape) = fake((torch.zeros(2), (3, 4)))
        assert (copied.shape, shape) == ((2,), (3, 4))
    assert module[0].weight.device.type == "meta"


def test_numbers_that_nobody_has_are_zero_and_choices_take_everything():
    with counting():
        x, mask, rows = torch.zeros(4, 5), torch.zeros(4, 5, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
        assert (float(x.sum()), int(x[0, 0]), bool(mask.any())) == (0.0, 0, False)
        assert x[mask].shape == (20,)
        assert x[rows].shape == (4, 5)
        assert x[rows, 1:3].shape == (4, 2)
        assert x[:, None][rows].shape == (4, 1, 5)
        assert x.masked_select(mask).shape == (20,)
        assert mask.nonzero().shape == (20, 2)
        assert torch.bincount(torch.zeros(9, dtype=torch.int64), minlength=7).shape == (7,)


def test_spans_are_parts():
    layer = nn.Linear(10, 20)
    with counting() as ledger:
        x = fake(torch.zeros(3, 10))
        ledger.restart()
        with span("first"):
            y = layer(x)
            with span("inner"):
                y = y @ torch.zeros(20, 5)
        from_gradient(y, "backward")
        y.sum().backward()
        assert ledger.flops_by_part() == {"first": 2 * 3 * 10 * 20, "inner": 2 * 3 * 20 * 5, "model": 2 * 3 * 20 * (10 + 5)}
        assert ledger.live_by_part()["inner"] == 4 * 3 * 5


def test_16_bit_copies_of_weights_are_told_apart():
    with torch.device("meta"):
        module = nn.Linear(10, 20)
    with counting() as ledger:
        layer, x = fake_copy(module), torch.zeros(3, 10)
        ledger.mark_parameters(layer)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
            assert ledger.live_by_part()[COPIES] == 2 * (200 + 20)
        y.sum().backward()
        assert layer.weight.grad.dtype == torch.float32


def test_autocast_casts_as_on_a_gpu():
    with counting(), torch.autocast("cpu", torch.bfloat16):
        x = torch.zeros(3, 10) @ torch.zeros(10, 10)
        assert x.dtype == torch.bfloat16
        for y in (x.softmax(-1), F.softmax(x, dim=-1), F.layer_norm(x, (10,)), nn.LayerNorm(10)(x), x.sum(), x.exp(), F.mse_loss(x, x)):
            assert y.dtype == torch.float32
        for y in (F.gelu(x), x + x, F.linear(x, x.T @ x)):
            assert y.dtype == torch.bfloat16
        assert torch.zeros(3, dtype=torch.bool).sum().dtype == torch.int64
        with torch.autocast("cpu", enabled=False):
            assert x.softmax(-1).dtype == torch.bfloat16
