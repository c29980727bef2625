"""Features of whole videos that have seen their neighbours, the means of them inside segments, and the classes of these."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tasks.core.data.grid import Grid
from tasks.prompting.model import PromptedModel, scores


@dataclass(frozen=True)
class Matcher:
    """Tells by their vectors what segments show.

    Attributes:
        text: (C, dim), vectors of the classes.
        temperature: cosines are divided by it.
        model: what lets frames see each other; None: they stay as they are.
    """

    text: torch.Tensor
    temperature: float
    model: PromptedModel | None = None

    def dense(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Features of neighbouring frames of a video, block after block, as the classes are compared with them.

        The video is cut into snippets of as many frames as the model takes, within which frames see each other. The last snippet reaches
        back to be whole; a video that is shorter than one ends in its last frame, repeated.

        Args:
            blocks: (n, dim), any n.

        Yields:
            (m, dim) float32, as many features in all, in their order.
        """
        if self.model is None or not self.model.config.temporal.layers:
            yield from (np.asarray(block, np.float32) for block in blocks)
            return
        frames, before, held = self.model.config.frames, None, None
        for block in blocks:
            held = np.asarray(block, np.float32) if held is None else np.concatenate([held, block])
            while len(held) >= frames:
                before, held = held[:frames], held[frames:]
                yield self._snippet(before)
        if held is not None and len(held):
            reached = held if before is None else np.concatenate([before, held])[-frames:]
            yield self._snippet(reached)[len(reached) - len(held) :]

    @torch.no_grad()
    def _snippet(self, features: np.ndarray) -> np.ndarray:
        """(m, dim) of a snippet with m <= frames features."""
        places = np.minimum(np.arange(self.model.config.frames), len(features) - 1)
        given = torch.from_numpy(features[places])[None].to(self.text)
        return self.model.dense_features(given)[0, : len(features)].float().cpu().numpy()

    @torch.no_grad()
    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Of the classes, (P, C) float32, by vectors (P, dim)."""
        return scores(torch.from_numpy(vectors).to(self.text), self.text, self.temperature).softmax(-1).float().cpu().numpy()


def means_inside(dense: np.ndarray, grid: Grid, segments: np.ndarray) -> np.ndarray:
    """The mean of the features whose middle lies in a segment; of the nearest feature where none does, as in one without length.

    Args:
        dense: (n, dim), n at least 1.
        grid: where they lie.
        segments: (P, 2), start and end in seconds.

    Returns:
        (P, dim) float32.
    """
    found = np.empty((len(segments), dense.shape[1]), np.float32)
    for place, (start, end) in zip(found, segments.tolist(), strict=True):
        low, high = grid.part(len(dense), start, end)
        place[:] = dense[low:high].mean(0)
    return found
