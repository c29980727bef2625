"""Masked pretraining: step time and memory of every sampler beside transformers, share of the matmul peak, loader speed, scaling.

`--only model`, `--only loader` or `--only scaling` measure one part; `--only counts` needs no device of the size that it counts for. Times
of a part are interleaved in one process and given as medians; memory is measured in a process for each row. What is compared: see
`masked_model.py`, `masked_counts.py`, `masked_loader.py` and `masked_scaling.py`.
"""

import argparse
import sys

from benches import DATA, ROOT, masked_counts, masked_loader, masked_model, masked_scaling

PARTS = ("model", "counts", "loader", "scaling")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="masked/tats-tiny", help="model, decoder, mask ratio and sampler settings of all rows")
    parser.add_argument("--only", choices=PARTS, action="append", help="repeatable; default: all")
    parser.add_argument("--clips", type=int, help="clips a step; default: of the preset")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, ours and theirs")
    parser.add_argument("--tflops", type=float, default=790, help="for counts: rate of matrix products, 10^12/s; default: H200, bf16")
    parser.add_argument("--tbytes", type=float, default=4.3, help="for counts: memory bandwidth, 10^12/s; default: H200")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory column out")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # one row in a process of its own, for its memory
    parser.add_argument(
        "--data", nargs="*", default=[str(DATA / name) for name in ("gestures", "fights", "clips")], help="videos for the loader"
    )
    parser.add_argument("--side", type=int, default=224, help="side of the loader's crops, px")
    parser.add_argument("--videos", type=int, default=24, help="videos of each folder")


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    if args.row:
        return masked_model.memory_row(args)
    parts = {"model": masked_model.table, "counts": masked_counts.table, "loader": masked_loader.table, "scaling": masked_scaling.table}
    for name in args.only or PARTS:
        parts[name](args)
        print()
