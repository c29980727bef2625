"""A small localiser learns: events to their ends, and classes that only the sound tells."""

import localization_toys as toys
import pytest
import torch

from tasks.core.data.segments.table import EventTable
from tasks.core.metrics.events import event_scores
from tasks.localization.decode import decode, settle
from tasks.localization.method import EventTraining

MODEL = {
    "width": 24,
    "heads": 2,
    "alignment": {"heads": 2, "pair_width": 4, "layers": 1},
    "head": {"width": 24, "layers": 2},
    "ranges": [[0, 8], [8, 16], [16, 32], [32, 10000]],
}


def found_in(trained: EventTraining, clips: dict) -> list[dict[str, torch.Tensor]]:
    trained.eval()
    with torch.no_grad():
        output = trained.localizer(clips["video"], clips["audio"], clips["mask"])
    return [settle(each, trained.config.events) for each in decode(output, trained.config.events)]


def mean_average_precision(found: list[dict[str, torch.Tensor]], clips: dict) -> dict[str, float]:
    rows = [
        (str(number), str(label), segment, score)
        for number, each in enumerate(found)
        for segment, score, label in zip(*(each[name].tolist() for name in ("segments", "scores", "labels")), strict=True)
    ]
    truth = [
        (str(number), str(label), segment)
        for number, (segments, labels) in enumerate(zip(clips["segments"], clips["labels"], strict=True))
        for segment, label in zip(segments.tolist(), labels.tolist(), strict=True)
    ]
    return event_scores(EventTable.of(*zip(*rows, strict=True)), EventTable.of(*zip(*truth, strict=True)))["map"]


@pytest.mark.slow
def test_eight_clips_with_overlapping_events_are_learned_to_their_ends():
    clips = toys.sinusoids(8, 48)
    trained = toys.method(4, model=MODEL, loss={"first_positives": 100})
    history = toys.train(trained, clips, 200, 4e-3)
    assert history[-1] < 0.1 * history[0]
    assert mean_average_precision(found_in(trained, clips), clips)["0.9"] > 0.95


def right_classes(trained: EventTraining, clips: dict) -> float:
    """How often the class of an event scores higher than the classes that do not occur, at the points inside of it."""
    found = found_in(trained, clips)
    right = []
    for each, labels in zip(found, clips["labels"], strict=True):
        best = torch.tensor([max([0.0, *each["scores"][each["labels"] == label].tolist()]) for label in range(4)])
        right += [label in best.topk(2).indices.tolist() for label in labels.tolist()]
    return sum(right) / len(right)


@pytest.mark.slow
def test_classes_that_only_the_sound_tells_are_lost_without_it():
    """Two of four classes occur in a clip, so that guessing is right in half of the cases."""
    trained = toys.method(4, model={**MODEL, "neck": {"enabled": False}}, loss={"first_positives": 100})
    toys.train(trained, toys.sinusoids(16, 48, audio_only_class=True), 80, 8e-3)
    fresh = toys.sinusoids(16, 48, seed=7, audio_only_class=True)
    assert right_classes(trained, fresh) > 0.85
    assert right_classes(trained, {**fresh, "audio": torch.zeros_like(fresh["audio"])}) < 0.7
