"""What a step computes and holds: a small method worked out by hand, and every task's example against a real step."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tasks.core.engine.config import TrainConfig
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.workload import Example, count_workload
from tasks.core.profile import span
from tasks.registry import example
from vidcli.resolve import Given, resolve

CLIPS, WIDE = 6, 50
FIRST, SECOND = 2 * 10 * WIDE, 2 * WIDE * 30  # operations of one clip
BATCH = {"video": torch.empty(CLIPS, 10, device="meta")}


class TwoLayers(Method):
    """A frozen layer and one that learns; a second phase learns from what the last `every` steps have left."""

    def __init__(self, every: int | None = None, frozen: bool = False, second_half: bool = False):
        super().__init__()
        self.first, self.second = nn.Linear(10, WIDE), nn.Linear(WIDE, 30)
        self.first.requires_grad_(not frozen)
        self.every, self.second_half, self.left = every, second_half, []

    def forward(self, batch: dict | None, rng: BatchRandom | None, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        if phase == "later":
            left, self.left = self.left, []
            return {"loss": sum(self.first(x).sum() for x in left)}
        with span("encode"):
            x = self.first(batch["video"]).relu()
        if self.second_half and progress.step < progress.total_steps / 2:
            return {"loss": x.sum()}
        if self.every:
            self.left.append(batch["video"] + 1)
        with span("decode"):
            return {"loss": self.second(x).sum()}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        spec = OptimizerSpec([{"params": list(self.parameters())}], 1e-3, (0.9, 0.95))
        return {MAIN: spec, "later": spec} if self.every else {MAIN: spec}

    def phases_after(self, progress: Progress) -> list[str]:
        return ["later"] if self.every and (progress.step + 1) % self.every == 0 else []


def counted(train: TrainConfig | None = None, mixed: bool = False, moments: tuple = ((1.0, 1.0),), **settings):
    with torch.device("meta"):
        method = TwoLayers(**settings)
    return count_workload(Example(method, BATCH, moments), train or TrainConfig(), mixed)


def test_a_step_by_hand():
    work = counted()
    assert (work.parameters, work.trained, work.clips, work.batch) == (550 + 1530, 550 + 1530, CLIPS, 4 * CLIPS * 10)
    assert work.forward == {"encode": FIRST, "decode": SECOND}
    assert work.training == 2 * FIRST + 3 * SECOND  # nobody needs gradients of the input
    assert work.held["encode"] == 4 * CLIPS * WIDE  # behind the ReLU; `video` is there anyway
    assert work.copies == 0


def test_what_is_frozen_costs_its_forward_pass_only():
    work = counted(frozen=True)
    assert (work.parameters, work.trained) == (2080, 1530)
    assert work.training == FIRST + 2 * SECOND


def test_half_precision():
    work = counted(mixed=True)
    assert work.forward == counted().forward
    assert work.copies == 2 * WIDE * 30  # the backward pass needs the second matrix only
    assert work.held["encode"] == 2 * CLIPS * (10 + WIDE)  # the input in 16 bits, too


@pytest.mark.parametrize(("every", "accumulate"), [(1, 1), (4, 1), (3, 2)])
def test_what_follows_some_of_the_steps_is_shared_by_all(every, accumulate):
    """The second phase sees each clip once, whenever it comes; what it waits for is held."""
    work = counted(TrainConfig(accumulate=accumulate), every=every)
    assert work.training == 2 * FIRST + 3 * SECOND + 2 * FIRST
    assert work.forward == {"encode": FIRST, "decode": SECOND}
    losses = 2 * 4
    assert 0 <= work.held["model"] - every * accumulate * 4 * CLIPS * 10 <= losses


def test_a_run_of_two_stages_is_their_average():
    work = counted(moments=((0.2, 0.25), (0.8, 0.75)), second_half=True)
    assert work.forward == {"encode": FIRST, "decode": 0.75 * SECOND}
    assert work.training == 0.25 * 2 * FIRST + 0.75 * (2 * FIRST + 3 * SECOND)
    assert work.held == counted().held


PRESETS = [
    ("masked/tats-tiny", "pretrain", {}),
    ("masked/adamae-tiny", "pretrain", {}),
    ("masked/mofo-tiny", "pretrain", {}),
    ("classify/mofo-tiny", "finetune", {"model.size": "tiny", "model.image_size": 32, "model.frames": 8, "model.patch": 8}),
    ("classify/tiny-scratch", "finetune", {}),
    ("classify/tiny-scratch", "finetune", {"head.pool": "cls", "turbo.mask": 0.75, "turbo.decoder.depth": 1, "turbo.decoder.dim": 64}),
    ("boundaries/cvclr-tiny", "pretrain", {"contrast.queue": 64}),
    ("pseudo/ldm-inpaint-tiny", "pretrain", {}),
    ("localization/del-tiny", "finetune", {"model.contrast.enabled": False}),  # how much it computes depends on the events
    ("prompting/tiny", "finetune", {}),
    ("prompting/events-tiny", "finetune", {}),
    ("prompting/retrieval-tiny", "finetune", {}),
    ("contrastive/video-text-tiny", "pretrain", {}),
]


@pytest.mark.parametrize(
    ("preset", "verb", "changes"), PRESETS, ids=[preset + ("-turbo" if "turbo.mask" in changes else "") for preset, _, changes in PRESETS]
)
def test_every_example_is_what_torch_counts_in_a_real_step(preset, verb, changes):
    """Also shows that a real batch of these shapes is one that the method takes."""
    sets = ["data.train=[unused]", "train.batch_size=2", "data.repeats=1", *(f"{key}={value}" for key, value in changes.items())]
    resolved = resolve(Given(preset, (), {}, sets), verb)
    made, train = example(resolved.task, verb), resolved.config.train
    with torch.device("meta"):
        fake = made(resolved.config, 3)
    work = count_workload(fake, train, mixed=False)  # first: it teaches torch's counter the kernels of the CPU
    real = made(resolved.config, 3)
    training = 0.0
    for at, share in real.moments:
        progress = Progress(int(at * 999_999) // 2520 * 2520, min(int(at * train.epochs), train.epochs - 1), 1, 10**6)
        real.method.train()
        with FlopCounterMode(display=False) as counter:
            real.method({key: value.zero_() for key, value in real.batch.items()}, BatchRandom(0, 0, 0, 2), progress)["loss"].backward()
            for phase in real.method.phases_after(progress):
                real.method(None, None, progress, phase)["loss"].backward()
        training += share * counter.get_total_flops() / 2
    assert work.training == pytest.approx(training, rel=1e-9)
    assert work.parameters == sum(parameter.numel() for parameter in real.method.parameters())
    assert sum(work.forward.values()) < work.training
