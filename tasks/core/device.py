"""Names of devices as people give them."""

import torch

from tasks.core.errors import UsageError


def usable_device(name: str) -> torch.device:
    """The device of a name, on which tensors can be made; `auto`: a GPU where there is one. Raises UsageError."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"cannot use device '{name}'", "known: auto, cpu, cuda, cuda:1, mps; vid doctor tells what is here") from None
    return device
