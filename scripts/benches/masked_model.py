"""One training step without data loading: forward, loss, backward, optimizer; every sampler of this suite and `transformers`' VideoMAE.

All rows have the same encoder, decoder, mask ratio, clips (already normalised, on the device) and optimizer.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches import ROOT

OURS = {
    "VideoMAE": {"name": "tube"},
    "AdaMAE": {"name": "adamae"},
    "TATS": {"name": "tats"},
    "TATS, keep_graph: false": {"name": "tats", "keep_graph": False},
    "TATS, exact attention": {"name": "tats", "landmarks": None},
    "TATS, exact, policy a third as wide": {"name": "tats", "landmarks": None, "dim": "third"},
}
THEIRS = {"transformers, eager attention": "eager", "transformers, SDPA": "sdpa"}
COMPILED = ", compiled"
TRAINING = 3  # model FLOPs of a step: as many forward passes, one each for the gradients of inputs and of weights


def settings(args: argparse.Namespace, **changes: Any) -> Any:
    """The preset's configuration with changes of its `model` section."""
    from vidcli.resolve import Given, resolve

    sets = ["data.train=[unused]", *(f"model.{key}={value}" for key, value in changes.items())]
    sets += [f"data.clip.frames={changes['frames']}"] if "frames" in changes else []
    return resolve(Given(args.preset, (), {}, sets), "pretrain").config


def pick_device(args: argparse.Namespace) -> tuple[Any, bool]:
    """(torch device, whether bf16)."""
    import torch

    from tasks.core.engine.accelerator import keep_freed_memory

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()  # as in training; in all rows
    return device, (args.precision or ("bf16" if device.type == "cuda" else "fp32")) == "bf16"


def row_config(name: str, config: Any) -> Any:
    """The configuration of one of our rows: the preset's with another sampler, or with other settings of its own."""
    from tasks.masked.config import PretrainConfig

    changes = dict(OURS[name])
    if changes.get("dim") == "third":
        heads = config.sampler.heads if config.sampler.name == "tats" else 8
        changes["dim"] = config.model.widths()[0] // 3 // heads * heads
    kept = config.sampler.model_dump() if config.sampler.name == changes["name"] else {}
    return PretrainConfig(**(config.model_dump() | {"sampler": kept | changes}))


def workload_of(config: Any) -> Any:
    """What a step of this configuration computes and holds, in float32."""
    import torch

    from tasks.core.engine.workload import count_workload
    from tasks.masked.workload import example

    with torch.device("meta"):
        counted = example(config, 0)
    return count_workload(counted, config.train, mixed=False)


def our_step(method: Any, clips: int, device: Any, bf16: bool) -> Callable[[], None]:
    """A function that takes one step with a method that stands on the device, after the sampler's warm-up."""
    import torch

    from tasks.core.engine.method import MAIN, Progress
    from tasks.core.engine.optim import make_optimizer
    from tasks.core.engine.random import BatchRandom

    config = method.config
    optimizers = {name: make_optimizer(spec.groups, config.optim, device) for name, spec in method.optimizers().items()}
    video = torch.randn(clips, config.model.frames, 3, config.model.image_size, config.model.image_size, device=device)
    number = iter(range(10**9))

    def backward_and_step(phase: str, batch: dict | None, rng: Any, progress: Progress) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = method(batch, rng, progress, phase)["loss"]
        loss.backward()
        optimizers[phase].step()
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def step() -> None:
        at = next(number)
        progress = Progress(at, 10**6, 1, 10**9)
        backward_and_step(MAIN, {"video": video}, BatchRandom(0, at, 0, clips, 0, 1, device), progress)
        for phase in method.phases_after(progress):
            backward_and_step(phase, None, None, progress)

    return step


def their_step(config: Any, attention: str, clips: int, device: Any, bf16: bool, compiled: bool) -> Callable[[], None]:
    """The same with `VideoMAEForPreTraining`, tube masks drawn for every step."""
    import torch
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    from tasks.core.engine.optim import make_groups, make_optimizer
    from tasks.masked.config import TubeSampler

    model, decoder = config.model, config.decoder
    width, depth, heads = model.widths()
    dim = decoder.dim or width // 2
    theirs = VideoMAEConfig(
        image_size=model.image_size, patch_size=model.patch, num_frames=model.frames, tubelet_size=model.tubelet, hidden_size=width,
        num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width, decoder_hidden_size=dim,
        decoder_num_hidden_layers=decoder.depth, decoder_num_attention_heads=decoder.heads or max(1, dim // 64),
        decoder_intermediate_size=4 * dim, norm_pix_loss=True, use_mean_pooling=False, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation=attention,
    )  # fmt: skip
    module = VideoMAEForPreTraining(theirs).to(device).train()
    if compiled:
        module.compile()
    optimizer = make_optimizer(make_groups(module.named_parameters(), config.optim.weight_decay), config.optim, device)
    video = torch.randn(clips, model.frames, 3, model.image_size, model.image_size, device=device)
    frames, rows, columns = model.grid()
    places = rows * columns
    hidden = places - TubeSampler().n_visible(model.grid(), config.mask_ratio) // frames

    def step() -> None:
        order = torch.rand(clips, places, device=device).argsort(-1)
        mask = (order < hidden)[:, None].expand(-1, frames, -1).reshape(clips, -1)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = module(pixel_values=video, bool_masked_pos=mask).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_row(name: str, args: argparse.Namespace, config: Any, clips: int) -> Callable[[], None]:
    from tasks.core.engine.accelerator import compile_regions
    from tasks.masked.method import MaskedPretraining

    device, bf16 = pick_device(args)
    plain, compiled = name.removesuffix(COMPILED), name.endswith(COMPILED)
    if plain in THEIRS:
        return their_step(config, THEIRS[plain], clips, device, bf16, compiled)
    method = MaskedPretraining(row_config(plain, config)).to(device).train()
    if compiled:
        compile_regions(method)
    return our_step(method, clips, device, bf16)


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(step: Callable[[], None]) -> float:
    synchronize()
    began = time.perf_counter()
    step()
    synchronize()
    return time.perf_counter() - began


def matmul(bf16: bool) -> tuple[Callable[[], None], float]:
    """A large square matrix product and its floating-point operations."""
    import torch

    n = 8192 if torch.cuda.is_available() else 2048
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    return lambda: torch.mm(a, b), 2.0 * n**3


def interleaved(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after two rounds of warm-up, taken by turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            seconds = timed(step)
            if turn >= 2:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def memory_row(args: argparse.Namespace) -> None:
    """In a process of its own: prints the MiB that three steps of one row took at their peak.

    On a CPU the resident memory over that of the bare process with its libraries, looked at every millisecond.
    """
    import torch
    import transformers  # noqa: F401  every row starts from the same libraries

    config = settings(args)
    torch.mm(torch.randn(64, 64), torch.randn(64, 64))
    with Resident() as resident:
        step = make_row(args.row, args, config, args.clips or config.train.batch_size)
        for _ in range(3):
            step()
        synchronize()
    print(json.dumps(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else resident.peak_mib))


class Resident:
    """Peak of the resident memory inside a `with` block over that at its start, MiB."""

    def __enter__(self) -> "Resident":
        self._start, self.peak_mib, self._open = self._now(), 0.0, True
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open = False
        self._watch.join()

    def _now(self) -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    def _look(self) -> None:
        while self._open:
            self.peak_mib = max(self.peak_mib, self._now() - self._start)
            time.sleep(0.001)


def memory_of(name: str, args: argparse.Namespace, clips: int) -> float:
    words = ["masked", "--row", name, "--preset", args.preset, "--clips", str(clips)]
    words += ["--precision", args.precision] if args.precision else []
    done = subprocess.run([sys.executable, ROOT / "scripts/bench", *words], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def table(args: argparse.Namespace) -> None:
    """Rows: ours and theirs."""
    import torch
    import transformers

    config, (device, bf16) = settings(args), pick_device(args)
    clips = args.clips or config.train.batch_size
    names = [*THEIRS, *OURS]
    if args.compile:
        names += [name + COMPILED for name in names]
    steps = {name: make_row(name, args, config, clips) for name in names}
    product, operations = matmul(bf16)
    seconds = interleaved({**steps, "matmul": product}, args.repeats)
    peak = operations / seconds["matmul"]
    m = config.model
    print(
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else f'CPU, {torch.get_num_threads()} threads'}, "
        f"{'bf16' if bf16 else 'fp32'}, torch {torch.__version__}, transformers {transformers.__version__}; {args.preset}: "
        f"{clips} clips of {m.frames}x{m.image_size}x{m.image_size}, mask ratio {config.mask_ratio}; matmul peak {peak / 1e12:.2f} TFLOP/s"
    )
    print("\n| | step, s | times as fast as transformers eager | step / VideoMAE | model FLOPs, share of peak | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    del steps
    for name in names:
        plain = name.removesuffix(COMPILED)
        forward = workload_of(row_config(plain if plain in OURS else "VideoMAE", config)).forward
        both = clips * TRAINING * (forward["encode"] + forward["decode"])
        memory = "" if args.no_memory else f"{memory_of(name, args, clips):.0f}"
        print(
            f"| {name} | {seconds[name]:.4f} | {seconds[next(iter(THEIRS))] / seconds[name]:.2f} "
            f"| {seconds[name] / seconds['VideoMAE']:.2f} | {both / 1e9:.1f} G, {100 * both / seconds[name] / peak:.0f} % | {memory} |"
        )
