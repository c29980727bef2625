"""InfoNCE, UberNCE and CoCLR as the loop sees them."""

import torch

from tasks.contrastive import objective
from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.model import KeyedEncoder, Miner
from tasks.core.checkpoint import load_strict
from tasks.core.engine.exchange import encode_shuffled, gather_rows, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision

Losses = dict[str, torch.Tensor]


class InfoNCE(Method):
    """Query and key of one video against the queue (equation 4.1).

    A batch has what `data.PairViews` makes: `video` (B, 2, T, 3, S, S), the clips of query and key; `source` (B,) int64 and, of labelled
    videos, `label` (B,) int64. In training the keys join the queue behind the loss, so that keys of the same batch are no negatives.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.config = config
        self.keyed = KeyedEncoder(config)
        self._followed = 0

    @property
    def encoder(self) -> torch.nn.Module:
        """The query encoder, which is published."""
        return self.keyed.encoder

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        self._follow(progress.step)
        counts = row_counts(len(batch["video"]), batch["video"].device)
        query, key = self.encode(batch["video"], counts, rng)
        with torch.autocast(query.device.type, enabled=False):  # cosines over a temperature of 0.07
            scores = objective.logits(query, key, self.keyed.queue.keys.clone(), self.config.method.temperature)
            losses = self.losses(scores, key, batch, counts, rng)
        return losses

    def losses(self, scores: torch.Tensor, key: torch.Tensor, batch: dict, counts: list[int], rng: BatchRandom) -> Losses:
        """Loss and what is logged, from scores (B, 1 + K) and keys (B, D); the keys join the queue."""
        loss = objective.info_nce(scores)
        own = torch.zeros_like(scores, dtype=torch.bool)
        own[:, 0] = True
        self._enqueue(key, batch["source"], counts)
        return {"loss": loss, **hits(scores, own)}

    def encode(self, pair: torch.Tensor, counts: list[int], rng: BatchRandom) -> tuple[torch.Tensor, torch.Tensor]:
        """Clips (B, 2, T, 3, S, S) to query and key, (B, D) of length 1; the key without gradient, and first: what its pass needs is free
        again when the query's maps are kept.
        """
        with torch.no_grad():
            if self.config.method.norm == "sync":
                key = self._key(pair[:, 1])
            else:
                key = encode_shuffled(self._key, pair[:, 1].contiguous(), counts, rng.generator)
        query = self.encoder.outputs(pair[:, 0])["projection"]
        return full_precision(query), full_precision(key)

    def _key(self, clips: torch.Tensor) -> torch.Tensor:
        return self.keyed.key_encoder.outputs(clips)["projection"]

    def _enqueue(self, key: torch.Tensor, numbers: torch.Tensor, counts: list[int]) -> None:
        if self.training:
            self.keyed.queue.enqueue(gather_rows(key, counts), gather_rows(numbers, counts))

    def _follow(self, step: int) -> None:
        """Moves the key encoder towards the query encoder, once after every optimizer step and before the next keys are made."""
        if step != self._followed:
            self._followed = step
            self.keyed.follow(self.config.method.momentum)

    def start_from(self, weights: dict[str, torch.Tensor], source: str) -> None:
        """Loads an encoder, with or without a projection head, into query and key encoder; UsageError, naming `source`, where it does not
        fit.
        """
        own = {name: tensor for name, tensor in self.encoder.state_dict().items() if name.startswith("projection.")}
        load_strict(self.encoder, own | weights, source)
        self.keyed.copy_to_keys()

    def optimizers(self) -> dict[str, OptimizerSpec]:
        groups = make_groups(self.named_parameters(), self.config.optim.weight_decay)
        return {MAIN: OptimizerSpec.of(groups, self.config.optim)}


class UberNCE(InfoNCE):
    """What the queue holds of the same class is positive too; its numbers are labels, -1 where it is still empty."""

    def losses(self, scores: torch.Tensor, key: torch.Tensor, batch: dict, counts: list[int], rng: BatchRandom) -> Losses:
        same = batch["label"][:, None] == self.keyed.queue.videos
        positive = torch.cat([torch.ones_like(same[:, :1]), same], 1)
        loss = objective.LOSSES[self.config.method.loss](scores, positive)
        self._enqueue(key, batch["label"], counts)
        return {"loss": loss, **hits(scores, positive)}


class CoCLR(InfoNCE):
    """Positives are mined in the other view by its frozen encoder (equations 4.2 to 4.5).

    A batch has `flow` beside `video`, the same frames. The numbers in the queue of keys are those of source videos, the numbers in the
    miner's are labels, -1 without, which only tell how well it mines. No optimizer steps before the queue is full.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__(config)
        self.miner = Miner(config)

    def learns(self, progress: Progress) -> bool:
        return bool((self.keyed.queue.videos >= 0).all())

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        views = (batch["video"], batch["flow"])
        own, other = views if self.config.method.view == "rgb" else views[::-1]
        mined_by = full_precision(self.miner(other[:, 1]))
        return super().forward({**batch, "video": own, "other": mined_by}, rng, progress, phase)

    def losses(self, scores: torch.Tensor, key: torch.Tensor, batch: dict, counts: list[int], rng: BatchRandom) -> Losses:
        queue, other, method = self.keyed.queue, batch["other"], self.config.method
        mined, own = objective.mine(other @ self.miner.queue.keys.T, batch["source"], queue.videos, method.topk)
        positive = torch.cat([torch.ones_like(own[:, :1]), mined | own], 1)
        found = hits(scores, positive)
        if "label" in batch:
            alike = mined & (batch["label"][:, None] == self.miner.queue.videos)
            found["mining_precision"] = (alike.sum() / mined.sum().clamp(min=1)).to(scores.dtype)
        if self.training:
            label = batch.get("label", torch.full_like(batch["source"], -1))
            self.miner.queue.enqueue(gather_rows(other, counts), gather_rows(label, counts))
        self._enqueue(key, batch["source"], counts)
        drop = torch.rand((), generator=rng.generator, device=rng.device) < method.self_mask_prob
        loss = objective.inside_log(scores, objective.without_own_key(positive, drop))
        return {"loss": loss + 0 * other.sum(), **found}  # no number in the other stream would only mine nothing: now training stops


def hits(scores: torch.Tensor, positive: torch.Tensor) -> Losses:
    """What is logged of scores (B, 1 + K): how often a positive is among the first 1 and 5."""
    scores = scores.detach()
    return {f"top{k}": objective.hit_rate(scores, positive, k) for k in (1, 5)}


METHODS = {"infonce": InfoNCE, "ubernce": UberNCE, "coclr": CoCLR}
