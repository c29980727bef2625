"""DPC and MemDPC as the loop sees them."""

import math

import torch

from tasks.core.engine.exchange import gather_with_gradient, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.nn.prediction import Direction
from tasks.core.nn.shared_norm import share_norms
from tasks.core.profile import span
from tasks.core.world import world
from tasks.predictive import objective
from tasks.predictive.config import MemDPCConfig, PretrainConfig
from tasks.predictive.model import PredictiveCoder


class Prediction(Method):
    """Finds the true map of every predicted block among all maps of the batch.

    A batch has `video`, `(B, N * L, 3, S, S)` float32, normalised. Logged beside the loss: `top1`, percent of the places whose true
    vector scores highest; with two directions the two losses; with a memory `address_entropy`, how many slots a place uses, and
    `memory_entropy`, how many slots the batch uses, both as a share of the entropy of using all alike.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.config = config
        self.coder = PredictiveCoder(config.model, config.method)
        if config.method.norm == "sync":
            share_norms(self.coder)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        directions = self.coder(batch["video"])
        counts = row_counts(len(batch["video"]), batch["video"].device) if self.config.method.negatives == "all" else None
        with span("loss"), torch.autocast(batch["video"].device.type, enabled=False):
            found = [self._compare(direction, counts) for direction in directions]
        losses, hits = (torch.stack(column) for column in zip(*found, strict=True))
        loss = losses.sum() if getattr(self.config.method, "combine", None) == "sum" else losses.mean()
        logged = {"loss": loss, "top1": hits.mean()}
        if len(directions) > 1:
            logged |= {"forward": losses[0].detach(), "backward": losses[1].detach()}
        return logged | self._memory_use(directions)

    def _compare(self, direction: Direction, counts: list[int] | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and top-1 of one direction. `counts`: clips of every process; None: candidates are those of this one."""
        predicted, target = (objective.as_rows(full_precision(maps)) for maps in (direction.predicted, direction.target))
        first = 0
        if counts is not None:
            target, first = gather_with_gradient(target, counts), sum(counts[: world().rank])
        score = objective.scores(predicted, target)
        right = objective.positives(*predicted.shape[:2], first, score.device)
        return objective.prediction_loss(score, right), objective.accuracy(score.detach(), right)

    def _memory_use(self, directions: list[Direction]) -> dict[str, torch.Tensor]:
        if not isinstance(self.config.method, MemDPCConfig) or self.config.method.slots == 1:
            return {}
        addresses = torch.cat([full_precision(direction.addresses.detach()).flatten(0, 1) for direction in directions])
        most = math.log(self.config.method.slots)
        return {
            "address_entropy": objective.entropy(addresses, 1).mean() / most,
            "memory_entropy": objective.entropy(addresses.mean((0, 2, 3)), 0) / most,
        }

    def optimizers(self) -> dict[str, OptimizerSpec]:
        optim = self.config.optim
        return {MAIN: OptimizerSpec(make_groups(self.named_parameters(), optim.weight_decay), optim.base_lr, optim.betas, optim.clip_grad)}
