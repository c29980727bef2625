"""Bytes that the layers of `core.nn` keep of one clip for the backward pass.

Fused attention keeps no scores. In mixed precision operands of matrix products and inputs of norms take two bytes; probabilities are
float32.
"""

from dataclasses import dataclass

from tasks.core.nn.config import VitConfig

FLOAT = 4


@dataclass(frozen=True)
class SavedActivations:
    """Numbers kept: `full` in float32 whatever the precision, `operands` in the precision of matrix products."""

    full: int = 0
    operands: int = 0

    def __add__(self, other: "SavedActivations") -> "SavedActivations":
        return SavedActivations(self.full + other.full, self.operands + other.operands)

    def __mul__(self, times: int) -> "SavedActivations":
        return SavedActivations(self.full * times, self.operands * times)

    def bytes(self, mixed: bool) -> int:
        """Bytes in mixed precision or in float32."""
        return self.full * FLOAT + self.operands * (2 if mixed else FLOAT)


def block_kept(n: int, dim: int, outputs: int | None = None) -> SavedActivations:
    """One block over `n` tokens of which `outputs` are computed (None: all): both norms' inputs; their outputs, queries, keys, values, the
    attended values, and the four times wider hidden layer before and behind its activation.
    """
    m = n if outputs is None else outputs
    return SavedActivations(0, (5 * n + 11 * m) * dim)


def read_block_kept(n: int, dim: int) -> SavedActivations:
    """A block whose outputs are only read in one direction (`vit.Mlp.dot`): its hidden layer is kept before the activation only."""
    return SavedActivations(0, 12 * n * dim)


def trajectory_kept(n: int, dim: int, heads: int, frames: int, landmarks: int | None = None) -> SavedActivations:
    """What `core.nn.trajectory.TrajectoryAttention` keeps over `n` tokens of `frames` frames beside what any attention does: what is
    pooled of each frame, the second attention's queries and weights, and the first one's sums or, through landmarks, its two factors.
    """
    sums = n * heads * frames if landmarks is None else 2 * n * heads * min(landmarks, n)
    return SavedActivations(n * heads * frames + sums, (frames + 1) * n * dim)


def encoder_kept(config: VitConfig, n: int | None = None, embedded: int | None = None) -> SavedActivations:
    """Pixels of the `training-free` tubelets, blocks over `n` tokens, final norm (None: all tokens)."""
    dim, depth, _ = config.widths()
    n = config.n_tokens() if n is None else n
    pixels = 3 * config.tubelet * config.patch**2
    return SavedActivations(0, n * dim + (n if embedded is None else embedded) * pixels) + block_kept(n, dim) * depth
