"""What every training verb does before and after the loop: rows, loaders, the plan of a dry run, provenance of a model."""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tasks.core.cards import hardware
from tasks.core.checkpoint import find_model, load_config
from tasks.core.clips.config import ClipConfig, DataConfig
from tasks.core.config import Config
from tasks.core.engine.method import MAIN, Method
from tasks.core.engine.optim import checkpoint_bytes
from tasks.core.engine.run import Run, hash_rows
from tasks.core.engine.schedule import run_length, schedules
from tasks.core.engine.state import last_state
from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter


def training_rows(data: DataConfig) -> list:
    """Rows of the training set; UsageError when none was given."""
    from tasks.core.data.manifest import read_sources

    if not data.train:
        raise UsageError("no training videos given", "add --data PATH (a manifest, a folder or a video)")
    return read_sources(data.train, "train")


def world() -> tuple[int, int]:
    """(rank, number of processes) of the world this process was started in."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def fit_world(folder: Path, config: Any, reporter: Reporter) -> Any:
    """The configuration with which a run goes on in another number of processes than it was stopped in.

    Batch size and accumulation change so that as many videos make a step as before; schedules stay, the order of the videos and the random
    draws do not. Without a checkpoint, or with the same number of processes, the configuration as it is.

    Raises:
        UsageError: this number of processes cannot share a step evenly.
    """
    _, processes = world()
    state = last_state(folder / "checkpoints")
    if state is None or state["world"] == processes:
        return config
    before, train = state["world"], config.train
    videos = state.get("effective_batch", before * train.batch_size * train.accumulate)
    if videos % processes:
        possible = [n for n in range(1, videos + 1) if videos % n == 0]
        raise UsageError(
            f"{folder} was trained by {before} processes with {videos} videos a step, which {processes} processes cannot share evenly",
            f"continue it with {', '.join(map(str, possible))} processes, or choose another --out",
        )
    share = videos // processes
    accumulate = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= train.batch_size)
    if world()[0] == 0:
        reporter.warn(
            f"{folder} was trained by {before} processes, now by {processes}: {share // accumulate} videos x {accumulate} micro-batches "
            f"each keep {videos} a step; order and random draws differ from here on"
        )
    changed = train.model_copy(update={"batch_size": share // accumulate, "accumulate": accumulate})
    return config.model_copy(update={"train": changed})


def build_train_loader(
    rows: list, config: Any, labels: list[str] | None, picker: Callable | None = None
) -> tuple[Callable[[int], Any], int]:
    """(loader from the number of micro-batches to pass over, micro-batches per epoch) for this process.

    Args:
        picker: chooses the frames of a row instead of `config.data.clip` (`core.clips.loader.Picker`).
    """
    from tasks.core.clips.loader import StepSampler, make_train_loader

    rank, processes = world()
    train, data = config.train, config.data

    def loader(start: int) -> Any:
        return make_train_loader(rows, data, labels, train.batch_size, rank, processes, train.seed, start, picker=picker)

    per_epoch = StepSampler(len(rows), train.batch_size, rank, processes, train.seed).steps_per_epoch
    return loader, per_epoch


def plan(method: Callable[[], Method], config: Any) -> dict[str, Any]:
    """What a run would do, without doing it: builds the model on the meta device.

    Returns:
        rows for people and machines: parameters, effective batch, learning rates after scaling, steps, checkpoint size.
    """
    from tasks.core.clips.loader import StepSampler

    with torch.device("meta"):
        built = method()
    _, processes = world()
    rows = training_rows(config.data)
    batch = config.train.batch_size * config.train.accumulate * processes
    per_epoch, total = run_length(config.train, StepSampler(len(rows), config.train.batch_size, 0, processes, 0).steps_per_epoch)
    made = schedules(built, config.optim, batch, per_epoch, total)
    parameters = sum(p.numel() for p in built.parameters())
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
    return {
        "parameters": parameters,
        "videos": len(rows),
        "data_hash": hash_rows(rows),
        "effective_batch": batch,
        "clips_per_step": batch * config.data.repeats,
        "steps_per_epoch": per_epoch,
        "steps": total,
        "warmup_steps": made[MAIN].warmup_steps,
        **{f"learning_rate{'' if k == MAIN else '_' + k}": s.lr for k, s in made.items()},
        "checkpoint_mib": round(checkpoint_bytes(parameters, trained, config) / 2**20, 1),
        "writes": "config.yaml run.json metrics.jsonl log.txt checkpoints/ model/",
    }


def stride_seconds(clip: ClipConfig, rows: list, decoder: str) -> float | None:
    """Distance between the frames of a clip in seconds: as given, or the frame stride times the median frame interval of up to 8
    training videos.
    """
    from tasks.core.errors import InputError
    from tasks.core.video.open import open_video

    if clip.stride_s is not None:
        return clip.stride_s
    if clip.sampling == "segments":
        return None
    intervals = []
    for row in rows[:: max(1, len(rows) // 8)][:8]:
        try:
            with open_video(row.path, decoder) as video:
                if video.n_frames > 1:
                    intervals.append((video.pts[-1] - video.pts[0]) / (video.n_frames - 1))
        except InputError:
            continue
    return round(float(median(intervals)) * (clip.stride_frames or 1), 6) if intervals else None


def preprocessing(config: Any, rows: list) -> dict[str, Any]:
    """How videos must be brought to a model trained with this configuration."""
    from tasks.core.clips.prepare import flow_input

    clip = config.data.clip
    return {
        "image_size": config.model.image_size,
        "frames": clip.frames,
        "sampling": clip.sampling,
        "stride_frames": clip.stride_frames,
        "stride_s": stride_seconds(clip, rows, config.data.decoder),
        "stretch": clip.stretch,
        "crop": config.augment.crop if config.augment.crop == "motion" else "center",
        "motion_margin": config.augment.motion_margin,
        "flow": config.augment.flow,
        "flow_input": flow_input(config.data.flow),
        "short_side": config.data.short_side,
        "mean": list(config.augment.mean),
        "std": list(config.augment.std),
        "color": "RGB",
    }


def check_flow_input(init: str, flow: str | None) -> None:
    """UsageError where a model that was trained on pictures of optical flow would be shown colours."""
    seen = load_config(find_model(init)).get("preprocessing", {}).get("flow")
    if seen and not flow:
        raise UsageError(f"{init} was trained on pictures of optical flow, this run would show it colours", f"--set augment.flow={seen}")


def provenance(run: Run, config: Config) -> dict[str, Any]:
    """Where a model comes from, for its config.json; what came from the Hub at its commit (`vid publish` takes local paths out)."""
    facts = run.facts()
    kept = ("task", "verb", "preset", "commit", "versions", "data_hash", "videos", "device")
    init = facts.get("pinned", {}).get(config.init, config.init)
    return {**{k: facts.get(k) for k in kept}, "hardware": hardware(world()[1]), "seed": config.train.seed, "init": init}


def card(title: str, facts: dict[str, Any], use: str, metadata: dict[str, Any]) -> str:
    """A model card: YAML metadata, what the model is, a table of facts, how to use it."""
    import yaml

    rows = "\n".join(f"| {k} | {v} |" for k, v in facts.items())
    head = yaml.safe_dump({"library_name": "vid", **metadata}, sort_keys=False)
    return f"---\n{head}---\n\n# {title}\n\n| | |\n|---|---|\n{rows}\n\n## Use\n\n```sh\n{use}\n```\n"


def relative_name(folder: Path) -> str:
    """A folder's name for cards and titles."""
    return folder.resolve().name
