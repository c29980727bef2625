import torch
from torch import nn

from tasks.core.nn.momentum import follow, follower


def test_a_follower_moves_by_the_formula_and_gets_no_gradient():
    leader = nn.Linear(3, 2, dtype=torch.float64)
    slow = follower(leader)
    assert not any(p.requires_grad for p in slow.parameters())
    before = [p.clone() for p in slow.parameters()]
    with torch.no_grad():
        for parameter in leader.parameters():
            parameter.add_(1.0)
    follow(slow.parameters(), leader.parameters(), 0.9)
    for old, new, fast in zip(before, slow.parameters(), leader.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * fast, rtol=1e-14, atol=1e-15)


def test_buffers_stay_the_followers_own():
    leader = nn.BatchNorm1d(2)
    slow = follower(leader)
    leader(torch.randn(8, 2) + 5)
    follow(slow.parameters(), leader.parameters(), 0.0)
    assert slow.running_mean.abs().max() == 0
