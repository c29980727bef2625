"""Forward and backward of the sampler's attention at 1568 tokens: joint, exact trajectory, Orthoformer; medians."""

import argparse
import statistics
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    import torch

    from tasks.core.nn.trajectory import TrajectoryAttention
    from tasks.core.nn.vit import Attention

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(args.clips, 1568, args.dim, device=device, requires_grad=True)
    kinds = {
        "joint": Attention(args.dim, 8),
        "trajectory, exact": TrajectoryAttention(args.dim, 8, 8),
        "trajectory, Orthoformer 128": TrajectoryAttention(args.dim, 8, 8, 128),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.repeats + 1):
        for name, module in kinds.items():
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = module.to(device)(x).float().sum()
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    base = statistics.median(seconds["joint"][1:])
    print(f"{device}, {torch.get_num_threads()} threads, {args.clips} clips of 1568 tokens, width {args.dim}")
    for name, taken in seconds.items():
        print(f"{name}: {statistics.median(taken[1:]):.3f} s, {statistics.median(taken[1:]) / base:.2f} x joint")
