"""The losses against slow references in float64, and what is mined."""

import math

import numpy as np
import pytest
import torch

from tasks.contrastive import objective

B, K, D = 5, 12, 6


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (B, 1 + K) and positives."""
    draws = np.random.default_rng(seed)
    positive = draws.random((B, 1 + K)) < 0.3
    positive[:, 0] = True
    return torch.from_numpy(3 * draws.standard_normal((B, 1 + K))), torch.from_numpy(positive)


def test_scores_are_cosines_over_the_temperature():
    query, key = (torch.nn.functional.normalize(torch.randn(B, D, dtype=torch.float64), dim=1) for _ in range(2))
    queue = torch.nn.functional.normalize(torch.randn(K, D, dtype=torch.float64), dim=1)
    scores = objective.logits(query, key, queue, 0.07)
    for row in range(B):
        assert scores[row, 0].item() == pytest.approx(float(query[row] @ key[row]) / 0.07)
        assert scores[row, 4].item() == pytest.approx(float(query[row] @ queue[3]) / 0.07)


def test_losses_as_written_down():
    scores, positive = drawn()
    inside, outside, own = [], [], []
    for row, chosen in zip(scores.tolist(), positive.tolist(), strict=True):
        powers = [math.exp(value) for value in row]
        shares = [power / sum(powers) for power in powers]
        taken = [share for share, yes in zip(shares, chosen, strict=True) if yes]
        inside.append(-math.log(sum(taken)))
        outside.append(-sum(map(math.log, taken)) / len(taken))
        own.append(-math.log(shares[0]))
    assert objective.inside_log(scores, positive).item() == pytest.approx(np.mean(inside), rel=1e-12)
    assert objective.outside_log(scores, positive).item() == pytest.approx(np.mean(outside), rel=1e-12)
    assert objective.info_nce(scores).item() == pytest.approx(np.mean(own), rel=1e-12)


@pytest.mark.parametrize("loss", [objective.inside_log, objective.outside_log])
def test_the_own_key_alone_is_cross_entropy(loss):
    scores, _ = drawn()
    own = torch.zeros_like(scores, dtype=torch.bool)
    own[:, 0] = True
    assert loss(scores, own).item() == pytest.approx(objective.info_nce(scores).item(), rel=1e-12)


def test_all_positive_is_no_loss_and_one_more_never_costs():
    scores, positive = drawn()
    assert objective.inside_log(scores, torch.ones_like(positive)).item() == pytest.approx(0, abs=1e-12)
    before = objective.inside_log(scores, positive)
    for row, column in (~positive).nonzero().tolist():
        more = positive.clone()
        more[row, column] = True
        assert objective.inside_log(scores, more) < before


def test_equal_scores_cost_the_logarithm_of_their_number():
    assert objective.info_nce(torch.zeros(3, 2049, dtype=torch.float64)).item() == pytest.approx(7.625107, abs=1e-6)


def test_gradients_are_finite_where_scores_are_far_apart():
    scores = torch.tensor([[900.0, -900.0, 0.0]], dtype=torch.float64, requires_grad=True)
    objective.inside_log(scores, torch.tensor([[False, True, False]])).backward()
    assert torch.isfinite(scores.grad).all()


def test_what_is_mined():
    similarity = torch.from_numpy(np.random.default_rng(0).standard_normal((B, K)))
    source = torch.tensor([0, 1, 2, 3, 99])
    queued = torch.tensor([0, 1, 2, 3, 0, 5, 6, 7, 8, 9, 10, 0])
    mined, own = objective.mine(similarity, source, queued, 3)
    assert mined.sum(1).tolist() == [3] * B
    assert own.sum(1).tolist() == [3, 1, 1, 1, 0]
    assert not (mined & own).any()
    for row in range(B):
        allowed = [place for place in range(K) if queued[place] != source[row]]
        best = sorted(allowed, key=lambda place: -similarity[row, place])[:3]
        assert mined[row].nonzero()[:, 0].tolist() == sorted(best)
    none, _ = objective.mine(similarity, source, queued, 0)
    assert not none.any()


def test_nothing_is_mined_where_the_queue_is_empty():
    queued = torch.full((K,), -1)
    queued[2] = 7
    mined, own = objective.mine(torch.ones(2, K), torch.tensor([1, 7]), queued, 4)
    assert mined.nonzero().tolist() == [[0, 2]]
    assert own.nonzero().tolist() == [[1, 2]]


def test_the_own_key_stays_where_it_is_the_only_positive():
    positive = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    assert torch.equal(objective.without_own_key(positive, torch.tensor(False)), positive)
    dropped = objective.without_own_key(positive, torch.tensor(True))
    assert dropped.tolist() == [[True, False, False], [False, True, False], [False, True, True]]


def test_hit_rate():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    own = torch.tensor([[True, False, False], [True, False, False]])
    assert [objective.hit_rate(scores, own, k).item() for k in (1, 2, 5)] == [0.5, 0.5, 1.0]
