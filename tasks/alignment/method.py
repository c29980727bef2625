"""Both stages of Temporal Alignment Networks as the loop sees them."""

from dataclasses import dataclass

import torch

from tasks.alignment import objective, pseudo
from tasks.alignment.config import PretrainConfig
from tasks.alignment.model import Aligner, Encoded
from tasks.alignment.text import BagOfWords
from tasks.core.engine.exchange import agree, gather_rows, gather_with_gradient, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.momentum import follow, follower
from tasks.core.nn.precision import full_precision
from tasks.core.world import world

Losses = dict[str, torch.Tensor]
NEVER = -100.0
"""Logarithm of a weight that nothing outweighs."""


@dataclass
class Placed:
    """Where the rows of a batch come from, over all processes: N features, M sentences.

    Attributes:
        features, sentences: rows of every process.
        video: (N,) int64, number of each feature's video.
        at: (N,) int64, its place in the window.
        told: (M,) int64, number of each sentence's video.
    """

    features: list[int]
    sentences: list[int]
    video: torch.Tensor
    at: torch.Tensor
    told: torch.Tensor

    @classmethod
    def of(cls, video_mask: torch.Tensor, text_mask: torch.Tensor) -> "Placed":
        """From the masks (B, T), (B, K) of this process."""
        videos = row_counts(len(video_mask), video_mask.device)
        (video, at), (told, _) = (mask.nonzero(as_tuple=True) for mask in (video_mask, text_mask))
        features, sentences = (row_counts(len(rows), rows.device) for rows in (video, told))
        first = sum(videos[: world().rank])
        return cls(
            features, sentences, gather_rows(video + first, features), gather_rows(at, features), gather_rows(told + first, sentences)
        )

    def pairs(self, weights: torch.Tensor) -> torch.Tensor:
        """(N, M) logarithms of weights, -inf between videos, from those (m, T) of the sentences of this process."""
        longest = max(agree(weights.shape[1], device=weights.device))
        rows = torch.nn.functional.pad(weights, (0, longest - weights.shape[1]), value=-torch.inf)
        found = gather_rows(rows, self.sentences)[:, self.at].T
        return found.masked_fill(self.video[:, None] != self.told, -torch.inf)


class Aligning(Method):
    """Stage 1: sentences correspond to the features at their times, in both encoders and at every stage (section 3.3).

    A batch has what `data.Windows` makes.

    Args:
        config: of the run.
        video_dim: channels of a feature.
        text_dim: channels of a sentence.
        words: in the vocabulary of a bag of words; None: sentences come as vectors.
    """

    def __init__(self, config: PretrainConfig, video_dim: int, text_dim: int, words: int | None = None):
        super().__init__()
        self.config = config
        self.text = None if words is None else BagOfWords(config.text, words)
        self.aligner = Aligner(config.model, video_dim, text_dim)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        encoded = self.encode(batch, self._offset(rng))
        with torch.autocast(batch["video"].device.type, enabled=False):
            return self.losses(encoded, batch)

    def encode(self, batch: dict, offset: int = 0) -> Encoded:
        """Videos and sentences of a batch through both encoders."""
        return self.aligner(batch["video"], self.sentences(batch), batch["video_mask"], batch["text_mask"], offset)

    def sentences(self, batch: dict) -> torch.Tensor:
        """(B, K, text_dim)."""
        return batch["text"] if self.text is None else self.text(batch["text"])

    def losses(self, encoded: Encoded, batch: dict) -> Losses:
        """Of the times that came with the sentences."""
        placed = Placed.of(batch["video_mask"], batch["text_mask"])
        found = self.correspondence(encoded, batch, placed, placed.pairs(batch["right"][batch["text_mask"]]))
        loss = (found["dual_loss"] + found["joint_loss"]) / 2
        return {"loss": loss + 0 * encoded.alignable.sum(), **{name: value.detach() for name, value in found.items()}}

    def correspondence(
        self, encoded: Encoded, batch: dict, placed: Placed, right: torch.Tensor, kept: torch.Tensor | None = None
    ) -> Losses:
        """`dual_loss` and `joint_loss`; right (N, M) and kept (M,) as `objective.correspondence`."""

        def rows(values: torch.Tensor, mask: torch.Tensor, counts: list[int]) -> torch.Tensor:
            own = full_precision(values).transpose(1, 2)[mask]  # (n, S, C)
            return gather_with_gradient(own, counts).transpose(0, 1)

        seen, told = batch["video_mask"], batch["text_mask"]
        pairs = {"dual_loss": (encoded.dual_video, encoded.dual_text[:, None]), "joint_loss": (encoded.joint_video, encoded.joint_text)}
        return {
            name: objective.correspondence(
                rows(video, seen, placed.features), rows(text, told, placed.sentences), right, self.config.method.temperature, kept
            )
            for name, (video, text) in pairs.items()
        }

    def _offset(self, rng: BatchRandom) -> int:
        """A random first position, so that the whole table is learned; 0 in tests."""
        length = self.config.data.max_length
        if not self.training or length is None or self.config.model.positions is None:
            return 0
        return rng.shared_index(max(1, min(length // 2, self.config.model.positions - length)))

    def optimizers(self) -> dict[str, OptimizerSpec]:
        groups = make_groups(self.named_parameters(), self.config.optim.weight_decay)
        return {MAIN: OptimizerSpec.of(groups, self.config.optim)}


class Cotraining(Aligning):
    """Stage 2: times on which both encoders of a moving average agree replace those given; the sentences that are most like the video at
    their times count, and teach the head what is alignable (section 3.4).
    """

    def __init__(self, config: PretrainConfig, video_dim: int, text_dim: int, words: int | None = None):
        super().__init__(config, video_dim, text_dim, words)
        self.target = follower(self.aligner)
        self._followed = 0

    def restart_target(self) -> None:
        """Makes the moving average what the network is now."""
        self.target.load_state_dict(self.aligner.state_dict())

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        if progress.step != self._followed:  # once after every optimizer step
            self._followed = progress.step
            follow(self.target.parameters(), self.aligner.parameters(), self.config.method.momentum)
        return super().forward(batch, rng, progress, phase)

    def losses(self, encoded: Encoded, batch: dict) -> Losses:
        method, told = self.config.method, batch["text_mask"]
        placed = Placed.of(batch["video_mask"], told)
        with torch.no_grad():
            self.target.eval()
            target = self.target(batch["video"], self.sentences(batch), batch["video_mask"], told)
            weights, changed, scores = self.infer(tuple(map(full_precision, target.similarities())), batch)
            kept, labels = self.select(encoded, scores, batch, placed)
        found = self.correspondence(encoded, batch, placed, placed.pairs(weights[told]), kept)
        logits = gather_with_gradient(full_precision(encoded.alignable)[told], placed.sentences)
        found["head_loss"] = objective.alignability(logits, labels)
        loss = (found["dual_loss"] + found["joint_loss"]) / 2 + method.head_weight * found["head_loss"]
        share = changed[told].float().mean() if told.any() else torch.zeros(())
        return {"loss": loss, **{name: value.detach() for name, value in found.items()}, "changed": share}

    def infer(self, similarities: tuple[torch.Tensor, torch.Tensor], batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights of the new times (B, K, T), as `right`; which of them changed, (B, K) bool; how similar sentences are there, (B, K).

        Args:
            similarities: dual and joint cosines (B, K, T) of the moving average.
            batch: `given`, `right` and the masks.
        """
        method, told, seen = self.config.method, batch["text_mask"], batch["video_mask"]
        durations = batch["given"].sum(-1).clamp(min=1) * told
        if self.config.window.spread_s:
            similarities = tuple(values + method.temperature * batch["right"].clamp(min=NEVER) for values in similarities)
        dual, joint = (pseudo.spans(values, durations, seen, told, method.windows, method.temperature)[1] for values in similarities)
        masks, changed = pseudo.agreed(dual, joint, batch["given"], method)
        new = torch.zeros_like(batch["right"]).masked_fill(~masks, -torch.inf)
        weights = torch.where((changed | method.one_sentence)[..., None], new, batch["right"])
        return weights, changed, pseudo.mean_scores(sum(similarities), masks)

    def select(self, encoded: Encoded, scores: torch.Tensor, batch: dict, placed: Placed) -> tuple[torch.Tensor, torch.Tensor]:
        """Which sentences count, (M,) bool, and labels of the head, (M,) int64 as `objective.alignability`.

        Args:
            encoded: of the network itself.
            scores: (B, K) of `infer`.
            batch: with its masks.
            placed: of the batch.
        """
        method, told, seen = self.config.method, batch["text_mask"], batch["video_mask"]

        def everywhere(values: torch.Tensor) -> torch.Tensor:
            return gather_rows(values[told].contiguous(), placed.sentences)

        hidden = ~seen[:, None]
        best = [everywhere(full_precision(v.detach()).masked_fill(hidden, -torch.inf).amax(-1)) for v in encoded.similarities()]
        if method.score == "mean":
            kept = pseudo.best_share(everywhere(scores), method.alpha)
        else:
            kept = pseudo.above_quantile(pseudo.standard_maxima(*best), method.alpha)
        labels = pseudo.median_labels(*best) if method.labels == "medians" else kept.long()
        return kept, labels.masked_fill(everywhere(batch["edge"].to(torch.uint8)).bool(), 0)


METHODS = {"tan": Aligning, "tan-cotrain": Cotraining}
