"""Motion-focused tubes: exact budgets for any box, every tube of the area alike and every other tube, what is done without an area."""

import math

import numpy as np
import pytest
import torch
from masked_helpers import boxes_of, config, method, progress, rng, video

from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.masked.config import MOFOSampler
from tasks.masked.samplers.mofo import MotionTubes, motion_area

VIT = VitConfig(size="tiny")  # 14 x 14 places of 16 px, 8 frames of tokens
SIDE = 224


def sampler(ratio=0.9, model=VIT, **changes):
    return MotionTubes(MOFOSampler(**changes), model, ratio)


def box(*corners, frames=16, n=1):
    return torch.tensor(corners, dtype=torch.float32).expand(n, frames, 4)


def draws(built, boxes, seed=0):
    n = len(boxes)
    choice = built.choose(None, n, BatchRandom(seed, 0, rows=n), progress(), boxes)
    hidden = torch.ones(n, built.n_tokens, dtype=torch.bool).scatter(1, choice.visible, False)
    return choice, hidden.view(n, built.grid[0], -1)


BOXES = {
    "nothing": (0, 0, 0, 0),
    "less than half of a cell": (3, 3, 10, 10),
    "one cell": (16, 32, 32, 48),
    "a tenth": (32, 32, 32 + 64, 32 + 80),
    "41 %": (0, 0, 224, 96),
    "half": (0, 0, 112, 224),
    "almost all": (0, 0, 224, 208),
    "all": (0, 0, 224, 224),
    "beyond the frame": (-50, -50, 400, 400),
}


@pytest.mark.parametrize("rule", ["strict", "at-least"])
@pytest.mark.parametrize("name", BOXES)
def test_the_budget_is_exact_for_every_box(name, rule):
    built = sampler(rule=rule)
    boxes = box(*BOXES[name], n=16)
    choice, hidden = draws(built, boxes)
    assert (hidden[:, 0].sum(1) == 176).all()
    assert (hidden == hidden[:, :1]).all()  # the same in all slices
    assert torch.equal(torch.cat((choice.visible, choice.masked), 1).sort(1).values, torch.arange(1568).expand(16, -1))
    assert (choice.visible.diff(dim=1) > 0).all()
    assert (choice.masked.diff(dim=1) > 0).all()
    inner = built.inner(boxes)[0]
    n, inside = int(inner.sum()), hidden[:, 0][:, inner].sum(1)
    if rule == "strict":
        assert (inside == max(math.floor(0.75 * n), 176 - (196 - n))).all()
    else:
        assert (inside >= min(176, math.floor(0.75 * n))).all()


def test_shares_that_the_paper_implies():
    """A motion area of a fifth: three quarters of it are hidden and 94 % of the rest; of more than two fifths the rest is all hidden."""
    built = sampler()
    boxes = box(0, 0, 224, 48)  # 42 of 196 places
    choice, hidden = draws(built, boxes)
    inner = built.inner(boxes)[0]
    assert int(hidden[0, 0, inner].sum()) == 31
    assert int(hidden[0, 0, ~inner].sum()) == 145
    assert choice.extra["inner_share"].item() == pytest.approx(42 / 196)
    assert choice.extra["inner_hidden"].item() == pytest.approx(31 / 196)
    assert choice.extra["spilled"].item() == 0
    assert choice.extra["without_area"].item() == 0
    wide, none = draws(built, box(0, 0, 224, 112))[0].extra, draws(built, box(0, 0, 0, 0))[0].extra
    assert (wide["spilled"].item(), none["without_area"].item()) == (1, 1)


@pytest.mark.parametrize("rule", ["strict", "at-least"])
def test_every_tube_of_the_area_is_alike_and_every_other(rule):
    """20000 draws, chi-square: hidden tubes are drawn without replacement, which only makes the sum of squares smaller."""
    built, n = sampler(rule=rule), 20000
    boxes = box(48, 64, 48 + 80, 64 + 64)
    inner = built.inner(boxes)[0]
    assert int(inner.sum()) == 20
    generator = torch.Generator().manual_seed(1)
    hidden = built.hidden(inner.expand(n, -1), torch.rand(n, 196, generator=generator), torch.rand(n, 196, generator=generator))
    for group in (inner, ~inner):
        seen = (~hidden[:, group]).sum(0).double()
        expected = seen.sum() / group.sum()
        share = expected / n
        statistic = ((seen - expected) ** 2 / (expected * (1 - share))).sum().item() * (group.sum().item() - 1) / group.sum().item()
        freedom = group.sum().item() - 1
        assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)
    rest = 0 if rule == "strict" else (20 - 15) * (176 - 15) / (196 - 15)  # of the five that are left inside, drawn like all others
    assert hidden[:, inner].double().sum(1).mean().item() == pytest.approx(15 + rest, abs=0.03)


def test_pairs_of_tubes_are_drawn_independently_of_their_places():
    """Neighbours in the numbering are hidden together no more often than any two."""
    built, n = sampler(), 20000
    inner = torch.zeros(n, 196, dtype=torch.bool)
    hidden = built.hidden(inner, *torch.rand(2, n, 196, generator=torch.Generator().manual_seed(2))).double()
    both = (hidden[:, :-1] * hidden[:, 1:]).mean(0)
    assert (both - 176 * 175 / (196 * 195)).abs().max() < 5 * math.sqrt(0.81 * 0.19 / n)


def test_a_tube_is_inside_from_half_of_its_cell_on():
    built = sampler()
    for width, expected in ((7.9, 0), (8.0, 1), (16.0, 1), (23.9, 1), (24.0, 2)):
        assert int(built.inner(box(0, 0, width, 16)).sum()) == expected
    assert int(sampler(overlap=1.0).inner(box(0, 0, 31, 31)).sum()) == 1
    assert built.inner(box(16, 32, 32, 48))[0].nonzero().tolist() == [[2 * 14 + 1]]  # row 2, column 1: rows count y


def test_the_area_of_a_clip():
    boxes = torch.tensor([[[0.0, 0, 0, 0], [10, 20, 30, 40], [50, 5, 60, 30]], [[0, 0, 0, 0]] * 3])
    assert motion_area(boxes, "union").tolist() == [[10, 5, 60, 40], [0] * 4]
    assert motion_area(boxes, "first").tolist() == [[10, 20, 30, 40], [0] * 4]


def test_inner_ratio_and_clips_of_different_areas():
    boxes = torch.stack([box(*BOXES[name])[0] for name in ("a tenth", "half", "all", "nothing")])
    built = sampler(inner_ratio=0.5)
    _, hidden = draws(built, boxes)
    inner = built.inner(boxes)
    counts = inner.sum(1)
    found = [int((hidden[i, 0] & inner[i]).sum()) for i in range(4)]
    assert found == [max(int(0.5 * n), 176 - 196 + n) if n else 0 for n in counts.tolist()]
    assert (hidden[:, 0].sum(1) == 176).all()


def test_two_processes_hide_what_one_hides():
    boxes = torch.cat([box(8 * i, 8, 60 + 8 * i, 90) for i in range(4)])
    built = sampler(rule="at-least")
    whole = built.choose(None, 4, BatchRandom(3, 5, rows=4), progress(), boxes).visible
    halves = [
        built.choose(None, 2, BatchRandom(3, 5, rows=2, rank=r, world=2), progress(), boxes[2 * r : 2 * r + 2]).visible for r in range(2)
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_the_method_hides_by_the_boxes_of_the_batch_and_logs_them():
    built = method({"name": "mofo"})
    clips = video(4)
    losses = built({"video": clips, "boxes": boxes_of(clips), "still": torch.tensor([True, False, False, False])}, rng(rows=4), progress())
    assert losses["nothing_moves"].item() == 0.25
    assert 0 < losses["inner_share"].item() < 1
    assert losses["without_area"].item() == 0
    losses["loss"].backward()


def test_a_picture_shows_the_box():
    from tasks.masked.visualize import explain, picture

    built, clips = method({"name": "mofo"}), video(1)
    explained = explain(built, clips, 0, boxes_of(clips))
    assert explained["boxes"].shape == (4, 4)
    plain = explain(built, clips, 0)
    assert picture(explained, 32, 2, 1) != picture({**explained, "boxes": None}, 32, 2, 1)
    assert plain["boxes"] is None


def test_counts_are_the_tubes_of_videomae():
    for ratio in (0.75, 0.85, 0.9, 0.95):
        tube = config({"name": "tube"}, model={"size": "tiny"}, mask_ratio=ratio, data={"clip": {"frames": 16}})
        mofo = config({"name": "mofo"}, model={"size": "tiny"}, mask_ratio=ratio, data={"clip": {"frames": 16}})
        assert mofo.n_visible() == tube.n_visible()
    assert np.isclose(sampler().n_visible, 160)
