"""Multi-view testing: every video once, its views' probabilities averaged."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.classify.config import ViewConfig
from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig
from tasks.core.clips.prepare import boxes_for_model, check_crops, clip_of, flow_for_model, short_side_of, squares_of
from tasks.core.data.batch import size_of
from tasks.core.errors import InputError, UsageError
from tasks.core.profile import moved
from tasks.core.reporter import Reporter
from tasks.core.world import world


@dataclass
class Outputs:
    """Per-video outputs of this process, and after `gathered` of all processes in row order.

    Attributes:
        values: `(n, d)` float32, averaged over views.
        labels, uids: `(n,)` int64.
        paths: n.
        skipped: (path, reason) of unreadable videos.
    """

    values: np.ndarray
    labels: np.ndarray
    uids: np.ndarray
    paths: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def gathered(self) -> "Outputs":
        """Joins the parts of all processes."""
        processes = world().size
        if processes == 1:
            return self
        parts: list[Any] = [None] * processes
        torch.distributed.all_gather_object(parts, self)
        full = [p for p in parts if len(p.values)] or parts[:1]
        order = np.argsort(np.concatenate([p.uids for p in full]), kind="stable")
        paths = [path for p in full for path in p.paths]
        return Outputs(
            np.concatenate([p.values for p in full])[order],
            np.concatenate([p.labels for p in full])[order],
            np.concatenate([p.uids for p in full])[order],
            [paths[i] for i in order],
            [s for p in parts for s in p.skipped],
        )


def model_data(data: DataConfig, preprocessing: dict[str, Any], crops: int = 1, several: bool = False) -> tuple[DataConfig, AugmentConfig]:
    """The reading and normalisation that a model was trained with; an explicit stride in `data` wins.

    Args:
        data: as configured.
        preprocessing: of the model's config.json.
        crops: squares of a clip.
        several: it is one of several models; the flow and the boxes of `data` are for those that take them.
    """
    clip = data.clip
    if clip.stride_frames is None and clip.stride_s is None:
        clip = clip_of(preprocessing)
    else:
        clip = clip.model_copy(update={"frames": preprocessing["frames"]})
    short = data.short_side or short_side_of(preprocessing, crops)
    given = None if several and not preprocessing.get("flow_input") else data.flow
    flow = flow_for_model(given, preprocessing)
    boxes = boxes_for_model(None if several and not preprocessing.get("boxes") else data.boxes, preprocessing)
    found = {"clip": clip, "short_side": short, "flow": flow, "boxes": boxes}
    return data.model_copy(update=found), squares_of(preprocessing)


def check_views(views: ViewConfig, clip: ClipConfig, crop: str) -> None:
    """UsageError where clips of this kind have no such views.

    Args:
        views: what is asked for.
        clip: the frames of a clip.
        crop: how squares are cut, `AugmentConfig.crop`.
    """
    if views.windows == "half-overlap" and clip.sampling != "dense":
        raise UsageError("half-overlapping windows need dense clips, these are frames spread over a whole video", "use windows: spread")
    check_crops(crop, views.crops)


def check_some(outputs: Outputs) -> None:
    """InputError where no video could be read."""
    if not len(outputs.values):
        raise InputError("none of the videos could be read", "run: vid data check MANIFEST")


def view_batches(rows: list, data: DataConfig, labels: list[str] | None, batch_size: int, views: ViewConfig) -> Iterator[dict[str, Any]]:
    """Batches of all views of this process' share of the rows, `batch_size` videos each; of one video where windows go all over it."""
    from tasks.core.clips.loader import make_eval_loader

    rank, processes = world()
    clips = None if views.windows == "half-overlap" else views.clips
    return iter(make_eval_loader(rows, data, labels, batch_size if clips else 1, rank, processes, clips))


def rounds_of(rows: list, batch_size: int, views: ViewConfig) -> int:
    """Batches of the process that has the most."""
    share = math.ceil(len(rows) / world().size)
    return share if views.windows == "half-overlap" else math.ceil(share / batch_size)


@torch.no_grad()
def collect(
    forward: Callable[[Any, list[int]], torch.Tensor],
    batches: Iterator[dict[str, Any]],
    transform: Callable[[dict[str, Any]], Any],
    crops: int,
    device: torch.device,
    stop: Callable[[], None],
    reporter: Reporter,
    total: int,
    max_clips: int = 64,
    rounds: int = 0,
) -> Outputs:
    """Runs `forward` on every view and averages per video.

    Args:
        forward: what `transform` gives of b views and a seed for each, which depends on video, clip and crop alone, to `(b, d)` float32
            (probabilities or features).
        batches: of the loader; videos may differ in their number of clips.
        transform: batch to N * crops views.
        crops: views of a clip.
        device: where views are cut and go through the network.
        stop: called after every batch; raises to end.
        reporter: shows progress.
        total: videos.
        max_clips: views that are cut and go through the network at once.
        rounds: `stop` is called at least this often, so that processes with fewer batches take part when the others agree on stopping.
    """
    values: dict[int, np.ndarray] = {}
    facts: dict[int, tuple[int, str]] = {}
    skipped: list[tuple[str, str]] = []
    with reporter.progress("testing", total, "video") as bar:
        for batch in batches:
            skipped += batch["skipped"]
            if size_of(batch):
                parts = parts_of(batch, max(1, max_clips // crops))
                out = torch.cat([forward(transform(moved(part, device)), view_seeds(part, crops)) for part in parts]).float()
                out = out.view(len(batch["uid"]), crops, -1).mean(1).cpu().numpy()
                for uid in dict.fromkeys(batch["uid"].tolist()):
                    mine = (batch["uid"] == uid).numpy()
                    values[uid] = out[mine].mean(0)
                    first = int(mine.argmax())
                    facts[uid] = (int(batch["label"][first]), batch["path"][first])
            bar.advance(len(set(batch["uid"].tolist())) + len(batch["skipped"]))
            stop()
            rounds -= 1
    for _ in range(rounds):
        stop()
    uids = sorted(values)
    width = len(values[uids[0]]) if uids else 0
    return Outputs(
        np.stack([values[u] for u in uids]) if uids else np.zeros((0, width), np.float32),
        np.array([facts[u][0] for u in uids], dtype=np.int64),
        np.array(uids, dtype=np.int64),
        [facts[u][1] for u in uids],
        skipped,
    )


def parts_of(batch: dict[str, Any], clips: int) -> Iterator[dict[str, Any]]:
    """What is needed to cut views, of at most `clips` clips at a time: many windows of a video would not fit beside each other."""
    whole = {name: batch[name] for name in ("main", "modality", "box_control") if name in batch}
    for start in range(0, size_of(batch), clips):
        rows = slice(start, start + clips)
        yield {**whole, **{name: batch[name][rows] for name in (batch["main"], "size", "seed", "boxes") if name in batch}}


def view_seeds(part: dict[str, Any], crops: int) -> list[int]:
    """A seed for each view of a part of a batch, from its clip's own; crops of a clip are neighbours."""
    return [seed + crop for seed in part["seed"].tolist() for crop in range(crops)] if "seed" in part else []


def classify_views(
    classifier: nn.Module,
    rows: list,
    labels: list[str],
    data: DataConfig,
    views: ViewConfig,
    augment: AugmentConfig,
    size: int,
    batch_size: int,
    stop: Callable,
    reporter: Reporter,
    choose: Callable[[list[int]], torch.Tensor] | None = None,
) -> Outputs:
    """Class probabilities of every video: softmax per view, then the mean over views. `choose`: from the seeds of b views to the tokens
    `(b, n)` that are seen of them; None: all.
    """
    from tasks.core.clips.augment import EvalTransform

    device = next(classifier.parameters()).device
    was_training = classifier.training
    classifier.eval()

    def forward(streams: dict[str, torch.Tensor], seeds: list[int]) -> torch.Tensor:
        index = None if choose is None else choose(seeds).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return classifier(streams["video"], index, streams.get("boxes")).float().softmax(-1)

    batches, rounds = view_batches(rows, data, labels, batch_size, views), rounds_of(rows, batch_size, views)
    transform = EvalTransform(augment, size, views.crops).streams
    outputs = collect(forward, batches, transform, views.crops, device, stop, reporter, len(rows), rounds=rounds)
    classifier.train(was_training)
    return outputs.gathered()
