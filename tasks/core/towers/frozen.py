"""Frozen towers inside a method: used in every step, changed by none, and kept in no checkpoint."""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn


class FrozenTower(nn.Module):
    """Holds a tower in a method without making it a part of it.

    Its tensors are no parameters, buffers or state of the method: optimizers, moving averages, gradient synchronisation, checkpoints and
    published models do not see them; what is kept is `source`. It moves to devices with the method and stays in evaluation mode. Copies of
    the method share its tensors as long as they lie on the same device. Gradients pass through it, and end at what it is given.

    Args:
        tower: of `load_text_tower` or `load_image_tower`.

    Attributes:
        tower: as given, where it is now: ask for it each time, since moving the method replaces it.
        source: reference, revision, kind and hash of the weights (`core.towers.identity`).
    """

    tower: nn.Module

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.source: dict[str, Any] = dict(tower.source)
        self._hold(tower.requires_grad_(False).eval())

    def _hold(self, tower: nn.Module) -> None:
        self.__dict__["tower"] = tower  # not registered: nothing that goes through a module's parts comes to it

    def forward(self, *given: Any) -> Any:
        """As the tower."""
        return self.tower(*given)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "FrozenTower":
        """Where a method is moved (`to`, `cuda`, `double`) the tower is too; other copies of the method keep theirs."""
        old = list(chain(self.tower.parameters(), self.tower.buffers()))
        with torch.no_grad():
            moved = [fn(tensor.detach()) for tensor in old]
        if any(new.data_ptr() != tensor.data_ptr() or new.device != tensor.device for new, tensor in zip(moved, old, strict=True)):
            pairs = zip(old, moved, strict=True)
            memo: dict[int, Any] = {id(o): nn.Parameter(n, requires_grad=False) if isinstance(o, nn.Parameter) else n for o, n in pairs}
            memo |= {id(held): held for held in (getattr(self.tower, "tokenizer", None),) if held is not None}
            self._hold(copy.deepcopy(self.tower, memo))
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenTower":
        """Copies share the tower, unless what is copied says what stands in for its tensors."""
        if not any(id(tensor) in memo for tensor in chain(self.tower.parameters(), self.tower.buffers())):
            return FrozenTower(self.tower)
        kept = getattr(self.tower, "tokenizer", None)
        return FrozenTower(copy.deepcopy(self.tower, memo if kept is None else {**memo, id(kept): kept}))
