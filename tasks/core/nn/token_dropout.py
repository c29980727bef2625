"""Token dropout with partial reconstruction, for any objective on a video transformer ("Turbo").

The encoder sees a random share of a clip's tokens, and a light decoder reconstructs a share of the others; the rest takes no part:

    kept = dropout.draw(len(video), rng)
    out = encoder.outputs(video, kept.visible)
    losses = dropout(task_loss(out), n_choices, video, out, kept)

Source: Han et al., "Turbo training with token dropout", BMVC 2022.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from tasks.core.errors import UsageError
from tasks.core.nn.config import DecoderConfig, TokenDropoutConfig, VitConfig
from tasks.core.nn.masked import PixelDecoder, ReconstructionLoss
from tasks.core.nn.vit import Norm
from tasks.core.profile import span

_ROUNDING = 1e-9


class RowRandom(Protocol):
    """Where draws come from (`core.engine.random.BatchRandom`)."""

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        """`(n, *shape)` uniform in [0, 1)."""


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens of a clip the encoder sees, the decoder reconstructs, and nobody looks at."""

    visible: int
    targets: int
    ignored: int

    @property
    def total(self) -> int:
        return self.visible + self.targets + self.ignored


@dataclass(frozen=True)
class KeptTokens:
    """Token numbers of every clip, int64 and ascending: `visible` `(n, N_i)`, `targets` `(n, N_r)`."""

    visible: torch.Tensor
    targets: torch.Tensor


def share_of(grid: tuple[int, int, int], share: float, pattern: str, what: str) -> int:
    """How many tokens a share of a clip is, rounded down; whole tubes for `tube`.

    Args:
        grid: tokens along (time, rows, columns).
        share: in (0, 1].
        pattern: as in `TokenDropoutConfig`.
        what: the setting that gives the share, with a verb, for the error.

    Raises:
        UsageError: it is none.
    """
    count, tubes = _rounded(grid, share, pattern), _tube(grid, pattern)
    if not count:
        all_of = f"{math.prod(grid) // tubes} tubes of {tubes} tokens" if tubes > 1 else f"{math.prod(grid)} tokens"
        raise UsageError(f"{what} none of a clip's {all_of}", "choose another share, or larger clips")
    return count


def _tube(grid: tuple[int, int, int], pattern: str) -> int:
    """Tokens that are drawn together."""
    return grid[0] if pattern == "tube" else 1


def _rounded(grid: tuple[int, int, int], share: float, pattern: str) -> int:
    tubes = _tube(grid, pattern)
    return math.floor(math.prod(grid) // tubes * share + _ROUNDING) * tubes


def token_counts(grid: tuple[int, int, int], config: TokenDropoutConfig) -> TokenCounts:
    """The counts of a clip, rounded once: down, for what is seen and what is ignored; `r = m` ignores nothing.

    Args:
        grid: tokens along (time, rows, columns).
        config: shares and pattern.

    Raises:
        UsageError: a share that leaves no token.
    """
    total, m, r = math.prod(grid), config.mask, config.reconstruct_used()
    if not m:
        return TokenCounts(total, 0, 0)
    visible = share_of(grid, 1 - m, config.pattern, f"mask {m:g} leaves the encoder")
    if not r:
        return TokenCounts(visible, 0, total - visible)
    share_of(grid, r, config.pattern, f"reconstruct {r:g} takes")
    ignored = _rounded(grid, m - r, config.pattern)
    return TokenCounts(visible, total - visible - ignored, ignored)


def through_time(places: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Token numbers `(n, T * k)` of the places `(n, k)`, numbered row by row, in every frame of a grid (time, rows, columns)."""
    offsets = torch.arange(grid[0], device=places.device) * (grid[1] * grid[2])
    return (offsets[None, :, None] + places[:, None]).flatten(1)


def keep_tokens(grid: tuple[int, int, int], share: float, pattern: str, seeds: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Tokens that are seen in testing, `(n, N_i)` int64: for each clip a draw that depends on its own seed and on `seed` alone.

    Args:
        grid: tokens along (time, rows, columns).
        share: of the tokens.
        pattern: as in `TokenDropoutConfig`.
        seeds: one for each clip, not negative.

    Raises:
        UsageError: the share leaves no token.
    """
    tubes = _tube(grid, pattern)
    units, count = math.prod(grid) // tubes, share_of(grid, share, pattern, f"keep {share:g} leaves") // tubes
    drawn = [np.sort(np.random.default_rng([seed, own]).permutation(units)[:count]) for own in seeds]
    places = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, count, dtype=torch.int64)
    return through_time(places, grid) if tubes > 1 else places


class TokenDropout(nn.Module):
    """Draws tokens; decodes and scores those to be reconstructed.

    Args:
        model: settings of the encoder.
        config: shares, pattern, decoder, target.
        mean: of the normalisation of the video, per colour.
        std: of the same.
        normed: whether the encoder's tokens come out of its final norm; else they go through a norm of the decoder's own.

    Attributes:
        counts: of a clip.
        decoder: None where nothing is reconstructed.

    Raises:
        UsageError: shares that leave no token.
    """

    def __init__(self, model: VitConfig, config: TokenDropoutConfig, mean: Sequence[float], std: Sequence[float], normed: bool):
        super().__init__()
        self.config, self.grid, self.counts = config, model.grid(), token_counts(model.grid(), config)
        self.tubes = _tube(self.grid, config.pattern)
        self.decoder = PixelDecoder(model, config.decoder) if self.counts.targets else None
        if self.decoder is not None:
            self.norm = nn.Identity() if normed else Norm(model.widths()[0], eps=model.norm_eps)
            self.errors = ReconstructionLoss(config.target, model.tubelet, model.patch, mean, std)

    def draw(self, n: int, rng: RowRandom) -> KeptTokens:
        """A fresh permutation for each of `n` clips: first what is seen, then what is reconstructed."""
        order = rng.rand(n, self.counts.total // self.tubes).argsort(-1)
        seen, end = self.counts.visible // self.tubes, (self.counts.visible + self.counts.targets) // self.tubes
        parts = [part.sort(-1).values for part in (order[:, :seen], order[:, seen:end])]
        return KeptTokens(*(through_time(part, self.grid) if self.tubes > 1 else part for part in parts))

    def weight(self, n_choices: int) -> float:
        """Of the task's loss: as configured, else 1 / ln(n_choices), which makes a loss of cross-entropy about 1 at the start; 1 where
        nothing is reconstructed.
        """
        if self.config.weight is not None:
            return self.config.weight
        return 1 / math.log(max(2, n_choices)) if self.decoder is not None else 1.0

    def forward(
        self, task: torch.Tensor, n_choices: int, video: torch.Tensor, outputs: Mapping[str, torch.Tensor], kept: KeptTokens
    ) -> dict[str, torch.Tensor]:
        """Joins the loss of a task with that of the reconstruction.

        Args:
            task: the task's loss, a scalar.
            n_choices: among how many things the task chooses: classes, or the pairs of a batch.
            video: normalised `(B, T, 3, S, S)`, as the encoder saw it.
            outputs: of the encoder for `kept.visible`.
            kept: what `draw` gave.

        Returns:
            `loss`, the weighted sum; `task_loss` and, where something is reconstructed, `reconstruction`, detached.
        """
        loss, found = self.weight(n_choices) * task, {"task_loss": task.detach()}
        if self.decoder is not None:
            reconstruction = self.reconstruction(video, outputs, kept)
            loss, found = loss + reconstruction, {**found, "reconstruction": reconstruction.detach()}
        return {"loss": loss, **found}

    def reconstruction(self, video: torch.Tensor, outputs: Mapping[str, torch.Tensor], kept: KeptTokens) -> torch.Tensor:
        """Mean error of the targets over tokens, pixels and clips (arguments as `forward`)."""
        encoded = outputs["tokens"]
        if self.config.decoder_cls and "pooled" in outputs:
            encoded = torch.cat((outputs["pooled"][:, None], encoded), dim=1)
        with span("decode"):
            prediction = self.decoder.decode(self.norm(encoded), kept.visible, kept.targets)
        with span("loss"):
            return self.errors(video, kept.targets, prediction).mean()


def plain_macs(model: VitConfig, decoder: DecoderConfig, counts: TokenCounts, class_token: bool = True) -> int:
    """Multiply-adds of a forward pass of one clip as the paper counts them ("GFLOPs"): every cube is embedded, also those that are dropped,
    and every block of the decoder computes all of its tokens. What is computed here is less (see `tasks/classify/README.md`).

    Args:
        model: settings of the encoder.
        decoder: settings of the decoder.
        counts: of a clip.
        class_token: whether there is one, which the decoder sees too.
    """

    def blocks(depth: int, n: int, dim: int) -> int:
        return depth * (12 * n * dim**2 + 2 * n**2 * dim)

    dim, depth, _ = model.widths()
    pixels, seen = 3 * model.tubelet * model.patch**2, counts.visible + class_token
    macs = counts.total * pixels * dim + blocks(depth, seen, dim)
    if counts.targets:
        width = decoder.dim or dim // 2
        macs += seen * dim * width + blocks(decoder.depth, seen + counts.targets, width) + counts.targets * width * pixels
    return macs
