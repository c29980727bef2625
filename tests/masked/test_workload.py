"""What is counted of masked pretraining: against what torch keeps, against the peak of a full-sized step, against formulas."""

import argparse
from functools import cache

import pytest
import torch
from benches.masked_model import OURS, our_step, row_config, settings
from masked_helpers import config, method, progress, rng

from tasks.core.engine.counting import Ledger, count_call
from tasks.core.engine.fake import fake_copy
from tasks.core.engine.plan import GIB, memory_lines
from tasks.core.engine.workload import Workload, count_workload
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining
from tasks.masked.workload import example

MODEL = {"size": "tiny", "dim": 96, "depth": 3, "heads": 3, "image_size": 64, "frames": 8, "tubelet": 2, "patch": 8}
SHAPE = {"model": MODEL, "decoder": {"dim": 48, "depth": 2, "heads": 2}, "data": {"clip": {"frames": 8}}}
SAMPLERS = [
    {"name": "random"},
    {"name": "tube"},
    {"name": "mofo"},
    {"name": "adamae", "heads": 4},
    {"name": "tats", "heads": 4, "warmup_epochs": 0},
    {"name": "tats", "heads": 4, "warmup_epochs": 0, "landmarks": 16},
    {"name": "tats", "heads": 4, "warmup_epochs": 0, "attention": "joint"},
]
CLIPS = 32


def counted(settings: PretrainConfig, mixed: bool = False) -> Workload:
    with torch.device("meta"):
        found = example(settings, 0)
    return count_workload(found, settings.train, mixed)


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
    own.add(video.untyped_storage().data_ptr())
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        losses = [trained({"video": video}, rng(rows=clips), progress())["loss"]]
        losses += [trained(None, None, progress(), phase)["loss"] for phase in trained.phases_after(progress())]
        assert all(loss.requires_grad for loss in losses)
    return sum(storage.nbytes() for storage in held.values())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: "-".join(map(str, s.values())))
def test_activations_are_what_torch_keeps(sampler):
    """And little else: the last products of the forward pass, and the tokens of an episode of TATS."""
    clips = 2
    measured = bytes_kept(method(sampler, **SHAPE), clips)
    held = counted(config(sampler, train={"batch_size": clips}, **SHAPE)).held
    assert 0.999 < sum(held.values()) / measured < 1.07
    assert set(held) == {"encode", "decode", "loss", *(["sample"] if sampler["name"] in ("adamae", "tats") else [])}


def test_parts_of_vit_base():
    """ViT-B, 16 x 224 px, 90 % masked, four decoder blocks of width 384: 156 of 1568 tokens are seen, 160 through tubes."""
    for sampler, seen in (("random", 156), ("tube", 160)):
        base = config({"name": sampler}, model={"size": "base"}, decoder={}, mask_ratio=0.9, data={"clip": {"frames": 16}})
        parts, hidden = counted(base).forward, 1568 - seen
        assert parts["encode"] == 2 * seen * 1536 * 768 + 12 * (24 * seen * 768**2 + 4 * seen**2 * 768)
        last = (6 * 1568 + 18 * hidden) * 384**2 + 4 * hidden * 1568 * 384  # q, k and v of all tokens, the rest of the masked ones
        assert parts["decode"] == 2 * seen * 768 * 384 + 3 * (24 * 1568 * 384**2 + 4 * 1568**2 * 384) + last + 2 * hidden * 384 * 1536
        assert "sample" not in parts


def test_a_policy_that_draws_by_another_pass_than_it_learns_from_costs_one_more():
    """Of several micro-batches the first is drawn by a pass from which the policy learns."""
    sampler = {"name": "tats", "heads": 4, "warmup_epochs": 0}
    once = counted(config(sampler, **SHAPE))
    embedding = 2 * 256 * 384 * 96
    for share, changes in ((1, {"sampler": {**sampler, "keep_graph": False}}), (1 / 2, {"sampler": sampler, "train": {"accumulate": 2}})):
        more = counted(config(**changes, **SHAPE))
        assert more.training - once.training == pytest.approx(share * (once.forward["sample"] - embedding))
        assert more.forward == once.forward


@cache
def full_size(name: str) -> tuple[Ledger, float]:
    """The ledger of a step of ViT-B on 32 clips, and the bytes that the plan tells."""
    config = row_config(name, settings(argparse.Namespace(preset="masked/tats-vitb-k400-rho90")))
    with torch.device("meta"):
        method = MaskedPretraining(config).train()
    ledger = count_call(lambda: our_step(fake_copy(method), CLIPS, torch.device("cpu"), bf16=True))
    return ledger, GIB * sum(line.value for line in memory_lines(counted(config, mixed=True), config, 1))


@pytest.mark.parametrize("name", OURS)
def test_the_plan_tells_the_memory_of_a_step(name):
    ledger, told = full_size(name)
    assert 1 < told / ledger.peak < 1.07


def test_a_narrow_exact_policy_costs_little_memory_and_time():
    """Goals of the suite beside VideoMAE: 1.15 times the memory, 1.25 times the step; the latter by the least time of an H200."""
    (plain, _), (narrow, _) = full_size("VideoMAE"), full_size("TATS, exact, policy a third as wide")
    assert narrow.peak < 1.15 * plain.peak
    assert narrow.least_s(790e12, 4.3e12) < 1.25 * plain.least_s(790e12, 4.3e12)


def test_without_the_graph_the_paper_s_policy_costs_little_memory():
    assert full_size("TATS, keep_graph: false")[0].peak < 1.15 * full_size("VideoMAE")[0].peak
