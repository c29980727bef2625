"""Which slots of MemDPC's memory are used, and how evenly."""

import itertools
import math
from pathlib import Path

import torch

from tasks.core.engine.run import Run
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


def visualize(coder: PredictiveCoder, config: PretrainConfig, rows: list, run: Run) -> Path | None:
    """Writes `pictures/memory.svg`, the slots from the most to the least used; returns its path, None where no clip could be read."""
    from tasks.core.report.figures import curves

    clips = read_clips(config, rows, config.visualize)
    if not len(clips):
        return None
    use = slot_use(coder, clips.to(next(coder.parameters()).device))
    slots = len(use)
    share = float(objective.entropy(use, 0)) / math.log(slots) if slots > 1 else 1.0
    order = list(range(1, slots + 1))
    series = {
        f"memory, entropy {share:.0%} of all slots alike": (order, use.sort(descending=True).values.tolist()),
        "all slots alike": (order, [1 / slots] * slots),
    }
    file = run.folder / "pictures" / "memory.svg"
    write_text(file, curves(series, "mean probability", f"slot, of {len(clips)} clips", log=True))
    run.reporter.info(f"wrote {file}")
    return file
