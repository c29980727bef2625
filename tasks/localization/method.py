"""The localiser as the training loop sees it."""

import torch

from tasks.core.engine.exchange import row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.world import world
from tasks.localization import contrast, objective
from tasks.localization.config import STREAMS, FinetuneConfig
from tasks.localization.model import EventLocalizer, Output
from tasks.localization.targets import Targets, assign, make_points, token_labels, tokens_inside

Losses = dict[str, torch.Tensor]
MOMENTUM = 0.9
"""Of the moving average of positive points."""


class EventTraining(Method):
    """Losses of the heads over a moving average of positive points, and those of alignment and contrast.

    A batch has what `data.TrainPieces` makes: `video` (B, C_v, T) and `audio` (B, C_a, T), those that the model takes; `mask` (B, T) bool;
    `segments`, B tensors (n, 2) on the grid of features; `labels`, B tensors (n,) int64.

    Args:
        config: of the run.
        dims: channels of the streams.
        classes: K.
    """

    def __init__(self, config: FinetuneConfig, dims: dict[str, int], classes: int):
        super().__init__()
        self.config = config
        self.localizer = EventLocalizer(config.model, dims, classes)
        self.register_buffer("positives", torch.tensor(float(config.loss.first_positives)))

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        output = self.localizer(batch.get("video"), batch.get("audio"), batch["mask"])
        mask = output.masks[0]
        with torch.autocast(mask.device.type, enabled=False):
            found = self.head_losses(output, batch)
            loss = found["class_loss"] + self.config.loss.regression * found["boundary_loss"]
            for name, (weight, value) in self._side_losses(output, batch, mask, rng).items():
                loss, found[name] = loss + weight * value, value
        return {"loss": loss, **{name: value.detach() for name, value in found.items()}}

    def head_losses(self, output: Output, batch: dict) -> Losses:
        """Class and boundary loss, both over the moving average of positive points, which moves on in training."""
        logits, offsets = (full_precision(torch.cat(levels, 1)) for levels in (output.logits, output.offsets))
        targets = self.targets(output, batch)
        classes, boundaries, positives = objective.head_sums(
            logits, offsets, torch.cat(output.masks, 1), targets, self.config.loss.smoothing
        )
        if self.training:
            everywhere = sum(row_counts(int(positives), positives.device))
            self.positives.mul_(MOMENTUM).add_((1 - MOMENTUM) * max(everywhere, 1))
        share = self.positives.clone() / world().size  # losses of all processes are averaged
        return {"class_loss": classes / share, "boundary_loss": boundaries / share}

    def targets(self, output: Output, batch: dict) -> list[Targets]:
        """Of every video of a batch, over all levels."""
        config = self.config
        points = make_points([mask.shape[1] for mask in output.masks], config.model.ranges, output.masks[0].device)
        settings = (self.localizer.classes, config.model.head.class_aware, config.loss.center_radius)
        return [assign(points, segments, labels, *settings) for segments, labels in zip(batch["segments"], batch["labels"], strict=True)]

    def _side_losses(self, output: Output, batch: dict, mask: torch.Tensor, rng: BatchRandom) -> dict[str, tuple[float, torch.Tensor]]:
        """Name -> (weight, loss) of alignment and contrast, those that the model has."""
        found, length = {}, mask.shape[1]
        aligned, model = output.aligned, self.config.model
        if aligned is not None and aligned.pairs is not None:
            events = [tokens_inside(segments, length) for segments in batch["segments"]]
            found["mask_loss"] = (model.alignment.supervision, objective.pair_loss(aligned.pairs, aligned.gates, events, mask))
        if self.localizer.token_scores is None:
            return found
        settings, heads = model.contrast, self.localizer.token_scores
        tokens = {name: full_precision(values) for name, values in aligned.tokens.items()}
        truth = torch.stack(
            [token_labels(*event, length, self.localizer.classes) for event in zip(batch["segments"], batch["labels"], strict=True)]
        )
        videos = [full_precision(aligned.videos[name]) for name in STREAMS]
        found["inter_loss"] = (settings.inter, contrast.inter_loss(*videos, contrast.scale_of(heads.inter_scale)))
        random = rng.rand(len(mask), length) if settings.negatives == "random" else None
        scale = contrast.scale_of(heads.intra_scale)
        intra, videos = contrast.intra_loss(tokens, output.scores, output.classes, truth, mask, settings, scale, random)
        everywhere = sum(row_counts(videos, mask.device))
        found["intra_loss"] = (settings.intra, intra * world().size / max(everywhere, 1))
        inside = truth.any(-1)
        scores = {name: objective.focal(full_precision(values), inside.to(tokens[name].dtype)) for name, values in output.scores.items()}
        classes = {name: objective.focal(full_precision(values), truth.to(tokens[name].dtype)) for name, values in output.classes.items()}
        found["score_loss"] = (settings.score, sum((values * mask).sum() for values in scores.values()) * world().size)
        of_classes = sum((values * mask[..., None]).sum() for values in classes.values())
        found["token_class_loss"] = (settings.token_class, of_classes * world().size)
        return found

    def optimizers(self) -> dict[str, OptimizerSpec]:
        groups = make_groups(self.named_parameters(), self.config.optim.weight_decay)
        return {MAIN: OptimizerSpec.of(groups, self.config.optim)}
