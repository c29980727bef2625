"""Which precision losses are computed in."""

import torch


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32 where it is in half precision; float32 and float64 stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
