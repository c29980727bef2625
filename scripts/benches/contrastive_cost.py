"""Step time and peak memory of S3D InfoNCE, CoCLR and DPC R18 beside their public implementations, on the CPU.

A row is a training step without data loading: forward, loss, backward, Adam. Both sides have the same clips, already normalised, and the
published sizes. Steps of ours and theirs take turns in one process; seconds are CPU seconds of that process, so that other work on the
machine counts less. Memory is the highest resident size of a process of its own over that of the same process before the network is made.
`--coclr` and `--dpc` are checkouts of github.com/TengdaHan/CoCLR and /DPC; without one its columns stay empty. Nothing of them is copied
here: they are imported from where they lie.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches import ROOT

ROWS = {"S3D InfoNCE": "coclr", "S3D CoCLR": "coclr", "DPC R18": "dpc"}
"""Rows, and which checkout has theirs."""
BLOCKS, LENGTH, FRAMES = 8, 5, 32
QUEUE, RATE, DECAY = 2048, 1e-3, 1e-5

Step = Callable[[], float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coclr", metavar="DIR", help="checkout of the public CoCLR")
    parser.add_argument("--dpc", metavar="DIR", help="checkout of the public DPC")
    parser.add_argument("--only", choices=ROWS, action="append", help="repeatable; default: all")
    parser.add_argument("--clips", type=int, default=2, help="videos a step [2]")
    parser.add_argument("--side", type=int, default=128, help="px [128]")
    parser.add_argument("--repeats", type=int, default=7, help="steps of each, behind two to warm up [7]")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory columns out")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)  # one row and side, in a process of its own


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    if args.memory_of:
        return memory(*args.memory_of, args)
    table(args)


def table(args: argparse.Namespace) -> None:
    import torch

    print(
        f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, float32: {args.clips} videos of {args.side} px a step, "
        f"median of {args.repeats}\n\n| | ours, s | public, s | ratio | ours, MiB | public, MiB | ratio |\n|---|---|---|---|---|---|---|"
    )
    for row in args.only or ROWS:
        sides = ["ours", *(["public"] if getattr(args, ROWS[row]) else [])]
        seconds = interleaved({side: make(row, side, args) for side in sides}, args.repeats)
        mib = {} if args.no_memory else {side: measured(row, side, args) for side in sides}
        print(f"| {row} | {cells(seconds, '.2f')} | {cells(mib, '.0f')} |", flush=True)


def cells(values: dict[str, float], form: str) -> str:
    """Ours, theirs, and ours over theirs, as far as there are any."""
    ours, theirs = values.get("ours"), values.get("public")
    ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
    return " | ".join([*("" if value is None else f"{value:{form}}" for value in (ours, theirs)), ratio])


def interleaved(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median seconds of each, after two rounds of warm-up, taken by turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if turn >= 2:
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def measured(row: str, side: str, args: argparse.Namespace) -> float:
    """MiB of one row and side in a process of its own."""
    words = ["contrastive-cost", "--memory-of", row, side, "--clips", args.clips, "--side", args.side]
    words += [word for name in ("coclr", "dpc") if getattr(args, name) for word in (f"--{name}", getattr(args, name))]
    done = subprocess.run([sys.executable, ROOT / "scripts/bench", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def memory(row: str, side: str, args: argparse.Namespace) -> None:
    """Prints the peak of three steps over what the process had with its libraries."""
    import torch

    imports(row, side, args)
    torch.nn.functional.conv3d(torch.randn(1, 2, 4, 8, 8), torch.randn(2, 2, 1, 3, 3))
    before = resident("VmRSS")
    step = make(row, side, args)
    for _ in range(3):
        step()
    print(json.dumps(resident("VmHWM") - before))


def resident(which: str) -> float:
    """MiB, now (`VmRSS`) or at the highest (`VmHWM`); getrusage would also count what the parent process had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def imports(row: str, side: str, args: argparse.Namespace) -> None:
    """Imports what a row needs, and on the public side makes a world of one process and lets `.cuda()` leave tensors where they are."""
    import torch
    import torch.distributed as dist

    from tasks.core.engine.accelerator import keep_freed_memory

    keep_freed_memory()  # as in training
    if side == "ours":
        import tasks.contrastive.method
        import tasks.predictive.method  # noqa: F401
    else:
        if not dist.is_initialized():
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
        folder = getattr(args, ROWS[row])
        sys.path[:0] = [folder] if ROWS[row] == "coclr" else [f"{folder}/dpc", f"{folder}/backbone"]


def make(row: str, side: str, args: argparse.Namespace) -> Step:
    """A function that takes one step and returns its loss."""
    imports(row, side, args)
    return {"ours": our_step, "public": their_step}[side](row, args)


def clips(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """A batch as our methods take it."""
    import torch

    generator = torch.Generator().manual_seed(0)
    frames = (BLOCKS * LENGTH,) if row == "DPC R18" else (2, FRAMES)
    views = ["video", *(["flow"] if row == "S3D CoCLR" else [])]
    drawn = {name: torch.randn(args.clips, *frames, 3, args.side, args.side, generator=generator) for name in views}
    return {**drawn, "source": torch.arange(args.clips)}


def our_step(row: str, args: argparse.Namespace) -> Step:
    import torch

    from tasks.contrastive.config import PretrainConfig as Contrastive
    from tasks.contrastive.method import METHODS
    from tasks.core.engine.method import MAIN, Progress
    from tasks.core.engine.optim import make_optimizer
    from tasks.core.engine.random import BatchRandom
    from tasks.predictive.config import PretrainConfig as Predictive
    from tasks.predictive.method import Prediction

    torch.manual_seed(0)
    if row == "DPC R18":
        config = Predictive(model={"image_size": args.side, "statistics": "batch"})
        method = Prediction(config)
    else:
        name = "coclr" if row == "S3D CoCLR" else "infonce"
        data = {"clip": {"frames": FRAMES, "stride_frames": 1}, **({"flow": {"compute": {}}} if name == "coclr" else {})}
        config = Contrastive(method={"name": name, "queue": QUEUE}, model={"image_size": args.side, "projection": 128}, data=data)
        method = METHODS[name](config)
        method.keyed.queue.videos.copy_(torch.arange(QUEUE) + args.clips)  # full
    method.train()
    optimizer = make_optimizer(method.optimizers()[MAIN].groups, config.optim, torch.device("cpu"))
    batch, number = clips(row, args), iter(range(10**9))

    def step() -> float:
        at = next(number)
        losses = method(batch, BatchRandom(0, at, rows=args.clips), Progress(at, 0, 10**6, 10**9))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return losses["loss"].item()

    return step


def their_step(row: str, args: argparse.Namespace) -> Step:
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    batch = clips(row, args)
    if row == "DPC R18":
        from model_3d import DPC_RNN  # of the checkout

        model = DPC_RNN(sample_size=args.side, num_seq=BLOCKS, seq_len=LENGTH, network="resnet18", pred_step=3)
        blocks = batch["video"].unflatten(1, (BLOCKS, LENGTH)).transpose(2, 3).contiguous()

        def loss() -> torch.Tensor:
            score, mask = model(blocks)
            rows = args.clips * mask.shape[1] * mask.shape[2]
            return F.cross_entropy(score.reshape(rows, -1), (mask == 1).reshape(rows, -1).int().argmax(1))
    else:
        from model.pretrain import CoCLR, InfoNCE  # of the checkout

        mined = row == "S3D CoCLR"
        model = (CoCLR if mined else InfoNCE)("s3d", 128, QUEUE, 0.999, 0.07)
        views = [batch[name].transpose(2, 3).contiguous() for name in ("video", "flow") if name in batch]
        if mined:
            model.queue_vname.copy_(torch.arange(QUEUE) + args.clips)
            model.queue_label.fill_(1)
            query, key = (torch.stack([view[:, side] for view in views], 1) for side in range(2))  # frames and flow of each clip

        def loss() -> torch.Tensor:
            if not mined:
                return F.cross_entropy(*model(views[0]))
            scores, positive = model(query, key, batch["source"])
            return -(scores.softmax(1) * positive).sum(1).log().mean()

    model.train()
    if hasattr(model, "sampler"):
        model.sampler.eval()
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=RATE, weight_decay=DECAY)

    def step() -> float:
        found = loss()
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        return found.item()

    return step
