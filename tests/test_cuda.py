"""Every method's step on a GPU beside the CPU: the same losses and gradients in float32, near ones in bf16."""

import copy
from collections.abc import Callable

import anomaly_toys
import masked_helpers
import pretrain_helpers
import pytest
import tiny_models
import torch

from tasks.anomalies.method import Reconstruction
from tasks.boundaries.config import FinetuneConfig as BoundaryConfig
from tasks.boundaries.supervised import BoundaryTraining
from tasks.classify.config import FinetuneConfig as ClassifyConfig
from tasks.classify.method import Classification
from tasks.core.engine.config import OptimConfig
from tasks.core.engine.method import MAIN, Method, Progress
from tasks.core.engine.optim import make_optimizer
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.pseudo.method import LatentInpainting

DEVICE = "cuda"
ROWS = 4
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Draws(BatchRandom):
    """The numbers that the CPU draws, on the device."""

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        return super().rand(n, *shape).to(DEVICE)


def masked(settings: dict) -> tuple[Method, dict]:
    quiet = {"dropout": 0.0} if settings["name"] == "adamae" else {}
    return masked_helpers.method({**settings, **quiet}), {"video": masked_helpers.video(ROWS)}


def classify() -> tuple[Method, dict]:
    config = ClassifyConfig(head={"drop_path": 0.0, "init_scale": 1.0})
    target = torch.eye(3)[[0, 1, 2, 1]]
    return Classification(config, VitConfig(**masked_helpers.MODEL), 3), {"video": masked_helpers.video(ROWS), "target": target}


def contrast() -> tuple[Method, dict]:
    return pretrain_helpers.method(contrast={"norm": "sync"}), pretrain_helpers.batch(ROWS)


def boundaries() -> tuple[Method, dict]:
    model = {"size": "resnet18", "width": 8, "image_size": 32, "motion": {"patch": 3, "sigma": 1.0}}
    config = BoundaryConfig(model=model, window={"before": 3, "stride_frames": 1}, data={"clip": {"frames": 10}, "repeats": 2})
    target = torch.tensor([0.0, 1.0, 1.0, 0.0])
    return BoundaryTraining(config, config.model), {"video": torch.randn(ROWS, 6, 3, 32, 32), "target": target, "boundary": target > 0}


def reconstruction() -> tuple[Method, dict]:
    clips = torch.rand(ROWS, 3, 8, 32, 32) * 2 - 1
    return Reconstruction(anomaly_toys.config()), {"input": clips, "target": clips}


def inpainting() -> tuple[Method, dict]:
    config = tiny_models.config()
    size = config.model.image_size
    return LatentInpainting(config), {"video": torch.rand(ROWS, 1, 3, size, size) * 2 - 1, "holes": torch.ones(ROWS, 1, size, size)}


CASES: dict[str, Callable[[], tuple[Method, dict]]] = {
    **{"-".join(str(v) for v in settings.values()): (lambda settings=settings: masked(settings)) for settings in masked_helpers.SAMPLERS},
    "classify": classify,
    "cvclr": contrast,
    "gebd": boundaries,
    "anomalies": reconstruction,
    "ldm": inpainting,
}


def step(method: Method, batch: dict, rng: BatchRandom, device: str, bf16: bool = False) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Losses and gradients of one whole step, all phases, as the loop takes it."""
    now, kind = Progress(0, 0, 10, 100), OptimConfig()
    optimizers = {name: make_optimizer(spec.groups, kind, torch.device(device)) for name, spec in method.optimizers().items()}
    batch = {name: value.to(device) for name, value in batch.items()}
    found: dict[str, float] = {}

    def phase(name: str) -> list[torch.Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            losses = method(batch if name == MAIN else None, rng, now, name)
        losses["loss"].backward()
        gradients = [p.grad.float().cpu() for p in method.parameters() if p.grad is not None]
        optimizers[name].step()
        method.zero_grad()
        found.update({f"{name} {key}": float(value.detach()) for key, value in losses.items()})
        return gradients

    gradients = phase(MAIN)
    for name in method.phases_after(now):
        gradients += phase(name)
    return found, gradients


@pytest.fixture
def no_tf32():
    """Products of float32 in float32."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_on_the_gpu_is_that_of_the_cpu(name, bf16, no_tf32):
    torch.manual_seed(0)
    here, batch = CASES[name]()
    there = copy.deepcopy(here).to(DEVICE)
    expected, gradients = step(here.train(), batch, BatchRandom(0, 0, rows=ROWS), "cpu")
    found, found_gradients = step(there.train(), batch, Draws(0, 0, rows=ROWS), DEVICE, bf16)
    assert found == pytest.approx(expected, rel=0.1 if bf16 else 1e-3, abs=0.05 if bf16 else 1e-4)
    if not bf16:
        size = torch.cat([g.flatten() for g in gradients]).norm()
        off = torch.cat([(a - b).flatten() for a, b in zip(gradients, found_gradients, strict=True)]).norm()
        assert off < 1e-2 * size
