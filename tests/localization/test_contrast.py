"""The contrast over videos and inside of them, and how its negatives are chosen."""

import math

import localization_toys as toys
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.localization.config import STREAMS, ContrastConfig
from tasks.localization.contrast import group, hard_negatives, inter_loss, intra_loss, scale_of
from tasks.localization.targets import token_labels

SCALE = torch.tensor(1 / 0.07)


def test_contrast_of_one_video_is_zero_and_of_equal_ones_ln_b(float64):
    torch.manual_seed(0)
    assert inter_loss(torch.randn(1, 8), torch.randn(1, 8), SCALE).item() == pytest.approx(0, abs=1e-12)
    same = torch.randn(1, 8).expand(5, -1)
    assert inter_loss(same, same, SCALE).item() == pytest.approx(math.log(5))


def test_order_of_a_batch_does_not_matter_and_pairs_do(float64):
    torch.manual_seed(0)
    first, second = torch.randn(6, 8), torch.randn(6, 8)
    order = torch.randperm(6)
    loss = inter_loss(first, second, SCALE)
    assert inter_loss(first[order], second[order], SCALE).item() == pytest.approx(loss.item())
    assert inter_loss(first, first + 0.1 * second, SCALE) < loss


def test_scales_have_an_end():
    assert scale_of(torch.tensor(math.log(1 / 0.07))).item() == pytest.approx(1 / 0.07, rel=1e-5)
    assert scale_of(torch.tensor(9.0)).item() == 100


def brute_negatives(inside, mask, scores, taken, label, dilation, share):
    """Of one group, token by token."""
    length = int(mask.sum())
    near = {t + d for t in np.flatnonzero(inside) for d in range(-dilation, dilation + 1)}
    background = [t for t in range(length) if t not in near]
    alike = [t for t in background if taken[t] == label]
    ranked = sorted(alike or background, key=lambda t: -scores[t])
    return ranked[: max(1, length // share)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("dilation", "share"), [(4, 8), (0, 3), (2, 40)])
def test_negatives_are_background_of_the_right_class_the_surest_first(seed: int, dilation: int, share: int):
    draws = np.random.default_rng(seed)
    batch = toys.batch((60, 45, 30), events=2, seed=seed)
    mask, size = batch["mask"], 60
    truth = torch.stack([token_labels(s, k, size, 3) for s, k in zip(batch["segments"], batch["labels"], strict=True)])
    scores = torch.from_numpy(draws.standard_normal((3, size)))
    taken = torch.from_numpy(draws.integers(0, 3, (3, size)))
    groups = group(truth, mask, dilation)
    tokens, counted = hard_negatives(groups, scores, taken, mask.sum(1), share)
    assert len(groups.video)
    for number, (video, label) in enumerate(zip(groups.video.tolist(), groups.label.tolist(), strict=True)):
        inside = (truth[video] & mask[video, :, None]).any(-1).numpy()
        expected = brute_negatives(inside, mask[video], scores[video].tolist(), taken[video].tolist(), label, dilation, share)
        found = tokens[number][counted[number]].tolist()
        assert found == expected
        assert not inside[found].any()
        assert torch.equal(groups.keys[number], truth[video, :, label] & mask[video])


def given(seed: int = 0, size: int = 40):
    batch = toys.batch((size, size - 9), events=1, seed=seed)
    torch.manual_seed(seed)
    truth = torch.stack([token_labels(s, k, size, 3) for s, k in zip(batch["segments"], batch["labels"], strict=True)])
    tokens = {name: torch.randn(2, size, 8) for name in STREAMS}
    scores = {name: torch.randn(2, size) for name in STREAMS}
    classes = {name: torch.randn(2, size, 3) for name in STREAMS}
    return tokens, scores, classes, truth, batch["mask"]


def test_the_contrast_inside_of_videos_is_infonce(float64):
    """Against loops over videos, their one class, and both modalities."""
    tokens, scores, classes, truth, mask = given()
    total, videos = intra_loss(tokens, scores, classes, truth, mask, ContrastConfig(), SCALE)
    expected = 0.0
    for video in range(2):
        inside = (truth[video] & mask[video, :, None]).any(-1)
        label = int(truth[video].any(0).nonzero()[0])
        queries = {name: F.normalize(tokens[name][video][inside].mean(0), dim=0) for name in STREAMS}
        for name, other in zip(STREAMS, reversed(STREAMS), strict=True):
            taken = classes[name][video].argmax(-1)
            chosen = brute_negatives(inside.numpy(), mask[video], scores[name][video].tolist(), taken.tolist(), label, 4, 8)
            against = F.normalize(tokens[name][video][chosen], dim=-1) @ queries[name]
            logits = SCALE * torch.cat([(queries[name] @ queries[other])[None], against])
            expected -= logits.log_softmax(0)[0] / 2
    assert videos == 2
    assert total.item() == pytest.approx(expected.item())


def test_it_falls_as_the_modalities_align_and_rises_as_negatives_do(float64):
    tokens, scores, classes, truth, mask = given()
    arguments = (scores, classes, truth, mask, ContrastConfig(), SCALE)
    plain = intra_loss(tokens, *arguments)[0]
    inside = truth.any(-1)[..., None]
    aligned = {**tokens, "audio": torch.where(inside, tokens["visual"], tokens["audio"])}
    assert intra_loss(aligned, *arguments)[0] < plain
    means = torch.stack([tokens["visual"][video][inside[video, :, 0]].mean(0) for video in range(2)])
    alike = {**tokens, "visual": torch.where(inside, tokens["visual"], means[:, None])}
    assert intra_loss(alike, *arguments)[0] > plain


def test_scores_choose_and_get_no_gradient(float64):
    tokens, scores, classes, truth, mask = given()
    leaves = [*tokens.values(), *scores.values(), *classes.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    intra_loss(tokens, scores, classes, truth, mask, ContrastConfig(), SCALE)[0].backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in tokens.values())
    assert all(x.grad is None for x in (*scores.values(), *classes.values()))
    other = {name: -x for name, x in scores.items()}
    changed = intra_loss(tokens, other, classes, truth, mask, ContrastConfig(), SCALE)[0]
    assert changed.item() != intra_loss(tokens, scores, classes, truth, mask, ContrastConfig(), SCALE)[0].item()


def test_random_negatives_are_a_control_that_asks_no_score(float64):
    tokens, scores, classes, truth, mask = given()
    random = torch.rand(mask.shape)
    found = [
        intra_loss(tokens, each, classes, truth, mask, ContrastConfig(), SCALE, random)[0].item()
        for each in (scores, classes and {n: -x for n, x in scores.items()})
    ]
    assert found[0] == found[1]
    assert intra_loss(tokens, scores, classes, truth, mask, ContrastConfig(), SCALE, 1 - random)[0].item() != found[0]


@pytest.mark.parametrize("case", ["no event", "no background", "no token of that class"])
def test_empty_cases_are_finite(case: str):
    tokens, scores, classes, truth, mask = given()
    leaf = tokens["visual"].requires_grad_()
    scale = torch.tensor(14.0, requires_grad=True)
    if case == "no event":
        truth = torch.zeros_like(truth)
    elif case == "no background":
        truth = truth | truth.any(1, keepdim=True)
    else:
        classes = {name: F.one_hot(torch.full(mask.shape, 2), 3).float() for name in STREAMS}
        truth = truth.roll(1, -1) & torch.tensor([True, True, False])
    total, videos = intra_loss(tokens, scores, classes, truth, mask, ContrastConfig(), scale)
    total.backward()
    assert total.isfinite()
    assert leaf.grad.isfinite().all()
    assert scale.grad is None or scale.grad.isfinite()
    assert videos == 0 or case == "no token of that class"


def test_concurrent_events_are_groups_of_their_own():
    truth = torch.zeros(1, 30, 3, dtype=torch.bool)
    truth[0, 3:9, 0] = truth[0, 6:12, 2] = True
    groups = group(truth, torch.ones(1, 30, dtype=torch.bool), 4)
    assert groups.label.tolist() == [0, 2]
    assert groups.keys[0].nonzero().flatten().tolist() == list(range(3, 9))
    assert groups.background[1].nonzero().flatten().tolist() == list(range(16, 30))
