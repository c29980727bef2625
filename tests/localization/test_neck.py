"""The neck: what reaches which level, and that sizes stay."""

import localization_toys as toys
import pytest
import torch

from tasks.localization.neck import PathAggregation

LEVELS, LENGTH = 6, 64


def neck(**settings) -> PathAggregation:
    torch.manual_seed(0)
    return PathAggregation(toys.config({"neck": settings}).model).eval()


def pyramid() -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(1)
    masks = [torch.ones(2, LENGTH >> level, dtype=torch.bool) for level in range(LEVELS)]
    return [torch.randn(2, LENGTH >> level, 16) for level in range(LEVELS)], masks, torch.randn(2, LENGTH, 16)


def changed_levels(made: PathAggregation, level: int) -> list[int]:
    """The levels of the output that see a change in one level of the input."""
    levels, masks, guide = pyramid()
    before = made(levels, masks, guide)
    levels[level] = levels[level].clone()
    levels[level][:, len(levels[level][0]) // 2] += 5.0
    after = made(levels, masks, guide)
    return [number for number, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.allclose(a, b, atol=1e-9)]


def test_sizes_stay():
    levels, masks, guide = pyramid()
    assert [x.shape for x in neck()(levels, masks, guide)] == [x.shape for x in levels]


@pytest.mark.parametrize("level", [0, 2, LEVELS - 1])
def test_every_level_reaches_every_other(float64, level: int):
    assert changed_levels(neck(), level) == list(range(LEVELS))


@pytest.mark.parametrize("level", [0, 2, LEVELS - 1])
def test_without_the_way_up_a_level_reaches_itself_and_finer_ones(float64, level: int):
    assert changed_levels(neck(bottom_up=False), level) == list(range(level + 1))


def test_the_guide_is_seen_where_it_is_valid(float64):
    made, (levels, masks, guide) = neck(), pyramid()
    masks = [mask & (torch.arange(mask.shape[1]) < mask.shape[1] * 3 // 4) for mask in masks]
    before = made(levels, masks, guide)
    hidden, seen = guide.clone(), guide.clone()
    hidden[:, 50:] += 3.0
    seen[:, 40] += 3.0
    assert all(torch.equal(a, b) for a, b in zip(before, made(levels, masks, hidden), strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(before, made(levels, masks, seen), strict=True))


def test_added_to_its_input_it_begins_as_if_it_were_not_there(float64):
    torch.manual_seed(0)
    made, (levels, masks, guide) = PathAggregation(toys.config({"residual": True}).model), pyramid()
    found = made(levels, masks, guide)
    assert all(torch.equal(x, level) for x, level in zip(found, levels, strict=True))
    sum(x.square().sum() for x in found).backward()
    assert (made.factor.grad != 0).all()
    replaced = neck()
    replaced.load_state_dict({name: x for name, x in made.state_dict().items() if name != "factor"})
    with torch.no_grad():
        made.eval().factor.fill_(0.5)
    for x, level, all_of_it in zip(made(levels, masks, guide), levels, replaced(levels, masks, guide), strict=True):
        torch.testing.assert_close(x, level + 0.5 * all_of_it)
