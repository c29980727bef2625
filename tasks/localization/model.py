"""The localiser: alignment, pyramids, neck and heads, each where the configuration has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.errors import UsageError
from tasks.core.nn.sequence import masked
from tasks.core.profile import span
from tasks.localization.alignment import Aligned, Alignment, Projection
from tasks.localization.backbone import Backbone
from tasks.localization.config import LocalizerConfig
from tasks.localization.contrast import TokenScores
from tasks.localization.dependency import Dependency
from tasks.localization.frontend import Frontend
from tasks.localization.heads import BoundaryHead, ClassHead, Joined
from tasks.localization.neck import PathAggregation


@dataclass
class Output:
    """What a localiser says of B videos; level l has T / 2 ** l points, point i lies at feature i * 2 ** l.

    Attributes:
        logits: of each level, (B, T_l, K).
        offsets: of each level, (B, T_l, 2), or (B, T_l, K, 2) where every class has its own: distances to start and end in strides.
        masks: of each level, (B, T_l) bool, points inside of the video.
        aligned: what the losses of alignment and contrast look at; None where the model has neither.
        scores: stream -> (B, T) logits of tokens in any event; {} without contrast.
        classes: stream -> (B, T, K) logits of tokens' classes.
    """

    logits: list[torch.Tensor]
    offsets: list[torch.Tensor]
    masks: list[torch.Tensor]
    aligned: Aligned | None = None
    scores: dict[str, torch.Tensor] = field(default_factory=dict)
    classes: dict[str, torch.Tensor] = field(default_factory=dict)


class EventLocalizer(nn.Module):
    """Events of K classes in features of picture and sound.

    Args:
        config: of the model.
        dims: channels of the streams, by STREAMS.
        classes: K.

    Raises:
        UsageError: a stream that the model needs has no channels.
    """

    def __init__(self, config: LocalizerConfig, dims: Mapping[str, int], classes: int):
        super().__init__()
        self.config, self.classes = config, classes
        self.needed = config.needed
        if missing := [name for name in self.needed if not dims.get(name)]:
            raise UsageError(f"the model takes the stream '{missing[0]}', and there is none", "give its folder, or set model.input")
        if config.columns > 1 and "visual" in self.needed and dims["visual"] % config.columns:
            raise UsageError(f"the {dims['visual']} visual channels do not divide by model.columns {config.columns}")
        self.frontend = Frontend(config, {name: dims[name] for name in self.needed})
        sizes = self.frontend.dims
        if config.input == "concat":
            sizes = {"concat": sum(sizes.values())}
        self.align = None
        if config.aligned or config.contrasted:
            self.align = (Alignment if config.aligned else Projection)(config, sizes)
            sizes = dict.fromkeys(sizes, config.width)
        self.token_scores = TokenScores(config.width, classes) if config.contrasted else None
        self.backbone = Backbone(config, sizes)
        self.neck = PathAggregation(config) if config.neck.enabled else None
        width = config.width * len(sizes)
        self.level_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.levels if config.level_norm else 0))
        self.dependency = Dependency(width, classes, config) if config.dependency else None
        self.class_head = ClassHead(width, classes, config.head, config.clean_padding)
        self.boundary_head = BoundaryHead(width, classes, config.levels, config.head, config.clean_padding)

    def forward(self, video: torch.Tensor | None, audio: torch.Tensor | None, mask: torch.Tensor) -> Output:
        """Scores of every point.

        Args:
            video: (B, C_v, T) features of the picture; None where the model takes none.
            audio: (B, C_a, T) features of the sound at the same times.
            mask: (B, T) bool, valid features.

        Returns:
            for T as `LocalizerConfig.padded` makes it longer.
        """
        streams, mask = self._streams({"visual": video, "audio": audio}, mask)
        aligned = None
        if self.align is not None:
            with span("alignment"):
                aligned = self.align(streams, mask)
            streams = aligned.tokens
        with span("backbone"):
            pyramids, masks = self.backbone(streams, mask)
        if self.neck is not None:
            with span("neck"):
                pyramids = self._fuse(pyramids, masks)
        with span("heads"):
            levels = [torch.cat(parts, -1) for parts in zip(*pyramids.values(), strict=True)]
            levels = [norm(x) for norm, x in zip(self.level_norms, levels, strict=True)] if self.level_norms else levels
            if self.level_norms and self.config.clean_padding:
                levels = [masked(x, valid) for x, valid in zip(levels, masks, strict=True)]
            if self.dependency is not None:
                levels = self.dependency(levels, masks)
            joined = Joined.of(levels, masks)
            logits, offsets = self.class_head(joined), self.boundary_head(joined)
        found = Output(logits, offsets, masks, aligned)
        if self.token_scores is not None:
            found.scores, found.classes = self.token_scores(aligned.tokens)
        return found

    def _streams(self, given: dict[str, torch.Tensor | None], mask: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The streams that the model takes as (B, T, C), zero where they are not valid, and the mask, both of a length that divides."""
        rest = self.config.padded(mask.shape[1]) - mask.shape[1]
        mask = F.pad(mask, (0, rest))
        streams = {name: masked(F.pad(given[name], (0, rest)).transpose(1, 2), mask) for name in self.needed}
        streams = self.frontend(streams, mask)
        if self.config.input == "concat":
            streams = {"concat": torch.cat(list(streams.values()), -1)}
        return streams, mask

    def _fuse(self, pyramids: dict[str, list[torch.Tensor]], masks: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Each pyramid, guided by the other modality at full length; a single one by itself. The neck is one for all, so they go as one
        batch.
        """
        names = list(pyramids)
        levels = [torch.cat(parts) for parts in zip(*pyramids.values(), strict=True)]
        masks = [mask.repeat(len(names), 1) for mask in masks]
        guide = torch.cat([pyramids[name][0] for name in reversed(names)])
        fused = self.neck(levels, masks, guide)
        return {name: [x.chunk(len(names))[number] for x in fused] for number, name in enumerate(names)}
