"""Which slots of the memory are used."""

import numpy as np
import pytest
import torch
from pinned import same_everywhere

from tasks.core.nn.config import R2D3DConfig
from tasks.predictive.config import MemDPCConfig
from tasks.predictive.model import PredictiveCoder
from tasks.predictive.visualize import slot_use, usage_text


@pytest.fixture
def coder(float64):
    model = R2D3DConfig(width=4, image_size=32, block_frames=2, predict=1, bidirectional=True)
    return same_everywhere(PredictiveCoder(model, MemDPCConfig(slots=6)), vectors=0.5)


def test_use_is_the_mean_address(coder):
    clips = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4, 3, 32, 32)))
    use = slot_use(coder, clips)
    assert coder.training
    with torch.no_grad():
        expected = torch.cat([way.addresses for way in coder.eval()(clips)]).mean((0, 1, 3, 4))
    torch.testing.assert_close(use, expected, rtol=1e-9, atol=1e-12)
    assert use.sum() == pytest.approx(1)


def test_a_slot_that_wins_everywhere(coder):
    with torch.no_grad():
        coder.predictor[2].bias.copy_(torch.tensor([0.0, 0, 80.0, 0, 0, 0]))
    use = slot_use(coder, torch.zeros(1, 4, 3, 32, 32))
    assert use.argmax() == 2
    assert usage_text(use) == "memory: 0.0% of the largest entropy, as 1 of 6 slots used alike"


def test_what_is_said_of_even_and_half_use():
    assert usage_text(torch.full((8,), 1 / 8, dtype=torch.float64)) == "memory: 100.0% of the largest entropy, as 8 of 8 slots used alike"
    half = torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64)
    assert usage_text(half) == "memory: 50.0% of the largest entropy, as 2 of 4 slots used alike"
    assert usage_text(torch.ones(1)) == "memory: 100.0% of the largest entropy, as 1 of 1 slots used alike"
