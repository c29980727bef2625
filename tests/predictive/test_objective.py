"""Candidates and the loss, against a slow reference that goes by the equation."""

import math

import pytest
import torch

from tasks.predictive import objective


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    score = objective.scores(objective.as_rows(predicted), objective.as_rows(target))
    return objective.prediction_loss(score, objective.positives(len(predicted), score.shape[0] // len(predicted)))


def by_the_equation(predicted: torch.Tensor, target: torch.Tensor) -> float:
    """Equation 2.5 of the thesis with four loops, as a mean."""
    places = [
        (b, i, y, x)
        for b in range(len(target))
        for i in range(target.shape[1])
        for y in range(target.shape[3])
        for x in range(target.shape[4])
    ]
    total = 0.0
    for b, i, y, x in places:
        query = predicted[b, i, :, y, x]
        products = {place: float(query @ target[place[0], place[1], :, place[2], place[3]]) for place in places}
        total -= products[b, i, y, x] - math.log(sum(math.exp(v) for v in products.values()))
    return total / len(places)


@pytest.mark.parametrize("shape", [(3, 2, 4, 2, 2), (1, 2, 4, 2, 2), (2, 1, 4, 2, 2), (2, 3, 4, 1, 1), (1, 1, 4, 1, 1)])
def test_the_loss_is_that_of_the_equation(shape):
    """With one clip there are no easy negatives, with one step no temporal, with one place no spatial ones."""
    predicted, target = maps(*shape), maps(*shape, seed=1)
    assert float(loss_of(predicted, target)) == pytest.approx(by_the_equation(predicted, target), abs=1e-10)


@pytest.mark.parametrize(("clips", "steps", "side"), [(2, 2, 2), (3, 3, 2), (1, 3, 2), (3, 1, 2), (3, 3, 1)])
def test_how_many_candidates_there_are_of_each_kind(clips, steps, side):
    kinds = objective.candidate_kinds(clips, steps, side * side)
    expected = {1: 1, -1: steps - 1, -3: (side**2 - 1) * steps, 0: (clips - 1) * side**2 * steps}
    for kind, count in expected.items():
        assert ((kinds == kind).sum(1) == count).all()
    if (clips, steps, side) == (2, 2, 2):
        assert list(expected.values()) == [1, 1, 6, 8]
    right = objective.positives(clips, steps * side**2)
    assert torch.equal((kinds == 1).int().argmax(1), right)


def test_equal_features_give_the_logarithm_of_their_number():
    alike = maps(1, 1, 8, 1, 1).expand(3, 2, 8, 2, 2)
    assert float(loss_of(maps(3, 2, 8, 2, 2), alike)) == pytest.approx(math.log(3 * 2 * 4), abs=1e-5)
    assert float(loss_of(torch.zeros(3, 2, 8, 2, 2).double(), maps(3, 2, 8, 2, 2))) == pytest.approx(math.log(24), abs=1e-5)
    assert round(math.log(64 * 3 * 16), 3) == 8.030


def test_the_order_of_time_matters_and_that_of_clips_does_not():
    predicted, target = maps(3, 2, 4, 2, 2), maps(3, 2, 4, 2, 2, seed=1)
    whole = loss_of(predicted, target)
    assert abs(loss_of(predicted, target.flip(1)) - whole) > 1e-3
    torch.testing.assert_close(loss_of(predicted[[2, 0, 1]], target[[2, 0, 1]]), whole)


def test_own_clips_may_begin_anywhere_among_the_candidates():
    predicted, target = maps(2, 2, 4, 2, 2), maps(5, 2, 4, 2, 2, seed=1)
    score = objective.scores(objective.as_rows(predicted), objective.as_rows(target))
    assert score.shape == (16, 40)
    right = objective.positives(2, 8, first=3)
    direct = (predicted * target[3:]).sum(2)  # of each vector with its own
    assert torch.allclose(score[torch.arange(16), right], direct.flatten())


def test_accuracy_and_entropy():
    score = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    right = torch.arange(3)
    assert objective.accuracy(score, right) == pytest.approx(100 / 3)
    assert objective.accuracy(score, right, 2) == pytest.approx(200 / 3)
    assert objective.accuracy(score, right, 9) == 100
    assert objective.entropy(torch.tensor([0.25] * 4), 0) == pytest.approx(math.log(4))
    assert objective.entropy(torch.tensor([1.0, 0.0]), 0) == 0
