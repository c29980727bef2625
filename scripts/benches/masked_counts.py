"""One training step counted without running it, at any size, in mixed precision: peak memory, kernels, bytes, operations.

`least` is the time that no device of the given rates can go below, one operator after the other; a lower bound, not a measurement.
"""

import argparse

from benches.masked_model import OURS, our_step, row_config, settings


def table(args: argparse.Namespace) -> None:
    import torch

    from tasks.core.engine.counting import count_call
    from tasks.core.engine.fake import fake_copy
    from tasks.masked.method import MaskedPretraining

    config = settings(args)
    clips, model = args.clips or config.train.batch_size, config.model
    print(
        f"Counted, eager, bf16, torch {torch.__version__}; {args.preset}: {clips} clips of {model.frames}x{model.image_size}x"
        f"{model.image_size}, mask ratio {config.mask_ratio}; least: {args.tflops:g} TFLOP/s, {args.tbytes:g} TB/s\n\n"
        "| | peak memory, GiB | / VideoMAE | kernels | moved, GB | operations, T | least, ms | / VideoMAE |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    first = None
    for name in OURS:
        with torch.device("meta"):
            method = MaskedPretraining(row_config(name, config)).train()
        books = count_call(lambda method=method: our_step(fake_copy(method), clips, torch.device("cpu"), True))
        least = 1e3 * books.least_s(1e12 * args.tflops, 1e12 * args.tbytes)
        first = first or (books.peak, least)
        print(
            f"| {name} | {books.peak / 2**30:.2f} | {books.peak / first[0]:.2f} | {books.kernels} | {books.bytes / 1e9:.0f} "
            f"| {books.flops / 1e12:.2f} | {least:.1f} | {least / first[1]:.2f} |"
        )
