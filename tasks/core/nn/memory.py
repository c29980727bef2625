"""Bytes that the layers of `core.nn` keep of one clip for the backward pass.

Fused attention keeps no scores. In mixed precision operands of matrix products take two bytes, while the inputs of norms are kept in
float32.
"""

from dataclasses import dataclass

from tasks.core.nn.config import VitConfig

FLOAT = 4


@dataclass(frozen=True)
class Kept:
    """Numbers kept: `full` in float32 whatever the precision, `operands` in the precision of matrix products."""

    full: int = 0
    operands: int = 0

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(self.full + other.full, self.operands + other.operands)

    def __mul__(self, times: int) -> "Kept":
        return Kept(self.full * times, self.operands * times)

    def bytes(self, mixed: bool) -> int:
        """Bytes in mixed precision or in float32."""
        return self.full * FLOAT + self.operands * (2 if mixed else FLOAT)


def block_kept(n: int, dim: int, outputs: int | None = None) -> Kept:
    """One block over `n` tokens of which `outputs` are computed (None: all): both norms' inputs; their outputs, queries, keys, values, the
    attended values, and the four times wider hidden layer before and behind its activation.
    """
    m = n if outputs is None else outputs
    return Kept((n + m) * dim, (4 * n + 10 * m) * dim)


def trajectory_block_kept(n: int, dim: int, heads: int, frames: int, landmarks: int | None = None) -> Kept:
    """A block with `core.nn.trajectory.TrajectoryAttention` over `n` tokens of `frames` frames.

    Beside what any block keeps: queries spread over the frames, what is pooled from each of them, the same in token order, and per head the
    lifted queries and the mixtures; through landmarks the two factors of the attention instead of the spread queries.
    """
    pooled = (3 if landmarks is None else 2) * n * frames * dim + 2 * n * heads * dim
    factors = 0 if landmarks is None else 3 * n * heads * min(landmarks, n)
    return block_kept(n, dim) + Kept(0, pooled + factors + 3 * n * dim)


def encoder_kept(config: VitConfig, n: int | None = None, embedded: int | None = None) -> Kept:
    """Pixels of the `embedded` tubelets, blocks over `n` tokens, final norm (None: all tokens)."""
    dim, depth, _ = config.widths()
    n = config.n_tokens() if n is None else n
    pixels = 3 * config.tubelet * config.patch**2
    return Kept(n * dim, (n if embedded is None else embedded) * pixels) + block_kept(n, dim) * depth
