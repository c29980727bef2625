"""Turbo: multiply-adds, step time and memory of every (m, r) beside m = 0, and accuracy after equal epochs and after equal time.

`--only steps`, `--only memory` or `--only accuracy` measure one part. Steps are taken by turns in one process, medians are given. On a CPU
the seconds are those of one thread's work, so that other programs do not count; on a GPU they are wall-clock seconds. Memory is measured
in a process for each row. Accuracy is that of the demo's motions: `turbo_accuracy.py`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benches import ROOT, turbo_accuracy
from benches.masked_model import Resident, synchronize

PARTS = ("steps", "memory", "accuracy")
SHARES = ((0.0, 0.0), (0.5, 0.5), (0.75, 0.75), (0.75, 0.25), (0.9, 0.9), (0.9, 0.1))
LONG = ((16, 0.5, 0.5), (32, 0.75, 0.25), (64, 0.875, 0.125))
EMBED_ALL = (0.9, 0.1)
"""The row that is also measured with every cube embedded before tokens are dropped."""
TRAINING = 3  # forward and backward, in forward passes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, action="append", help="repeatable; default: all")
    parser.add_argument("--size", default="small", help="of the encoder: tiny, small, base, large, huge; its decoder is half as wide")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=224, help="px")
    parser.add_argument("--clips", type=int, default=1, help="clips a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # FRAMES,M,R: one row in a process of its own, for its memory
    turbo_accuracy.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    if args.row:
        return memory_row(args)
    parts = {"steps": steps, "memory": memory, "accuracy": turbo_accuracy.table}
    for name in args.only or PARTS:
        parts[name](args)
        print(flush=True)


def settings(args: argparse.Namespace, m: float, r: float, frames: int | None = None) -> Any:
    """The configuration of a row; the class token is there without dropout, too."""
    from tasks.classify.config import FinetuneConfig
    from tasks.core.nn.config import VitConfig

    frames = frames or args.frames
    model = VitConfig(size=args.size, frames=frames, image_size=args.side, class_token=True)
    width = model.widths()[0] // 2
    turbo = {"mask": m, "reconstruct": r, "decoder": {"depth": 4, "dim": width, "heads": max(1, width // 64)}}
    data, train = {"clip": {"frames": frames}}, {"batch_size": args.clips}
    return FinetuneConfig(model=model, head={"pool": "cls"}, turbo=turbo, data=data, train=train)


CLASSES = 101


def step_of(config: Any, args: argparse.Namespace, embed_all: bool = False) -> Callable[[], None]:
    """A function that takes a training step: forward, backward, optimizer; clips lie normalised on the device."""
    import torch

    from tasks.classify.turbo import build_method
    from tasks.core.engine.method import MAIN, Progress
    from tasks.core.engine.optim import make_optimizer
    from tasks.core.engine.random import BatchRandom

    device, bf16 = pick_device(args)
    torch.manual_seed(0)
    method = build_method(config, config.model, CLASSES).to(device).train()
    if embed_all:
        method.classifier.encoder.cubes = lambda video, index: EmbeddedFirst(method.classifier.encoder, video, index)
        method.classifier.encoder.embed.forward = lambda given: given.tokens()
    optimizer = make_optimizer(method.optimizers()[MAIN].groups, config.optim, device)
    model, clips = config.model, config.train.batch_size
    video = torch.randn(clips, model.frames, 3, model.image_size, model.image_size, device=device)
    target = torch.eye(CLASSES, device=device)[torch.arange(clips) % CLASSES]
    number = iter(range(10**9))

    def step() -> None:
        at = next(number)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = method({"video": video, "target": target}, BatchRandom(0, at, 0, clips, 0, 1, device), Progress(at, 0, 1, 10**9))
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class EmbeddedFirst:
    """Cubes of chosen tokens that become tokens the other way round: all are embedded, then some are chosen."""

    def __init__(self, encoder: Any, video: Any, index: Any):
        self.encoder, self.video, self.index = encoder, video, index

    def tokens(self) -> Any:
        import torch.nn.functional as F

        from tasks.core.nn.masked import take

        embed = self.encoder.embed
        return take(F.linear(embed.cubes(self.video), embed.weight.flatten(1), embed.bias), self.index)


def pick_device(args: argparse.Namespace) -> tuple[Any, bool]:
    import torch

    cuda = torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu"), args.precision == "bf16" or (args.precision is None and cuda)


def seconds_of(step: Callable[[], None]) -> float:
    """Of one step: wall-clock on a GPU, of this process' work on a CPU."""
    import torch

    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    synchronize()
    began = now()
    step()
    synchronize()
    return now() - began


def by_turns(taken_by: dict[Any, Callable[[], None]], repeats: int, warmup: int = 1) -> dict[Any, float]:
    """Median seconds of each step."""
    taken: dict[Any, list[float]] = {name: [] for name in taken_by}
    for turn in range(repeats + warmup):
        for name, step in taken_by.items():
            seconds = seconds_of(step)
            if turn >= warmup:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def counted(config: Any, args: argparse.Namespace) -> tuple[float, float, float]:
    """Multiply-adds of a forward pass as the paper counts them; of a training step here, over three; bytes held for the backward pass."""
    import torch

    from tasks.classify.workload import example
    from tasks.core.engine.workload import count_workload
    from tasks.core.nn.token_dropout import plain_macs, token_counts

    with torch.device("meta"):
        made = example(config, CLASSES)
    work = count_workload(made, config.train, pick_device(args)[1])
    plain = plain_macs(config.model, config.turbo.decoder, token_counts(config.model.grid(), config.turbo))
    return plain, work.training / 2 / TRAINING, sum(work.held.values())


def steps(args: argparse.Namespace) -> None:
    """Counted and measured cost of every row."""
    import torch

    device, bf16 = pick_device(args)
    rows: dict[Any, Any] = {shares: settings(args, *shares) for shares in SHARES}
    made = {shares: step_of(config, args) for shares, config in rows.items()}
    made["all cubes embedded"] = step_of(rows[EMBED_ALL], args, embed_all=True)
    taken = by_turns(made, args.repeats)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    model = rows[SHARES[0]].model
    print(
        f"{where}, {'bf16' if bf16 else 'fp32'}, torch {torch.__version__}; ViT-{args.size}, {args.clips} clip(s) of {model.frames}x"
        f"{model.image_size}x{model.image_size}, {model.n_tokens()} tokens; medians of {args.repeats} steps, forward to optimizer\n"
    )
    columns = ("(m, r)", "G multiply-adds, paper's count", "times fewer", "of a step here, / 3", "step, s", "times as fast")
    print(f"| {' | '.join(columns)} | of the paper's | of ours |\n{'|---' * (len(columns) + 2)}|")
    costs = {shares: counted(config, args) for shares, config in rows.items()}
    plain, own, _ = costs[SHARES[0]]
    for shares, (macs, ours, _) in costs.items():
        fewer, faster = plain / macs, taken[SHARES[0]] / taken[shares]
        print(
            f"| {shares} | {macs / 1e9:.2f} | {fewer:.2f} | {ours / 1e9:.2f} | {taken[shares]:.3f} | {faster:.2f} "
            f"| {faster / fewer:.2f} | {faster / (own / ours):.2f} |"
        )
    more = taken["all cubes embedded"] / taken[EMBED_ALL]
    print(f"\n{EMBED_ALL} with all cubes embedded before some are dropped: {taken['all cubes embedded']:.3f} s, {more:.2f} times as long")


def memory(args: argparse.Namespace) -> None:
    """Peak of a process that trains, by row; and of longer clips with as many visible tokens."""
    rows = [(args.frames, *shares) for shares in SHARES]
    rows += [row for row in LONG if row not in rows]
    peaks = {row: memory_of(row, args) for row in rows}
    print(f"ViT-{args.size}, {args.clips} clip(s), {args.side} px: peak memory of training and what the forward pass holds, MiB\n")
    print("| frames | (m, r) | peak | held for the backward pass, counted |\n|---|---|---|---|")
    for (frames, m, r), peak in peaks.items():
        print(f"| {frames} | ({m:g}, {r:g}) | {peak:.0f} | {counted(settings(args, m, r, frames), args)[2] / 2**20:.0f} |")
    chains = {"r = m": [(m, r) for m, r in SHARES if m == r], "r = 1 - m": [SHARES[0], *(row for row in SHARES if sum(row) == 1)]}
    falls = {name: [peaks[args.frames, *shares] for shares in chain] for name, chain in chains.items()}
    told = ", ".join(f"{name} {'yes' if found == sorted(found, reverse=True) else 'NO'}" for name, found in falls.items())
    print(f"\nfalls with m: {told}", end="; ")
    print(f"64 frames (.875, .125) over 16 frames (.5, .5): {peaks[LONG[-1]] / peaks[LONG[0]]:.2f}")


def memory_of(row: tuple[int, float, float], args: argparse.Namespace) -> float:
    words = ["turbo", "--row", ",".join(map(str, row)), "--size", args.size, "--side", args.side, "--clips", args.clips]
    words += ["--precision", args.precision] if args.precision else []
    done = subprocess.run([sys.executable, ROOT / "scripts/bench", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def memory_row(args: argparse.Namespace) -> None:
    """In a process of its own: prints the MiB that three steps took at their peak, weights and optimizer included."""
    import torch

    frames, m, r = args.row.split(",")
    torch.mm(torch.randn(64, 64), torch.randn(64, 64))
    with Resident() as resident:
        step = step_of(settings(args, float(m), float(r), int(frames)), args)
        for _ in range(3):
            step()
        synchronize()
    print(json.dumps(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else resident.peak_mib))
