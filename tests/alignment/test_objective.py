"""MIL-NCE and the alignability loss against hand values and a slow reference."""

import math

import pytest
import torch

from tasks.alignment.objective import alignability, correspondence

pytestmark = pytest.mark.usefixtures("float64")


def weights(positive: torch.Tensor) -> torch.Tensor:
    return torch.zeros(positive.shape).masked_fill(~positive, -torch.inf)


def loss(cosines: torch.Tensor, positive: torch.Tensor, temperature: float = 1.0, kept: torch.Tensor | None = None) -> float:
    """Of features whose cosines with sentences (N, M) are given."""
    right = positive if positive.is_floating_point() else weights(positive)
    return correspondence(cosines[None], torch.eye(cosines.shape[1])[None], right, temperature, kept).item()


def slow(cosines: torch.Tensor, positive: torch.Tensor, temperature: float) -> float:
    """Both directions, one after the other."""
    values, parts = (cosines / temperature).exp(), []
    for table, right in ((values.T, positive.T), (values, positive)):
        rows = [-math.log(row[own].sum() / row.sum()) for row, own in zip(table, right, strict=True) if own.any()]
        parts.append(sum(rows) / len(rows))
    return sum(parts) / 2


def test_two_sentences_and_four_features_by_hand():
    """Sentence 0 at features 0 and 1, sentence 1 at 3, all cosines 0: -log(2/4) and -log(1/4); each feature -log(1/2)."""
    positive = torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1]]).bool()
    expected = ((math.log(2) + math.log(4)) / 2 + math.log(2)) / 2
    assert loss(torch.zeros(4, 2), positive) == pytest.approx(expected)


def test_the_slow_reference_and_stages():
    draws = torch.Generator().manual_seed(0)
    cosines, positive = torch.rand(7, 5, generator=draws) * 2 - 1, torch.rand(7, 5, generator=draws) < 0.3
    assert loss(cosines, positive, 0.07) == pytest.approx(slow(cosines, positive, 0.07))
    stages = torch.stack([cosines, cosines / 2])
    both = correspondence(stages, torch.eye(5)[None], weights(positive), 0.07).item()
    assert both == pytest.approx((slow(cosines, positive, 0.07) + slow(cosines / 2, positive, 0.07)) / 2)


def test_one_more_positive_lowers_it_and_all_positive_is_nothing():
    cosines = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    one = torch.zeros(4, 2, dtype=torch.bool)
    one[0] = True
    two = one.clone()
    two[1] = True
    assert loss(cosines, two) < loss(cosines, one)
    assert loss(cosines, torch.ones(4, 2, dtype=torch.bool)) == pytest.approx(0)


def test_weights_of_positives_are_factors_inside_the_logarithm():
    right = torch.tensor([[0.0], [math.log(0.25)], [-torch.inf]])
    found = loss(torch.zeros(3, 1), right)
    assert found == pytest.approx((-math.log(1.25 / 3) + (0 - math.log(0.25)) / 2) / 2)


def test_sentences_that_are_not_kept_count_in_the_denominators_only():
    positive = torch.eye(3, dtype=torch.bool)
    cosines = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]])
    found = loss(cosines, positive, 1.0, torch.tensor([True, False, False]))
    assert found == pytest.approx(-math.log(math.e / (math.e + 2)))


def test_nothing_to_compare_is_zero_and_can_be_differentiated():
    video = torch.randn(1, 3, 2, requires_grad=True)
    value = correspondence(video, torch.randn(1, 2, 2), weights(torch.zeros(3, 2, dtype=torch.bool)), 0.07)
    value.backward()
    assert value.item() == 0
    assert (video.grad == 0).all()


def test_alignability_weighs_both_kinds_alike():
    """One positive against three negatives: it counts three times; what is ignored does not count."""
    logits = torch.tensor([0.3, -1.0, 0.2, 2.0, 9.0])
    labels = torch.tensor([1, 0, 0, 0, -1])
    parts = [3 * math.log1p(math.exp(-0.3)), *(math.log1p(math.exp(x)) for x in (-1.0, 0.2, 2.0))]
    assert alignability(logits, labels).item() == pytest.approx(sum(parts) / 4)
    assert alignability(logits, torch.tensor([1, 1, 1, -1, -1])).item() == 0
