"""Which slots of MemDPC's memory are used, and how evenly."""

import itertools
import math
from pathlib import Path

import torch

from tasks.core.engine.run import Run, read_metrics
from tasks.core.files import write_text
from tasks.predictive import objective
from tasks.predictive.config import PretrainConfig
from tasks.predictive.model import PredictiveCoder


@torch.no_grad()
def slot_use(coder: PredictiveCoder, clips: torch.Tensor) -> torch.Tensor:
    """(k,) float64: the mean probability of every slot over clips, directions, steps and places; sums to 1.

    Args:
        coder: with a memory.
        clips: (n, N * L, 3, S, S), normalised; at least one.
    """
    was_training = coder.training
    coder.eval()
    means = [direction.addresses.double().mean((0, 1, 3, 4)) for clip in clips for direction in coder(clip[None])]
    coder.train(was_training)
    return torch.stack(means).mean(0).cpu()


def read_clips(config: PretrainConfig, rows: list, count: int) -> torch.Tensor:
    """(at most `count`, N * L, 3, S, S): the middle of readable rows, spread over the list."""
    from tasks.core.clips.augment import EvalTransform
    from tasks.core.clips.loader import make_eval_loader

    data = config.data.model_copy(update={"workers": 0, "preload": False})
    spread = rows[:: max(1, len(rows) // count)][: 4 * count]
    transform = EvalTransform(config.augment, config.model.image_size)
    readable = (transform(batch) for batch in make_eval_loader(spread, data, None, 1) if len(batch["video"]))
    found = list(itertools.islice(readable, count))
    return torch.cat(found) if found else torch.empty(0)


def visualize(coder: PredictiveCoder, config: PretrainConfig, rows: list, run: Run) -> Path:
    """Draws `pictures/memory.svg`, the slots from the most to the least used, and `pictures/entropy.svg`, how evenly they were used in
    training; the first only where clips could be read. Returns the folder.
    """
    from tasks.core.report.figures import curves, points

    folder, drawn = run.folder / "pictures", {}
    clips = read_clips(config, rows, config.visualize)
    if len(clips):
        use = slot_use(coder, clips.to(next(coder.parameters()).device))
        order, slots = list(range(1, len(use) + 1)), len(use)
        series = {usage_text(use): (order, use.sort(descending=True).values.tolist()), "all alike": (order, [1 / slots] * slots)}
        drawn["memory.svg"] = curves(series, "mean probability", f"slot, most used first; {len(clips)} clips", log=True)
    records = read_metrics(run.metrics_file)
    names = {"memory_entropy": "slots of all places together", "address_entropy": "slots of one place"}
    drawn["entropy.svg"] = curves({text: points(records, name) for name, text in names.items()}, "entropy, share of the largest")
    for name, picture in drawn.items():
        write_text(folder / name, picture)
        run.reporter.info(f"wrote {folder / name}")
    return folder


def usage_text(use: torch.Tensor) -> str:
    """How evenly slots are used: the share of the largest entropy, and as how many slots that are used alike (its exponential)."""
    found = float(objective.entropy(use, 0))
    share = found / math.log(len(use)) if len(use) > 1 else 1.0
    return f"memory: {share:.1%} of the largest entropy, as {math.exp(found):.4g} of {len(use)} slots used alike"
