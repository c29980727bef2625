"""cVCLR as the loop sees it: a query and a key encoder, heads for four tasks, two queues."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from tasks.boundaries import objective
from tasks.boundaries.config import PretrainConfig
from tasks.core.engine.exchange import encode_shuffled, gather_rows, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.momentum import follow, follower
from tasks.core.nn.precision import full_precision
from tasks.core.nn.queue import KeyQueue
from tasks.core.nn.resnet_tsm import MotionResNet
from tasks.core.nn.shared_norm import share_norms

TASKS = ("inter", "intra", "segment", "order")


def projection(channels: int, dim: int) -> nn.Sequential:
    """Head of MoCo v2: (N, channels) -> (N, dim); its two layers are what MoCo's weights call `fc`."""
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, dim))


class ClipContrast(Method):
    """Four pretext tasks, two on frames and two on clips (thesis section 3.3.1); plain VCLR with `contrast.clip_tasks` off.

    A batch has what `data.PretrainViews` makes. The key encoder and its heads follow the query's by a moving average. They stay in
    training mode: their batch norms take the statistics of the batch, as in MoCo and VCLR.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.config, c = config, config.contrast
        self.encoder = MotionResNet(config.model)
        if c.norm == "sync":
            share_norms(self.encoder)
        self.heads = nn.ModuleDict({name: projection(self.encoder.channels, c.dim) for name in TASKS})
        self.order = nn.Linear(2 * c.segments * c.dim, 4)
        self.key_encoder, self.key_heads = follower(self.encoder), follower(self.heads)
        self.frame_queue, self.segment_queue = KeyQueue(c.queue, c.dim), KeyQueue(c.queue, c.dim)
        self._followed = 0

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        frames, anchor, positive, videos = (batch[name] for name in ("frames", "anchor", "positive", "uid"))
        self._follow(progress.step)
        draws = rng.rand(len(videos), 4)
        query_frame = self._frames(self.encoder, frames[:, 0])
        query_clips = self._clips(self.encoder, anchor.flatten(0, 1)).unflatten(0, anchor.shape[:2])
        with torch.no_grad():
            counts = row_counts(len(videos), videos.device)
            key_frames = self._keys(self._frames, frames[:, 1:], counts, rng)
            key_clips = self._keys(self._clips, positive, counts, rng)
        with torch.autocast(frames.device.type, enabled=False):  # cosines over a temperature of 0.01
            query_frame, query_clips, key_frames, key_clips = map(full_precision, (query_frame, query_clips, key_frames, key_clips))
            losses = {
                "inter": self._inter(query_frame, key_frames, videos, counts),
                "intra": self._intra(query_frame, key_frames),
                "segment": self._segment(query_clips.mean(1), key_clips.mean(1), videos, counts),
                "order": self._order(query_clips, key_clips, draws),
            }
        loss = sum(weight * losses[name] for name, weight in zip(TASKS, self.config.contrast.weights, strict=True))
        return {"loss": loss, **{name: value.detach() for name, value in losses.items()}}

    def _frames(self, encoder: MotionResNet, frames: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) -> (n, C); TSM and MotionSqueeze are passed over."""
        return encoder(frames).mean((2, 3))

    def _clips(self, encoder: MotionResNet, clips: torch.Tensor) -> torch.Tensor:
        """Clips (n, T, 3, S, S) to the means of their frames, (n, C)."""
        segments = clips.shape[1] if self.config.contrast.clip_tasks else None
        return encoder(clips.flatten(0, 1), segments).mean((2, 3)).unflatten(0, clips.shape[:2]).mean(1)

    def _keys(
        self, encode: Callable[[MotionResNet, torch.Tensor], torch.Tensor], parts: torch.Tensor, counts: list[int], rng: BatchRandom
    ) -> torch.Tensor:
        """(B, P, ...) -> (B, P, C) by the key encoder."""
        flat, each = parts.flatten(0, 1), parts.shape[1]
        if self.config.contrast.norm == "sync":
            keys = encode(self.key_encoder, flat)
        else:
            keys = encode_shuffled(lambda x: encode(self.key_encoder, x), flat, [n * each for n in counts], rng.generator)
        return keys.unflatten(0, parts.shape[:2])

    def _embed(self, task: str, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (..., C) to directions (..., D) by the two heads of a task; no gradient for the key."""
        with torch.no_grad():
            key = F.normalize(self.key_heads[task](key), dim=-1)
        return F.normalize(self.heads[task](query), dim=-1), key

    def _inter(self, query: torch.Tensor, keys: torch.Tensor, videos: torch.Tensor, counts: list[int]) -> torch.Tensor:
        query, keys = self._embed("inter", query, keys)
        loss = objective.inter(query, keys, *self.frame_queue.negatives(videos), self.config.contrast.temperature)
        everywhere = gather_rows(keys, counts)
        self.frame_queue.enqueue(everywhere.flatten(0, 1), gather_rows(videos, counts).repeat_interleave(everywhere.shape[1]))
        return loss

    def _intra(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        query, keys = self._embed("intra", query, keys)
        return objective.intra(query, keys, self.config.contrast.temperature, self.config.contrast.intra)

    def _segment(self, query: torch.Tensor, key: torch.Tensor, videos: torch.Tensor, counts: list[int]) -> torch.Tensor:
        query, key = self._embed("segment", query, key)
        loss = objective.segment(query, key, *self.segment_queue.negatives(videos), self.config.contrast.temperature)
        self.segment_queue.enqueue(gather_rows(key, counts), gather_rows(videos, counts))
        return loss

    def _order(self, query: torch.Tensor, key: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Clips are encoded one by one, so that shuffling their features is shuffling the clips."""
        tuples, labels = [], []
        for embedded, draw in zip(self._embed("order", query, key), (draws[:, :2], draws[:, 2:]), strict=True):
            order, shuffled = objective.draw_orders(draw, embedded.shape[1])
            tuples.append(embedded.gather(1, order[..., None].expand_as(embedded)))
            labels.append(shuffled)
        return objective.order(self.order(torch.cat(tuples, 1).flatten(1)), *labels)

    def _follow(self, step: int) -> None:
        """Moves the key encoder and heads towards the query's, once after every optimizer step."""
        if step == self._followed:
            return
        self._followed = step
        queries = [*self.encoder.parameters(), *self.heads.parameters()]
        keys = [*self.key_encoder.parameters(), *self.key_heads.parameters()]
        follow(keys, queries, self.config.contrast.momentum)

    def copy_to_keys(self) -> None:
        """Makes the key encoder and its heads equal to the query's."""
        self.key_encoder.load_state_dict(self.encoder.state_dict())
        self.key_heads.load_state_dict(self.heads.state_dict())

    def optimizers(self) -> dict[str, OptimizerSpec]:
        optim = self.config.optim
        return {MAIN: OptimizerSpec.of(make_groups(self.named_parameters(), optim.weight_decay), optim)}
