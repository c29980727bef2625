"""Vision transformer over space-time tubelets: joint attention, fixed sine-cosine positions, a class token where one is asked for.

Source: VideoMAE (Tong et al., NeurIPS 2022, section 3); TATS thesis, chapter 5, table 5.4.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig


def positions_1d(n: int, dim: int) -> torch.Tensor:
    """`(n, dim)` float32 sine-cosine table over the token number, sine at even and cosine at odd channels (Vaswani et al. 2017)."""
    angle = torch.arange(n, dtype=torch.float64)[:, None] / 10000 ** (2 * (torch.arange(dim) // 2) / dim).double()
    table = torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos())
    return table.float()


def positions_1d_double(n: int, dim: int) -> torch.Tensor:
    """As `positions_1d` with exponents in double precision, the table of published VideoMAE weights: up to 3e-5 from the other at 1568
    tokens.
    """
    angle = torch.arange(n, dtype=torch.float64)[:, None] / 10000 ** (2 * (torch.arange(dim) // 2).double() / dim)
    return torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos()).float()


def positions_3d(grid: tuple[int, int, int], dim: int) -> torch.Tensor:
    """`(t*h*w, dim)` float32: separate sine-cosine codes of time, row and column, joined.

    Time gets what rows and columns (each an even share of about dim / 3) leave over.
    """
    t, h, w = grid
    share = dim // 3 // 2 * 2
    parts = []
    for axis, width in ((0, dim - 2 * share), (1, share), (2, share)):
        table = positions_1d(grid[axis], width)
        shape = [1, 1, 1, width]
        shape[axis] = grid[axis]
        parts.append(table.view(shape).expand(t, h, w, width))
    return torch.cat(parts, dim=-1).reshape(t * h * w, dim)


def position_table(config: VitConfig, dim: int) -> torch.Tensor:
    """`(N, dim)` float32 position codes of a model's tokens, the class token left out."""
    if config.pos_frames not in (None, config.frames):
        known = config.model_copy(update={"frames": config.pos_frames, "pos_frames": None})
        return stretched(position_table(known, dim), known.grid()[0], config.grid()[0])
    if config.pos == "sincos3d":
        return positions_3d(config.grid(), dim) * config.pos_scale
    build = positions_1d if config.pos == "sincos1d" else positions_1d_double
    return build(config.n_tokens(), dim) * config.pos_scale


def stretched(table: torch.Tensor, known: int, steps: int) -> torch.Tensor:
    """Position codes `(known * P, dim)` of clips of `known` steps in time for clips of `steps`, `(steps * P, dim)`: the first and the last
    step keep their codes, between them codes of the same place are interpolated linearly in time.
    """
    codes = table.view(known, -1, table.shape[1])
    at = torch.linspace(0, known - 1, steps, dtype=torch.float64)
    before = at.floor().long().clamp(max=max(0, known - 2))
    share = (at - before).to(table.dtype).view(-1, 1, 1)
    return torch.lerp(codes[before], codes[(before + 1).clamp(max=known - 1)], share).flatten(0, 1)


def cubes_at(video: torch.Tensor, index: torch.Tensor, tubelet: int, patch: int) -> torch.Tensor:
    """The pixels of chosen tokens only, without cutting up the rest.

    Args:
        video: `(B, T, C, H, W)`, contiguous.
        index: `(B, n)` int64 token numbers, time-major, then row, then column.

    Returns:
        `(B, n, C, tubelet*patch*patch)`; within a colour frame by frame, row by row.
    """
    b, _, c, h, w = video.shape
    columns = w // patch
    places = h // patch * columns
    corner = (index // places * tubelet * c * h + index % places // columns * patch) * columns + index % columns  # in runs of `patch`
    frame, colour, row = (torch.arange(k, device=video.device) for k in (tubelet, c, patch))
    inside = ((colour[:, None, None] + frame[:, None] * c) * h + row) * columns
    clip = torch.arange(b, device=video.device)[:, None, None] * (video[0].numel() // patch)
    runs = (corner[..., None] + inside.flatten() + clip).flatten()
    return video.view(-1, patch).index_select(0, runs).view(b, index.shape[1], c, -1)


class TubeletEmbed(nn.Module):
    """Video to tokens: a 3-D convolution with kernel = stride, computed as one matrix product so that a subset of tokens can be embedded.

    The weight keeps the convolution's shape `(dim, 3, tubelet, patch, patch)`.
    """

    def __init__(self, dim: int, tubelet: int, patch: int, channels: int = 3):
        super().__init__()
        self.tubelet, self.patch, self.channels = tubelet, patch, channels
        self.weight = nn.Parameter(torch.empty(dim, channels, tubelet, patch, patch))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.weight.view(dim, -1))

    def cubes(self, video: torch.Tensor) -> torch.Tensor:
        """`(B, T, C, H, W)` to `(B, N, C*tubelet*patch*patch)`, tokens time-major, then row, then column; channel first within a token."""
        b, t, c, h, w = video.shape
        p, q = self.patch, self.tubelet
        x = video.view(b, t // q, q, c, h // p, p, w // p, p)
        return x.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(b, (t // q) * (h // p) * (w // p), c * q * p * p)

    def forward(self, cubes: torch.Tensor) -> torch.Tensor:
        """`(B, n, C*tubelet*patch*patch)` to `(B, n, dim)`."""
        return F.linear(cubes, self.weight.flatten(1), self.bias)


class Norm(nn.LayerNorm):
    """Layer norm that leaves 16-bit tokens in 16 bits, where autocast would write them as float32 twice; its statistics are float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in (torch.bfloat16, torch.float16) or x.dtype == self.weight.dtype:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al. 2016): a residual branch is dropped with probability `p` and scaled by 1/(1-p)
    otherwise.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p, self.acts = p, p > 0
        self.register_buffer("rate", torch.tensor(p), persistent=False)  # a tensor: torch.compile would make a graph for every number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.acts and self.training):
            return x
        keep = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return (x * (keep / (1 - self.rate))).to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def check_heads(dim: int, heads: int) -> None:
    """Raises UsageError where a width is not a multiple of the number of heads."""
    if dim % heads:
        raise UsageError(f"width {dim} cannot be split into {heads} heads", "choose a number of heads that divides it")


class Attention(nn.Module):
    """Multi-head self-attention over `(B, n, dim)`; one product for q, k and v; biases for q and v only, as VideoMAE trains them.

    `first`: tokens before it are attended to and get no output.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, first: int = 0) -> torch.Tensor:
        b, n, d = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # in this order the backward pass joins them with one copy
        y = F.scaled_dot_product_attention(q[:, :, first:], k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n - first, d))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, ratio: float = 4.0):
        super().__init__()
        self.fc1 = nn.Linear(dim, int(dim * ratio))
        self.fc2 = nn.Linear(int(dim * ratio), dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))

    def dot(self, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """`<self(x), direction>`, `(B, n, dim)` and `(dim,)` to `(B, n)`: the second layer is applied to `direction`, not to tokens."""
        onto = self.fc2.weight.T @ direction
        return ActivatedDot.apply(self.fc1(x), onto) + self.fc2.bias @ direction


class ActivatedDot(torch.autograd.Function):
    """`<gelu(x), direction>`, `(..., k)` and `(k,)` to `(...)`, which keeps `x` only: the activation is made again in the backward pass."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, direction)
        return F.gelu(x) @ direction.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, direction = ctx.saved_tensors
        d_x = torch.ops.aten.gelu_backward(gradient[..., None] * direction.to(x.dtype), x)
        return d_x, (gradient.flatten() @ F.gelu(x).flatten(0, -2)).to(direction.dtype)


class Block(nn.Module):
    """Pre-norm transformer block."""

    compile_region = True

    def __init__(self, dim: int, heads: int, drop_path: float = 0.0, norm_eps: float = 1e-6):
        super().__init__()
        self.norm1 = Norm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads)
        self.norm2 = Norm(dim, eps=norm_eps)
        self.mlp = Mlp(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, first: int = 0) -> torch.Tensor:
        """`(B, n, dim)` to `(B, n - first, dim)`: outputs of the tokens from `first` on."""
        x = x[:, first:] + self.drop_path(self.attn(self.norm1(x), first))
        return x + self.drop_path(self.mlp(self.norm2(x)))


MOTION_GAIN = 2.0  # brings a clip minus its mean frame to about the spread of a normalised clip


class VideoTransformer(nn.Module):
    """The encoder: tubelet embedding, fixed positions, blocks, final norm.

    It takes any subset of a clip's tokens. A class token has no position code: what a learned code would add is part of the token.

    Args:
        config: architecture.
        drop_path: stochastic depth, growing linearly from 0 to this rate over the blocks.
        final_norm: VideoMAE normalises inside the encoder for pretraining and after pooling for fine-tuning; False leaves it to the caller,
            and so does a config without one.
    """

    output = "tokens"

    def __init__(self, config: VitConfig, drop_path: float = 0.0, final_norm: bool = True):
        super().__init__()
        self.config = config
        dim, depth, heads = config.widths()
        self.dim, self.depth = dim, depth
        self.embed = TubeletEmbed(dim, config.tubelet, config.patch)
        self.register_buffer("positions", position_table(config, dim), persistent=False)
        rates = (drop_path * layer / max(1, depth - 1) for layer in range(depth))
        self.blocks = nn.ModuleList(Block(dim, heads, rate, config.norm_eps) for rate in rates)
        self.norm = Norm(dim, eps=config.norm_eps) if final_norm and config.final_norm else nn.Identity()
        self.apply(init_linear)
        if config.start == "local":
            start_local(self)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.class_token else None
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def cubes(self, video: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised `(B, T, C, H, W)` video to `(B, N, C*tubelet*patch*patch)` cubes (motion input: less the mean frame).

        `index`, `(B, n)`: only those of these tokens, `(B, n, ...)`.
        """
        if self.config.input == "motion":
            video = MOTION_GAIN * (video - video.mean(1, keepdim=True))
        if index is None:
            return self.embed.cubes(video)
        return cubes_at(video.contiguous(), index, self.config.tubelet, self.config.patch).flatten(2)

    def run_blocks(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, n, dim)` tokens that carry their positions, through blocks and final norm."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(self, video: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised `(B, T, C, H, W)` float video to tokens `(B, N, dim)`, behind a class token where there is one.

        Args:
            index: `(B, n)` int64, the tokens that are seen, in any order; the others are not even embedded. None: all.

        Raises:
            UsageError: a size the model was not built for.
        """
        c = self.config
        if tuple(video.shape[1:]) != (c.frames, 3, c.image_size, c.image_size):
            raise UsageError(
                f"this model takes clips of {c.frames} frames of 3x{c.image_size}x{c.image_size}, not {'x'.join(map(str, video.shape[1:]))}"
            )
        positions = self.positions if index is None else self.positions[index]
        tokens = self.embed(self.cubes(video, index)) + positions.to(video.dtype)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens), dim=1)
        return self.run_blocks(tokens)

    def outputs(self, video: torch.Tensor, index: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """`tokens` `(B, N, dim)`, time-major, then row, then column, or in the order of `index` `(B, n)` (the contract of
        `core.nn.encoders`); with a class token also `pooled` `(B, dim)`, which is it.
        """
        tokens = self(video, index)
        return {"tokens": tokens} if self.cls_token is None else {"tokens": tokens[:, 1:], "pooled": tokens[:, 0]}

    def layer_of(self, name: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 the embedding, 1..depth the blocks, depth + 1 what follows."""
        if name.startswith("embed."):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1


def init_linear(module: nn.Module) -> None:
    """Xavier-uniform matrices, zero biases, identity norms (VideoMAE)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


LOCAL_GAIN = 16.0  # attention score of a token with itself, over that of unrelated tokens
QUIET_EMBED = 0.3


@torch.no_grad()
def start_local(module: nn.Module) -> None:
    """Starts attention where positions agree: queries equal keys, so that scores are inner products of the (normed) tokens, and token
    content starts small beside the position code.

    A masked autoencoder first has to find out that neighbours tell about a hidden token; with random queries and keys that takes a small
    model thousands of steps, from here a few dozen. In the spirit of Trockman and Kolter, "Mimetic initialization of self-attention layers"
    (2023).
    """
    for part in module.modules():
        if isinstance(part, Attention):
            dim = part.proj.in_features
            weight = torch.randn(dim, dim, device=part.proj.weight.device) * (LOCAL_GAIN / dim) ** 0.5 * (part.heads / dim) ** 0.25
            part.qkv.weight[:dim] = weight
            part.qkv.weight[dim : 2 * dim] = weight
        elif isinstance(part, TubeletEmbed):
            part.weight.mul_(QUIET_EMBED)
