"""What co-training takes for the truth, against brute force."""

import numpy as np
import pytest
import torch

from tasks.alignment import pseudo
from tasks.alignment.config import CotrainConfig

SEEN, TOLD = torch.ones(1, 30, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)


def bumps(*places: tuple[int, int]) -> torch.Tensor:
    """(1, K, 30): noise with a bump for each sentence."""
    values = torch.rand(1, len(places), 30, generator=torch.Generator().manual_seed(0)) * 0.3
    for row, (start, length) in zip(values[0], places, strict=True):
        row[start : start + length] += 0.5
    return values


def mask(*spans: tuple[int, int], length: int = 12) -> torch.Tensor:
    at = torch.arange(length)
    return torch.stack([(at >= a) & (at < b) for a, b in spans])[None]


@pytest.mark.parametrize("how", ["mean", "exclusive"])
def test_a_bump_is_found_and_the_duration_stays(how):
    places = [(5, 4), (12, 1), (20, 6), (9, 3)]
    durations = torch.tensor([[n for _, n in places]])
    starts, masks = pseudo.spans(bumps(*places), durations, SEEN, TOLD, how, 0.07)
    assert starts.tolist() == [[start for start, _ in places]]
    assert masks.sum(-1).tolist() == durations.tolist()


def test_only_the_public_rule_leaves_out_the_borders():
    places, told = [(0, 3), (27, 3)], torch.ones(1, 2, dtype=torch.bool)
    durations = torch.tensor([[3, 3]])
    starts, masks = pseudo.spans(bumps(*places), durations, SEEN, told, "mean", 0.07)
    assert (starts.tolist(), masks.sum(-1).tolist()) == ([[0, 27]], [[3, 3]])
    _, masks = pseudo.spans(bumps(*places), durations, SEEN, told, "exclusive", 0.07)
    assert not masks[..., 0].any()
    assert not masks[..., -1].any()


def test_nothing_is_found_in_padding():
    seen = SEEN.clone()
    seen[:, 20:] = False
    values = bumps((25, 4), (3, 2))
    starts, masks = pseudo.spans(values, torch.tensor([[4, 2]]), seen, torch.ones(1, 2, dtype=torch.bool), "mean", 0.07)
    assert starts[0, 0] <= 16
    assert not masks[..., 20:].any()


def test_times_change_where_both_agree():
    dual, joint, given = mask((0, 3), (5, 9), (1, 3)), mask((4, 7), (7, 11), (2, 4)), mask((8, 11), (0, 4), (9, 11))
    masks, changed = pseudo.agreed(dual, joint, given, CotrainConfig())
    assert changed.tolist() == [[False, True, True]]
    assert torch.equal(masks, mask((8, 11), (5, 11), (1, 4)))
    masks, changed = pseudo.agreed(dual, joint, given, CotrainConfig(agree_iou=0.5))
    assert changed.tolist() == [[False, False, False]]
    assert torch.equal(masks, given)


def test_overlaps_against_sets():
    draws = np.random.default_rng(0)
    first, second = (torch.from_numpy(draws.random((2, 5, 12)) < 0.4) for _ in range(2))
    for b in range(2):
        for k in range(5):
            one, two = (set(np.flatnonzero(each[b, k])) for each in (first, second))
            assert pseudo.iou(first, second)[b, k] == pytest.approx(len(one & two) / max(len(one | two), 1))


def test_a_feature_belongs_to_the_first_sentence_only():
    masks, given = mask((0, 4), (2, 6), (1, 3)), mask((0, 4), (2, 6), (8, 9))
    assert torch.equal(pseudo.first_only(masks, given), mask((0, 4), (4, 6), (8, 9)))


@pytest.mark.parametrize(("alpha", "count"), [(0.5, 50), (0.25, 25), (0.333, 34), (1.0, 100)])
def test_the_best_share(alpha, count):
    scores = torch.randn(100, generator=torch.Generator().manual_seed(0))
    kept = pseudo.best_share(scores, alpha)
    assert kept.sum() == count
    assert count == 100 or scores[kept].min() > scores[~kept].max()


def test_scores_are_means_at_the_times():
    similarity = torch.randn(1, 2, 12, generator=torch.Generator().manual_seed(0))
    found = pseudo.mean_scores(similarity, mask((2, 5), (0, 12)))
    torch.testing.assert_close(found, torch.stack([similarity[0, 0, 2:5].mean(), similarity[0, 1].mean()])[None])


def test_labels_by_both_medians():
    dual, joint = torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([1.0, 5, 3, 2, 4])
    assert pseudo.median_labels(dual, joint).tolist() == [0, -1, -1, -1, 1]
