"""Timed events: the snippets to learn from, the loss, and proposals that get classes."""

import json

import numpy as np
import prompting_toys as toys
import pytest
import torch
from clip_toys import text_config
from pinned import same_everywhere

from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError
from tasks.core.nn.clip import TextTransformer
from tasks.prompting.config import PromptedConfig
from tasks.prompting.events import EventTest, classified, event_crop, event_numbers, part_of, read_proposals, snippets
from tasks.prompting.method import EventPrompting
from tasks.prompting.names import tokens_of

GRID = Grid(0.1, 0.1)
FRAMES = 4


def event_method(text=None, **settings) -> EventPrompting:
    torch.manual_seed(0)
    made, text = toys.config(method="localization", **settings), text or toys.tower()
    tokens = tokens_of([name.replace("_", " ") for name in toys.LABELS], text.tokenizer, text.context - made.model.prompts.added)
    return EventPrompting(made, text, tokens, toys.DIM)


def event_batch() -> dict[str, torch.Tensor]:
    """Three snippets with five events."""
    clip = toys.batch(3)["clip"]
    inside = torch.tensor([[0, 4], [1, 2], [2, 4], [0, 3], [3, 4]])
    return {"clip": clip, "owner": torch.tensor([0, 0, 1, 2, 2]), "inside": inside, "label": torch.tensor([0, 3, 1, 2, 0])}


@pytest.mark.parametrize(("start", "end"), [(3.0, 3.3), (0.0, 0.2), (9.5, 10.0), (2.0, 7.0), (4.0, 4.0)])
def test_a_snippet_holds_all_of_an_event_or_nothing_else(start, end):
    times, row, rng = GRID.times(100), Row("v", "a", start, end), np.random.default_rng(0)
    low, high = GRID.part(100, start, end)
    starts = {event_crop(times, 10, rng, [row]) for _ in range(300)}
    for first in starts:
        assert 0 <= first <= 90
        assert (first <= low and high <= first + 10) or (low <= first and first + 10 <= high)
    assert len(starts) == max(1, 1 + min(low, 90) - max(high - 10, 0) if high - low <= 10 else high - low - 10 + 1)


def test_every_event_of_a_video_is_drawn():
    rows = [Row("v", "a", second + 0.2, second + 0.6) for second in range(10)]
    rng = np.random.default_rng(0)
    seconds = {round(event_crop(GRID.times(100), 4, rng, rows) / 10 - 0.2) for _ in range(200)}
    assert seconds == set(range(10))


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((1.0, 1.4), (0, 4)),
        ((1.1, 1.3), (1, 3)),
        ((0.9, 1.2), (0, 2)),  # two thirds are inside
        ((0.0, 1.24), (0, 2)),  # long, and it fills half of the snippet
        ((0.0, 1.1), None),
        ((0.0, 5.0), (0, 4)),
        ((1.25, 1.25), (2, 3)),
        ((0.5, 0.5), None),
        ((0.2, 0.6), None),
    ],
)
def test_what_of_an_event_is_in_a_snippet(segment, expected):
    assert part_of(Grid(0.1, 0.1, 1.0), 4, *segment) == expected


def test_a_batch_of_snippets():
    times = torch.from_numpy(np.stack([Grid(0.1, 0.1, 1.0).times(4), Grid(0.1, 0.1, 0.0).times(4)]).astype(np.float32))
    features = torch.randn(2, 4, toys.DIM)
    features[1, 2:] = 0  # it has two features
    given = {
        "features": features,
        "length": torch.tensor([4, 2]),
        "times": times,
        "segments": [torch.tensor([[1.1, 1.3], [5.0, 6.0], [1.0, 1.1]]), torch.tensor([[0.0, 0.2]])],
        "segment_label": [torch.tensor([2, 0, 1]), torch.tensor([3])],
    }
    made = snippets(PromptedConfig(frames=4))(given, torch.device("cpu"))
    assert (made["owner"].tolist(), made["label"].tolist()) == ([0, 0, 1], [2, 1, 3])
    assert made["inside"].tolist() == [[1, 3], [0, 1], [0, 2]]
    assert torch.equal(made["clip"][1], features[1, [0, 1, 1, 1]])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layers", [0, 1])
def test_the_loss_is_that_of_the_definition(layers):
    method, batch = event_method(model={"temporal": {"layers": layers, "heads": 4}}), event_batch()
    found = toys.losses(method, batch)["loss"]
    text, total = method.text_features(), 0.0
    for owner, (low, high), label in zip(batch["owner"], batch["inside"], batch["label"], strict=True):
        video = method.model.temporal(batch["clip"])[owner][low:high].mean(0)
        cosines = torch.stack([video @ c / video.norm() / c.norm() for c in text]) / 0.07
        total -= cosines[label] - cosines.exp().sum().log()
    assert found.item() == pytest.approx(total.item() / 5, abs=1e-9)


def test_a_batch_without_events_costs_nothing():
    method, batch = event_method(), event_batch()
    none = {"owner": batch["owner"][:0], "inside": batch["inside"][:0], "label": batch["label"][:0]}
    loss = toys.losses(method, {**batch, **none})["loss"]
    loss.backward()
    assert loss == 0


PINNED = [1.625366721, 1.015345754, 0.639796854, 0.420185604]


@pytest.mark.usefixtures("float64")
def test_pinned_losses():
    method, batch = event_method(toys.tower(same_everywhere(TextTransformer(text_config()), 0.1))), event_batch()
    same_everywhere(method.model, 0.1)
    optimizer = torch.optim.AdamW(method.optimizers()["main"].groups, lr=0.01)
    found = []
    for _ in range(4):
        loss = toys.losses(method, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == pytest.approx(PINNED, abs=1e-7)


def test_scores_are_products_and_the_best_come_first():
    proposals = np.array([[0.0, 1.0], [2.0, 3.00004]]), np.array([0.5, 1.0])
    chances = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    events = classified(proposals, chances, ["a", "b", "c"])
    assert [(e.label, e.start, e.end) for e in events][:3] == [("c", 2.0, 3.0), ("a", 0.0, 1.0), ("b", 2.0, 3.0)]
    assert [e.score for e in events] == pytest.approx([0.5, 0.45, 0.3, 0.2, 0.05, 0.0])
    assert [(e.label, e.score) for e in classified(proposals, chances, ["a", "b", "c"], 1)] == [("c", 0.5), ("a", 0.45)]


def test_numbers_of_perfect_and_of_wrong_events():
    rows = Rows.of([Row("/v.mp4", "a", 0.0, 1.0), Row("/v.mp4", "b", 2.0, 3.0), Row("/w.mp4")])
    segments = np.array([[0.0, 1.0], [2.0, 3.0]])
    right, wrong = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    events = {
        name: {"/v.mp4": classified((segments, np.ones(2)), chances, ["a", "b"], 1)} for name, chances in (("r", right), ("w", wrong))
    }
    found = EventTest({"r": [right], "w": [wrong]}, [0, 1], events)
    numbers = event_numbers(found, rows, "thumos", True)
    assert (numbers["r"]["top1"], numbers["r"]["average_map"], numbers["r"]["map@0.7"]) == (100, 1, 1)
    assert (numbers["w"]["top1"], numbers["w"]["average_map"]) == (0, 0)
    assert "average_map" not in event_numbers(found, rows, "thumos", False)["r"]


def test_proposals_are_read_by_the_names_of_videos(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("video,start,end,score\nv,1,2,0.5\nv,2,1,0.5\nv,0,1,nan\nother,0,1,0.2\n")
    found = read_proposals(str(file), ["/data/v.mp4", "/data/w.mp4"])
    assert (found["/data/v.mp4"][0].tolist(), found["/data/v.mp4"][1].tolist()) == ([[1, 2]], [0.5])
    results = {"results": {"v_v": [{"label": "any", "score": 0.5, "segment": [1, 2]}, {"score": 1, "segment": [0, 3]}]}}
    (tmp_path / "p.json").write_text(json.dumps(results))
    assert read_proposals(str(tmp_path / "p.json"), ["/data/v.mp4"])["/data/v.mp4"][1].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("video,start,end,score\nother,0,1,0.5\n", "has no proposals for /data/v.mp4: it speaks of 'other'"),
        ("video,start,end,score\nv,0,1,-0.5\n", "scores below 0"),
        ("video,start,end\nv,0,1\n", "no predicted events"),
        ("", "has no proposals for /data/v.mp4"),
    ],
)
def test_proposals_that_cannot_be_used(tmp_path, lines, said):
    file = tmp_path / "p.csv"
    file.write_text(lines)
    with pytest.raises(InputError, match=said):
        read_proposals(str(file), ["/data/v.mp4"])
