"""Floating-point operations of the layers in `core.nn`, counted by hand: matrix products only, two operations per multiply-add.

Norms, softmax, activations, gathers and products with a single vector are left out, as is usual for model FLOPs (Chowdhery et al. 2022,
"PaLM", appendix B). All counts are of one clip's forward pass.
"""

from tasks.core.nn.config import VitConfig

TRAINING = 3
"""A training step costs this many forward passes: one forward, one each for the gradients of inputs and of weights."""


def linear_flops(n: int, inputs: int, outputs: int) -> int:
    """`n` tokens through a linear layer."""
    return 2 * n * inputs * outputs


def attention_flops(n: int, dim: int, keys: int | None = None) -> int:
    """Scores and weighted sum of `n` queries over `keys` tokens (None: over themselves), all heads together; no projections."""
    return 4 * n * (n if keys is None else keys) * dim


def self_attention_flops(n: int, dim: int, outputs: int | None = None) -> int:
    """Multi-head self-attention with its projections; `outputs` of the `n` tokens are computed (None: all)."""
    outputs = n if outputs is None else outputs
    return linear_flops(n, dim, 3 * dim) + attention_flops(outputs, dim, n) + linear_flops(outputs, dim, dim)


def mlp_flops(n: int, dim: int, ratio: float = 4.0) -> int:
    """The two linear layers of a block."""
    return 2 * linear_flops(n, dim, int(dim * ratio))


def block_flops(n: int, dim: int, outputs: int | None = None) -> int:
    """One transformer block over `n` tokens of which `outputs` are computed (None: all)."""
    return self_attention_flops(n, dim, outputs) + mlp_flops(n if outputs is None else outputs, dim)


def mlp_dot_flops(n: int, dim: int, ratio: float = 4.0) -> int:
    """The products of an MLP's outputs with one direction (`vit.Mlp.dot`)."""
    return linear_flops(n, dim, int(dim * ratio))


def trajectory_flops(n: int, dim: int, heads: int, frames: int, landmarks: int | None = None) -> int:
    """`core.nn.trajectory.TrajectoryAttention` with its projections: `n` tokens of `frames` frames, exact or through landmarks."""
    projections = linear_flops(n, dim, 7 * dim)  # q, k, v; query, lifted query and value of the second attention; the output
    if landmarks is None:
        pooling = attention_flops(n, dim)
    else:
        kept = min(landmarks, n)
        choice = 2 * n * (kept - 1) * dim
        pooling = choice + 6 * n * kept * dim + 2 * n * kept * frames * dim  # and queries-landmarks, landmarks-keys, summaries; mixtures
    return projections + pooling + 2 * (2 * n * heads * frames * dim)  # scores and mixtures


def embed_flops(n: int, config: VitConfig) -> int:
    """`n` tubelets to tokens."""
    return linear_flops(n, 3 * config.tubelet * config.patch**2, config.widths()[0])


def encoder_flops(config: VitConfig, n: int | None = None) -> int:
    """Tubelet embedding and blocks over `n` tokens (None: all of a clip)."""
    dim, depth, _ = config.widths()
    n = config.n_tokens() if n is None else n
    return embed_flops(n, config) + depth * block_flops(n, dim)
