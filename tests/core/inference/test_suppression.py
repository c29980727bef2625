"""Suppression of segments against a slow reference, and against the compiled code of ActionFormer and UnAV."""

import json
import math

import numpy as np
import pytest
import torch

from tasks.core.inference.suppression import suppress


def reference(segments, scores, labels, *, sigma, min_score, max_keep, method, iou):
    """Python floats, one class after the other; equal scores as the swaps of the compiled code leave them."""
    kept = []
    for label in sorted(set(labels)):
        left = [[score, *segment] for segment, score, other in zip(segments, scores, labels, strict=True) if other == label]
        if method == "hard":
            left = sorted((one for one in left if one[0] > min_score), key=lambda one: -one[0])
        done = []
        while left:
            at = max(range(len(left)), key=lambda i: (left[i][0], -i))
            best, left[at] = left[at], left[0]
            left.pop(0)
            done.append((label, best))
            left = [[score * _falls(best, (start, end), method, sigma, iou), start, end] for score, start, end in left]
            if method == "hard":
                left = [one for one in left if one[0] > 0]
                continue
            i = 0
            while i < len(left):
                if left[i][0] < min_score:
                    last = left.pop()
                    if i < len(left):
                        left[i] = last
                else:
                    i += 1
        kept += done
    kept.sort(key=lambda entry: -entry[1][0])
    kept = kept[:max_keep]
    return [one[1:] for _, one in kept], [one[0] for _, one in kept], [label for label, _ in kept]


def _falls(best, other, method, sigma, iou):
    shared = max(0.0, min(best[2], other[1]) - max(best[1], other[0]))
    overlap = shared / ((best[2] - best[1] + 1e-6) + (other[1] - other[0] + 1e-6) - shared)
    if method == "gaussian":
        return math.exp(-(overlap**2) / sigma)
    return 1 if overlap < iou else 1 - overlap if method == "linear" else 0


def segments(seed, n, classes, ties):
    """Segments that overlap much; with `ties`, of a few positions and scores only."""
    random = np.random.default_rng(seed)
    starts, lengths, scores = random.uniform(0, 30, n), random.uniform(0.1, 8, n), random.uniform(0, 1, n)
    if ties:
        starts, lengths, scores = np.round(starts), np.round(lengths), np.ceil(scores * 5) / 5
    return np.stack([starts, starts + lengths], 1), scores, random.integers(0, classes, n) * 3


@pytest.mark.parametrize("method", ["gaussian", "linear", "hard"])
@pytest.mark.parametrize("min_score", [0.0, 0.001, 0.3])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_keep", [7, 10_000])
def test_equals_one_class_after_the_other(method, min_score, ties, max_keep):
    for seed in range(4):
        bounds, scores, labels = segments(seed, 150, 4, ties)
        settings = {"sigma": 0.4, "min_score": min_score, "max_keep": max_keep, "method": method, "iou": 0.3}
        expected = reference(bounds.tolist(), scores.tolist(), labels.tolist(), **settings)
        got = suppress(*(torch.from_numpy(x) for x in (bounds, scores, labels)), **settings)
        assert got[2].tolist() == expected[2]
        np.testing.assert_allclose(got[0].numpy(), np.array(expected[0]).reshape(-1, 2), rtol=0, atol=1e-12)
        np.testing.assert_allclose(got[1].numpy(), expected[1], rtol=0, atol=1e-12)


def test_without_classes_all_touch_each_other_and_keep_their_labels():
    bounds, scores, labels = (torch.from_numpy(x) for x in segments(0, 100, 5, ties=False))
    apart = suppress(bounds, scores, torch.zeros_like(labels))
    together = suppress(bounds, scores, labels, class_agnostic=True)
    assert torch.equal(apart[0], together[0])
    assert torch.equal(apart[1], together[1])
    for segment, label in zip(together[0], together[2], strict=True):
        assert label in labels[(bounds == segment).all(dim=1)]


@pytest.mark.parametrize("weight", ["score-iou", "score"])
def test_voting_is_a_weighted_mean_of_all_segments_that_overlap_enough(weight):
    bounds, scores, labels = (torch.from_numpy(x) for x in segments(1, 80, 3, ties=False))
    settings = {"max_keep": 9, "class_agnostic": True, "voting_weight": weight}
    plain, voted = suppress(bounds, scores, labels, **settings), suppress(bounds, scores, labels, voting=0.4, **settings)
    assert torch.equal(plain[1], voted[1])
    assert torch.equal(plain[2], voted[2])
    for (start, end), found in zip(plain[0].tolist(), voted[0].tolist(), strict=True):
        total, sums = 0.0, [0.0, 0.0]
        for (left, right), score in zip(bounds.tolist(), scores.tolist(), strict=True):
            shared = max(0.0, min(end, right) - max(start, left))
            overlap = shared / ((end - start) + (right - left) - shared)
            if overlap >= 0.4:
                share = score * (overlap if weight == "score-iou" else 1)
                total, sums = total + share, [sums[0] + share * left, sums[1] + share * right]
        assert found == pytest.approx([sums[0] / total, sums[1] / total], abs=1e-12)


def test_hand_made():
    """[0, 10] and [5, 15] share a third of what they cover; [20, 30] is alone, and so is the other class."""
    bounds = torch.tensor([[5.0, 15.0], [0.0, 10.0], [20.0, 30.0], [0.0, 10.0]], dtype=torch.float64)
    scores, labels = torch.tensor([0.8, 0.9, 0.5, 0.1], dtype=torch.float64), torch.tensor([0, 0, 0, 1])
    kept, left, classes = suppress(bounds, scores, labels, sigma=0.5)
    assert kept.tolist() == [[0, 10], [5, 15], [20, 30], [0, 10]]
    assert classes.tolist() == [0, 0, 0, 1]
    assert left.tolist() == pytest.approx([0.9, 0.8 * math.exp(-(1 / 9) / 0.5), 0.5, 0.1], abs=1e-6)
    assert suppress(bounds, scores, labels, method="linear", iou=0.3)[1][1] == pytest.approx(0.8 * 2 / 3, abs=1e-6)
    assert suppress(bounds, scores, labels, method="hard", iou=0.3)[0].tolist() == [[0, 10], [20, 30], [0, 10]]
    assert suppress(bounds, scores, labels, method="hard", iou=0.4)[0].tolist() == [[0, 10], [5, 15], [20, 30], [0, 10]]


def test_the_best_of_a_class_stays_and_others_below_the_minimum_go():
    bounds, labels = torch.tensor([[0.0, 1.0], [50.0, 60.0], [70.0, 80.0]]), torch.tensor([0, 1, 1])
    kept, scores, classes = suppress(bounds, torch.tensor([0.0005, 0.9, 0.0005]), labels, min_score=0.001)
    assert classes.tolist() == [1, 0]
    assert scores.tolist() == pytest.approx([0.9, 0.0005])
    assert kept.tolist() == [[50, 60], [0, 1]]


def test_no_segments_segments_of_no_length_and_one_precision():
    nothing = suppress(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.int64), voting=0.5, class_agnostic=True)
    assert [tuple(x.shape) for x in nothing] == [(0, 2), (0,), (0,)]
    assert nothing[2].dtype == torch.int64
    point = torch.tensor([[3.0, 3.0], [3.0, 3.0]])
    kept, scores, _ = suppress(point, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), voting=0.5, class_agnostic=True)
    assert kept.tolist() == point.tolist()
    assert torch.isfinite(scores).all()
    half = suppress(point.bfloat16(), torch.tensor([0.5, 0.25]).bfloat16(), torch.tensor([0, 1]))
    assert half[0].dtype == half[1].dtype == torch.bfloat16
    assert half[1].tolist() == [0.5, 0.25]


def test_the_input_is_not_changed_and_what_does_not_fit_is_refused():
    bounds, scores, labels = (torch.from_numpy(x) for x in segments(2, 40, 2, ties=False))
    before = bounds.clone(), scores.clone()
    suppress(bounds, scores, labels)
    assert torch.equal(bounds, before[0])
    assert torch.equal(scores, before[1])
    with pytest.raises(ValueError, match="do not fit"):
        suppress(bounds, scores[:-1], labels[:-1])
    with pytest.raises(ValueError, match="finite"):
        suppress(bounds, torch.full_like(scores, torch.nan), labels)
    with pytest.raises(ValueError, match="unknown method"):
        suppress(bounds, scores, labels, method="soft")


@pytest.mark.real
def test_equals_the_compiled_public_code(real_data):
    folder = real_data.parent / "parity" / "nms_1d"
    if not folder.exists():
        pytest.skip("no parity cases beside this checkout")
    given, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    inputs = [torch.from_numpy(given[name]) for name in ("segments", "scores", "labels")]
    for run, said in json.loads((folder / "settings.json").read_text()).items():
        found = suppress(
            *inputs,
            sigma=said["sigma"],
            min_score=said["min_score"],
            voting=said["voting_thresh"],
            max_keep=said["max_seg_num"],
            class_agnostic=not said["multiclass"],
            method="gaussian" if said["use_soft_nms"] else "hard",
            iou=said["iou_threshold"],
            voting_weight="score" if said["code"] == "UnAV" else "score-iou",
        )
        for name, got in zip(("segments", "scores", "labels"), found, strict=True):
            np.testing.assert_allclose(got.numpy(), expected[f"{run}|{name}"], rtol=0, atol=1e-5, err_msg=f"{run}|{name}")
