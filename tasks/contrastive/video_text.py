"""Video and text in one space: the network, and its training as the loop sees it (setting B of Han et al., "Turbo training with token
dropout", BMVC 2022; thesis section 6.4).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from tasks.contrastive.config import NewTextConfig, PretrainConfig
from tasks.core.engine.exchange import gather_rows, gather_with_gradient, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.clip import TextTransformer
from tasks.core.nn.clip_config import ClipTextConfig
from tasks.core.nn.encoders import build_encoder, pooled_of
from tasks.core.nn.precision import full_precision
from tasks.core.nn.token_dropout import TokenDropout
from tasks.core.profile import span

Losses = dict[str, torch.Tensor]


def text_settings(new: NewTextConfig, vocabulary: int, dim: int) -> ClipTextConfig:
    """The settings of a text transformer that is trained from random weights.

    Args:
        new: as configured.
        vocabulary: tokens that its tokenizer knows.
        dim: length of the compared vectors.
    """
    sizes = {"width": new.width, "depth": new.depth, "heads": new.heads, "hidden": 4 * new.width, "context": new.context}
    return ClipTextConfig(**sizes, vocabulary=vocabulary, projection=dim, activation="gelu")


def pair_loss(video: torch.Tensor, text: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric InfoNCE: every clip has to find its sentence among all of the batch, and every sentence its clip (thesis section 6.4).

    Args:
        video, text: (N, D); row i of both belong together.
        temperature: dot products are divided by it.

    Returns:
        the mean over rows of half the sum of both cross-entropies; (N, N) logits, clips in rows.
    """
    logits = video @ text.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2, logits


class VideoText(nn.Module):
    """A video encoder and what brings clips and sentences into one space.

    Args:
        config: of the run.
        text_dim: length of the vectors of a frozen text tower, which stands elsewhere; None: text is trained here.
        vocabulary: tokens of the text that is trained here.

    Attributes:
        dim: length of the compared vectors.
    """

    def __init__(self, config: PretrainConfig, text_dim: int | None, vocabulary: int = 0):
        super().__init__()
        method = config.method
        self.cosine = method.cosine
        self.encoder = build_encoder(config.model)
        self.dim = method.dim or text_dim or self.encoder.dim
        self.video_projection = nn.Linear(self.encoder.dim, self.dim, bias=False)
        self.text = TextTransformer(text_settings(method.text.new, vocabulary, self.dim)) if text_dim is None else None
        self.text_projection = nn.Linear(text_dim, self.dim, bias=False) if text_dim and method.dim else None

    def video_vectors(self, outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the encoder made of B clips to float32 `(B, dim)`, of length 1 where cosines are compared."""
        return self._directions(self.video_projection(pooled_of(outputs)))

    def text_vectors(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sentences to float32 `(B, dim)`, of length 1 where cosines are compared.

        Args:
            given: `text` `(B, text_dim)`, vectors of the frozen tower; or `ids` `(B, L)` int64, token numbers, and `end` `(B,)` int64,
                where each sentence ends.
        """
        found = given["text"] if self.text is None else self.text(given["ids"], given["end"])
        return self._directions(found if self.text_projection is None else self.text_projection(found))

    def _directions(self, vectors: torch.Tensor) -> torch.Tensor:
        vectors = full_precision(vectors)
        return F.normalize(vectors, dim=-1) if self.cosine else vectors


class VideoTextPretraining(Method):
    """Symmetric InfoNCE over the clips and sentences of all processes, beside the reconstruction of some of the tokens that were dropped.

    A batch has `video` `(B, T, 3, S, S)` float32 and of its sentences what `VideoText.text_vectors` takes. The frozen text tower is no part
    of the method. Arguments as `VideoText`.
    """

    def __init__(self, config: PretrainConfig, text_dim: int | None, vocabulary: int = 0):
        super().__init__()
        self.config, self.temperature = config, config.method.temperature
        self.model = VideoText(config, text_dim, vocabulary)
        normed = not isinstance(self.model.encoder.norm, nn.Identity)
        self.dropout = TokenDropout(config.model, config.method.dropout, config.augment.mean, config.augment.std, normed)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> Losses:
        video = batch["video"]
        kept = self.dropout.draw(len(video), rng)
        with span("encode"):
            outputs = self.model.encoder.outputs(video, kept.visible if self.config.method.dropout.mask else None)
        with span("text"):
            text = self.model.text_vectors(batch)
        counts = row_counts(len(video), video.device)
        with torch.autocast(video.device.type, enabled=False):  # cosines over a temperature of 0.07
            everything = gather_with_gradient(self.model.video_vectors(outputs), counts)
            sentences = gather_with_gradient(text, counts) if text.requires_grad else gather_rows(text, counts)
            loss, logits = pair_loss(everything, sentences, self.temperature)
        losses = self.dropout(loss, len(logits), video, outputs, kept)
        return {**losses, "top1": hit_rate(logits.detach())}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        optim, encoder = self.config.optim, self.model.encoder

        def layer_of(name: str) -> int:
            inside = name.removeprefix("model.encoder.")
            return encoder.layer_of(inside) if inside != name else encoder.depth + 1

        named = list(self.named_parameters())
        groups = []
        for inner, factor in ((True, self.config.method.encoder_lr), (False, 1.0)):
            own = [(name, parameter) for name, parameter in named if name.startswith("model.encoder.") == inner]
            made = make_groups(own, optim.weight_decay, layer_of, encoder.depth, optim.layer_decay)
            groups += [{**group, "lr_scale": group["lr_scale"] * factor} for group in made]
        return {MAIN: OptimizerSpec.of(groups, optim)}


def hit_rate(logits: torch.Tensor) -> torch.Tensor:
    """Share of the clips, rows of `(N, N)`, whose own sentence is the most similar of the batch."""
    return (logits.argmax(1) == torch.arange(len(logits), device=logits.device)).to(logits.dtype).mean()
