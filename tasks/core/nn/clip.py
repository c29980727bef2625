"""CLIP's transformers of pictures and of text (Radford et al., ICML 2021, section 2.4)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.errors import UsageError
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig, ClipTower


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """x sigmoid(1.702 x), the GELU of OpenAI's models (Hendrycks and Gimpel, 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class Layer(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual.

    Args:
        width: channels of a token.
        heads: of the attention.
        hidden: channels inside the MLP.
        activation: of the MLP, a name in `ACTIVATIONS`.
        norm_eps: epsilon of the norms.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: str = "quick_gelu", norm_eps: float = 1e-5):
        super().__init__()
        self.heads, self.activation = heads, ACTIVATIONS[activation]
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=norm_eps), nn.LayerNorm(width, eps=norm_eps)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
        """`(N, L, width)` to the same; `causal`: no token sees those behind it."""
        return self.behind(x + self.attend(self.norm1(x), causal))

    def attend(self, x: torch.Tensor, causal: bool = False, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Multi-head self-attention, `(N, L, width)` to the same.

        Args:
            x: normalised.
            causal: no token sees those behind it.
            mask: `(N, L)` bool, True for tokens that may be seen; None: all. Not with `causal`.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        seen = None if mask is None else mask[:, None, None]
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal).transpose(1, 2).flatten(2))

    def behind(self, x: torch.Tensor) -> torch.Tensor:
        """What follows the attention: the MLP beside a residual, `(N, L, width)` to the same."""
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


def make_layers(config: ClipTower) -> nn.ModuleList:
    """The layers of a tower, see `layers_of`."""
    made = (config.heads, config.hidden, config.activation, config.norm_eps)
    return layers_of(config.width, config.depth, *made)


def layers_of(width: int, depth: int, *made: Any) -> nn.ModuleList:
    """Layers with CLIP's first weights: narrower into the residual the deeper they are (GPT-2).

    Args:
        width: channels of a token.
        depth: how many.
        made: the further arguments of `Layer`.
    """
    layers = nn.ModuleList(Layer(width, *made) for _ in range(depth))
    inside = width**-0.5
    spread = {"qkv": inside, "out": inside * (2 * max(depth, 1)) ** -0.5, "fc1": (2 * width) ** -0.5}
    spread["fc2"] = spread["out"]
    for layer in layers:
        for name, std in spread.items():
            linear = getattr(layer, name)
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
    return layers


class ImageTransformer(nn.Module):
    """Pictures to vectors: patches, a class token, learned positions, layers, and the class token projected.

    Args:
        config: architecture.

    Attributes:
        config: as given.
        dim: length of a vector.
        depth: number of layers.
    """

    output = "tokens"

    def __init__(self, config: ClipImageConfig):
        super().__init__()
        self.config, self.dim, self.depth = config, config.projection, config.depth
        std = config.width**-0.5
        self.patches = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.class_token = nn.Parameter(std * torch.randn(config.width))
        self.positions = nn.Parameter(std * torch.randn(config.n_patches() + 1, config.width))
        self.norm_in = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.layers = make_layers(config)
        self.norm_out = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = nn.Linear(config.width, config.projection, bias=False)
        nn.init.normal_(self.projection.weight, std=std)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Normalised `(N, 3, S, S)` float to `(N, dim)`, not normalised. Raises UsageError for another size than S."""
        side = self.config.image_size
        if tuple(pictures.shape[1:]) != (3, side, side):
            raise UsageError(f"this model takes pictures of 3x{side}x{side}, not {'x'.join(map(str, pictures.shape[1:]))}")
        x = self.patches(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], 1) + self.positions
        x = self.norm_in(x)
        for layer in self.layers:
            x = layer(x)
        return self.projection(self.norm_out(x[:, 0]))

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """`tokens` `(B, T, dim)`, the vectors of the frames of clips `(B, T, 3, S, S)` (the contract of `core.nn.encoders`)."""
        return {"tokens": self(video.flatten(0, 1)).unflatten(0, video.shape[:2])}


class TextTransformer(nn.Module):
    """Text to vectors: causal layers over token embeddings, read where the text ends.

    What lies behind the end of a text changes nothing, since no token sees those behind it.

    Args:
        config: architecture.

    Attributes:
        config: as given.
        dim: length of a vector.
    """

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.config, self.dim = config, config.projection
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.layers = make_layers(config)
        self.norm_out = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = nn.Linear(config.width, config.projection, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=config.width**-0.5)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token numbers `(N, L)` int64 to their embeddings `(N, L, width)`, without positions: where prompts are put in."""
        return self.tokens(ids)

    def encode(self, embeddings: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Embeddings of whole texts to vectors; gradients pass through to the embeddings.

        Args:
            embeddings: `(N, L, width)`, L at most `context`, without positions: start token, text, end token, anything.
            end: `(N,)` int64, the place of each end token, where the vector is read.

        Returns:
            `(N, dim)`, not normalised.

        Raises:
            UsageError: more tokens than positions.
        """
        length = embeddings.shape[1]
        if length > self.config.context:
            raise UsageError(f"this model takes texts of {self.config.context} tokens, not {length}")
        x = embeddings + self.positions[:length]
        for layer in self.layers:
            x = layer(x, causal=True)
        ends = x[torch.arange(len(x), device=x.device), end]
        return self.projection(self.norm_out(ends))

    def forward(self, ids: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """`encode` of token numbers `(N, L)` int64."""
        return self.encode(self.embed(ids), end)
