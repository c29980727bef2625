"""Motion-focused tubes: how many tubes are hidden inside and outside the motion area is set apart.

Source: MOFO (Ahmadian et al., NeurIPS workshop 2023), section 3.2. The public sampler is not followed: it takes a cross through the box for
the box and never hides the last tubes of a frame; here every tube of the area is equally likely, and so is every other tube.
"""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.core.nn.token_dropout import through_time
from tasks.masked.config import MOFOSampler
from tasks.masked.samplers.base import Choice
from tasks.masked.samplers.tube import Tubes


class MotionTubes(Tubes):
    """Of M hidden tubes k = min(M, floor(inner_ratio * n)) are drawn among the n tubes of the motion area.

    `strict`: the other M - k are outside. Where fewer are there, all of them are hidden and the rest is drawn inside. `at-least`: the other
    M - k are drawn among all tubes that are not hidden yet. Without a motion area (no box, or one that covers no tube) all tubes are alike.
    """

    def __init__(self, config: MOFOSampler, model: VitConfig, mask_ratio: float):
        super().__init__(config, model, mask_ratio)
        self.config, self.patch = config, model.patch

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        inner = torch.zeros(n, self.places, dtype=torch.bool, device=rng.device) if boxes is None else self.inner(boxes)
        hidden = self.hidden(inner, rng.rand(n, self.places), rng.rand(n, self.places))
        order = hidden.byte().sort(dim=-1, stable=True).indices
        seen, covered = order[:, : self.seen_places], order[:, self.seen_places :]
        return Choice(through_time(seen, self.grid), through_time(covered, self.grid), extra=self._facts(inner, hidden))

    def inner(self, boxes: torch.Tensor) -> torch.Tensor:
        """Which places of the frames lie in the motion area, `(n, T, 4)` px to `(n, places)` bool."""
        area = motion_area(boxes, self.config.box)
        covered = _lengths(area[:, 1::2], self.grid[1], self.patch)[:, :, None] * _lengths(area[:, 0::2], self.grid[2], self.patch)[:, None]
        return (covered >= self.config.overlap * self.patch**2 - 1e-3).flatten(1)

    def hidden(self, inner: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The places that are hidden in each clip, always as many.

        Args:
            inner: `(n, places)` bool.
            first: `(n, places)` uniform in [0, 1), which orders the places of the area and the others.
            second: likewise, which orders what is left to `at-least`.

        Returns:
            `(n, places)` bool.
        """
        budget = self.places - self.seen_places
        count = inner.sum(-1, keepdim=True)
        share = (count * self.config.inner_ratio + 1e-6).long().clamp(max=budget)
        if self.config.rule == "at-least":
            drawn = inner & (_rank(first.masked_fill(~inner, 2.0)) < share)
            return _rank(second.masked_fill(drawn, -1.0)) < budget
        share = share.maximum(budget - (self.places - count))
        inside, outside = _rank(first.masked_fill(~inner, 2.0)), _rank(first.masked_fill(inner, 2.0))
        return torch.where(inner, inside < share, outside < budget - share)

    def learn(self, choice: Choice, errors: torch.Tensor) -> dict[str, torch.Tensor]:
        return choice.extra

    def _facts(self, inner: torch.Tensor, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is logged: the shares of the frame that are motion area, and hidden motion area, and the shares of clips without such an
        area and of those in which the rest of the budget did not fit outside.
        """
        count = inner.sum(-1).float()
        there, inside = count > 0, (inner & hidden).sum(-1)
        full = (~inner & ~hidden).sum(-1) == 0
        return {
            "inner_share": count.mean() / self.places,
            "inner_hidden": inside.float().mean() / self.places,
            "without_area": (~there).float().mean(),
            "spilled": (full & there & (inside > count * self.config.inner_ratio)).float().mean(),
        }


def motion_area(boxes: torch.Tensor, which: str) -> torch.Tensor:
    """One box for a clip: around all of its boxes (`union`) or the first of them (`first`).

    Args:
        boxes: `(n, T, 4)` px; frames without one, four zeros, do not count.
        which: of the two.

    Returns:
        `(n, 4)`, zeros where there is none.
    """
    there = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    if which == "first":
        place = there.byte().argmax(-1)
        return boxes.gather(1, place[:, None, None].expand(-1, 1, 4))[:, 0]
    far = boxes.new_tensor(torch.finfo(boxes.dtype).max)
    low = torch.where(there[..., None], boxes[..., :2], far).amin(1)
    high = torch.where(there[..., None], boxes[..., 2:], -far).amax(1)
    return torch.where(there.any(-1, keepdim=True), torch.cat((low, high), -1), 0.0)


def _lengths(ends: torch.Tensor, count: int, patch: int) -> torch.Tensor:
    """How much of each of `count` neighbouring cells of `patch` px lies between `ends` `(n, 2)`: `(n, count)` px."""
    begin = torch.arange(count, device=ends.device) * patch
    return (torch.minimum(ends[:, 1:], begin + patch) - torch.maximum(ends[:, :1], begin)).clamp(min=0)


def _rank(values: torch.Tensor) -> torch.Tensor:
    """The place of each value among those of its row, the smallest first: `(n, places)` int64."""
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)
