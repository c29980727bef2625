"""From points to candidates, in one pass or in windows, and what suppression leaves."""

import localization_toys as toys
import pytest
import torch

from tasks.localization.config import EventsConfig
from tasks.localization.decode import decode, localize, settle, windows
from tasks.localization.model import EventLocalizer, Output


def output(class_aware: bool = True) -> Output:
    torch.manual_seed(0)
    lengths = (16, 8)
    ends = (3, 2) if class_aware else (2,)
    return Output(
        [torch.randn(2, n, 3) for n in lengths],
        [torch.rand(2, n, *ends) * 4 for n in lengths],
        [torch.arange(n) < torch.tensor([[n], [n // 2]]) for n in lengths],
    )


@pytest.mark.parametrize("class_aware", [True, False])
def test_every_pair_of_point_and_class_is_a_candidate(class_aware: bool):
    given, events = output(class_aware), EventsConfig(min_score=0.4, min_length=1.0, points=1000)
    for video, found in enumerate(decode(given, events)):
        expected = set()
        for level in range(2):
            for point in range(given.logits[level].shape[1]):
                for label in range(3):
                    score = given.logits[level][video, point, label].sigmoid().item()
                    left, right = (
                        given.offsets[level][video, point, label] if class_aware else given.offsets[level][video, point]
                    ).tolist()
                    if given.masks[level][video, point] and score > 0.4 and (left + right) * 2**level > 1:
                        at, stride = point * 2**level, 2**level
                        expected.add((round(at - left * stride, 3), round(at + right * stride, 3), round(score, 5), label))
        segments, scores, labels = (found[name].tolist() for name in ("segments", "scores", "labels"))
        assert {(round(a, 3), round(b, 3), round(s, 5), k) for (a, b), s, k in zip(segments, scores, labels, strict=True)} == expected


def test_a_level_gives_its_best_pairs_alone():
    found = decode(output(), EventsConfig(min_score=0.0, min_length=0.0, points=5))[0]
    assert len(found["scores"]) == 10
    assert found["scores"][:5].tolist() == pytest.approx(output().logits[0][0].sigmoid().flatten().topk(5).values.tolist())


@pytest.mark.parametrize(("length", "window", "overlap"), [(500, 64, 0.5), (500, 96, 0.25), (70, 64, 0.5), (64, 64, 0.5), (333, 50, 0.0)])
def test_every_feature_counts_in_one_window_away_from_its_ends(length: int, window: int, overlap: float):
    counted, spans = [], []
    for first, last, (low, high) in windows(length, window, overlap, 32):
        assert first % 32 == 0
        assert 0 <= low < high <= last - first
        spans.append((first, last))
        counted += [first + t for t in range(last - first) if low <= t < high]
    assert counted == list(range(length))
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(last - first <= -(-window // 32) * 32 for first, last in spans)


def test_windows_are_not_needed_for_short_videos():
    assert list(windows(100, None, 0.5, 32)) == list(windows(100, 100, 0.5, 32)) == [(0, 100, (0.0, 100.0))]


def test_a_long_video_in_windows_gives_what_it_gives_at_once():
    """Of a network that sees less than half a window around each point."""
    torch.manual_seed(0)
    settings = {"contrast": {"enabled": False}, "alignment": {"enabled": False}, "neck": {"enabled": False}}
    config = toys.config({**settings, "ranges": ((0, 4), (4, 8), (8, 10000)), "window": (3,)}).model
    model = EventLocalizer(config, toys.DIMS, 3).eval()
    batch = toys.batch((512,))
    streams = {"visual": batch["video"][0], "audio": batch["audio"][0]}

    def read(first: int, last: int) -> dict[str, torch.Tensor]:
        return {name: values[:, first:last] for name, values in streams.items()}

    whole = EventsConfig(points=10**6, min_score=0.0, min_length=0.0)
    expected = localize(model, read, 512, whole)
    found = localize(model, read, 512, whole.model_copy(update={"window": 128}))

    assert len(found["scores"]) == len(expected["scores"]) > 1000
    assert found["scores"].sort().values.tolist() == pytest.approx(expected["scores"].sort().values.tolist(), abs=1e-5)
    assert found["segments"].sum().item() == pytest.approx(expected["segments"].sum().item(), rel=1e-4)


def test_suppression_is_that_of_the_settings():
    candidates = {
        "segments": torch.tensor([[0.0, 10], [0.5, 10], [20, 30], [0, 10]]),
        "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
        "labels": torch.tensor([0, 0, 0, 1]),
    }
    assert settle(candidates, EventsConfig(method="none", keep=3))["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    soft = settle(candidates, EventsConfig(sigma=0.5))
    assert soft["labels"].tolist() == [0, 0, 1, 0]
    assert soft["scores"][3].item() == pytest.approx(0.8 * torch.tensor(-(0.95**2) / 0.5).exp().item(), rel=1e-4)
    assert settle(candidates, EventsConfig(method="hard", iou=0.5))["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6])
    voted = settle(candidates, EventsConfig(class_agnostic=True, voting=0.7, keep=1))
    assert 0 < voted["segments"][0, 0].item() < 0.5
