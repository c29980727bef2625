"""Which precision losses are computed in. Imports no torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def full_precision(x: "Tensor") -> "Tensor":
    """`x` in float32 where it is in 16 bits; float32 and float64 stay as they are."""
    return x.float() if x.dtype.itemsize < 4 else x
