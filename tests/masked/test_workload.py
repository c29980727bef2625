"""The counted activations against what torch keeps for the backward pass."""

import pytest
import torch
from masked_helpers import config, method, progress, rng

from tasks.masked.workload import kept, workload

MODEL = {"size": "tiny", "dim": 96, "depth": 3, "heads": 3, "image_size": 64, "frames": 8, "tubelet": 2, "patch": 8}
SHAPE = {"model": MODEL, "decoder": {"dim": 48, "depth": 2, "heads": 2}, "data": {"clip": {"frames": 8}}}
SAMPLERS = [
    {"name": "random"},
    {"name": "tube"},
    {"name": "adamae", "heads": 4},
    {"name": "tats", "heads": 4, "warmup_epochs": 0},
    {"name": "tats", "heads": 4, "warmup_epochs": 0, "landmarks": 16},
    {"name": "tats", "heads": 4, "warmup_epochs": 0, "attention": "joint"},
]


def bytes_kept(trained: torch.nn.Module, clips: int) -> int:
    """Bytes that autograd holds on to after the losses of one step are there, parameters left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*trained.parameters(), *trained.buffers())}
    held: dict[int, torch.UntypedStorage] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage
        return tensor

    video = torch.randn(clips, 8, 3, 64, 64)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        losses = [trained({"video": video}, rng(rows=clips), progress())["loss"]]
        losses += [trained(None, None, progress(), phase)["loss"] for phase in trained.phases_after(progress())]
        assert all(loss.requires_grad for loss in losses)
    return sum(storage.nbytes() for storage in held.values())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: "-".join(map(str, s.values())))
def test_activations_are_what_torch_keeps(sampler):
    clips = 2
    measured = bytes_kept(method(sampler, **SHAPE), clips)
    told = clips * sum(part.bytes(mixed=False) for part in kept(config(sampler, **SHAPE)).values())
    assert 0.9 < told / measured < 1.1


def test_parameters_and_halves():
    settings = config({"name": "random"}, **SHAPE)
    work = workload(settings, 0)
    assert work.parameters == sum(p.numel() for p in method({"name": "random"}, **SHAPE).parameters())
    assert work.clip == 8 * 3 * 64 * 64
    whole, half = (sum(part.bytes(mixed) for part in work.kept.values()) for mixed in (False, True))
    assert 0.5 * whole < half < whole
