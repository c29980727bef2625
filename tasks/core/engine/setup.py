"""What every training verb does before, around and after the loop, as functions: a verb's `run` reads top to bottom.

method = build(config)
trainer = setup.train(run, config, method, setup.clip_feed(rows, config, prepare), "what is trained", rows)
return setup.conclude(run, trainer, lambda: ...)  # setup.publish, setup.numbers
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tasks.core.checkpoint import find_model, load_config, save_model
from tasks.core.clips.config import DataConfig
from tasks.core.data.batch import Batch
from tasks.core.data.sampler import StepSampler
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.description import card, drawn, preprocessing, provenance, trained_length
from tasks.core.engine.loop import Evaluate, Trainer
from tasks.core.engine.method import MAIN, Method
from tasks.core.engine.optim import checkpoint_bytes
from tasks.core.engine.random import STREAMS, derive_seed
from tasks.core.engine.run import Run, hash_rows, last_logged
from tasks.core.engine.samples import drawing_first
from tasks.core.engine.schedule import run_length, schedules
from tasks.core.engine.state import last_state
from tasks.core.errors import UsageError
from tasks.core.profile import moved
from tasks.core.reporter import Reporter
from tasks.core.world import world

HELD_OUT = {"val", "valid", "validation", "test", "testing"}
"""Names of splits that are not trained on."""


def training_rows(data: DataConfig) -> list:
    """Rows of the training set, or the share of them that `data.fraction` draws, repeated where `data.balance` says so.

    Raises:
        UsageError: none were given.
    """
    from tasks.core.data.fraction import balance_classes, draw_fraction
    from tasks.core.data.manifest import read_sources

    if not data.train:
        raise UsageError("no training videos given", "add --data PATH (a manifest, a folder or a video)")
    rows = draw_fraction(read_sources(data.train, "train"), data.fraction, data.fraction_seed)
    return balance_classes(rows, data.fraction_seed) if data.balance else rows


def warn_untested(run: Run, data: DataConfig) -> None:
    """Says it where a run trains on labels and no videos are set aside to test on, and how to have some."""
    from tasks.core.data.manifest import read_sources

    if data.val or not run.main:
        return
    splits = {source: read_sources([source]).codes("split")[1] for source in data.train if "@" not in source}
    held = next((source for source, names in splits.items() if {name.lower() for name in names} & HELD_OUT), None)
    found = f"{held} has some: --val {held}" if held else None
    made = "set some aside with: vid data index VIDEOS --split 0.8 -o videos.csv"
    run.reporter.warn(f"no --val: nothing will say how good this model is on videos that it has not seen; {found or made}")


def check_flow_input(config: Any) -> None:
    """UsageError where the model in `config.init`, which was trained on pictures of optical flow, would be shown colours.

    Args:
        config: has `init`, `augment` and `data`.
    """
    seen = load_config(find_model(config.init)).get("preprocessing", {})
    if seen.get("flow") and not config.augment.flow:
        hint = f"--set augment.flow={seen['flow']}"
    elif seen.get("flow_input") and config.data.flow is None:
        hint = "--set data.flow.folder=FLOW --set data.flow.frames=false, with a folder that vid data flow writes"
    else:
        return
    raise UsageError(f"{config.init} was trained on pictures of optical flow, this run would show it colours", hint)


def check_no_mixing(config: Any, what: str) -> None:
    """UsageError where a configuration mixes the labels of a verb that has none, `what` in its name."""
    if config.augment.mixup or config.augment.cutmix:
        raise UsageError(f"augment.mixup and augment.cutmix mix labels; {what} has none", "set them to 0")


def seed_weights(config: Any, *stream: int) -> None:
    """Seeds the generator from which the next network takes its first weights.

    Args:
        config: has `train.seed`.
        stream: tells apart networks that are made one after the other.
    """
    torch.manual_seed(derive_seed(config.train.seed, STREAMS["init"], *stream))


def fit_world(folder: Path, config: Any, reporter: Reporter) -> Any:
    """The configuration with which a run goes on in another number of processes than it was stopped in.

    Batch size and accumulation change so that as many videos make a step as before; schedules stay, the order of the videos and the random
    draws do not. Without a checkpoint, or with the same number of processes, the configuration as it is.

    Raises:
        UsageError: this number of processes cannot share a step evenly.
    """
    processes = world().size
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
    if world().main:
        reporter.warn(
            f"{folder} was trained by {before} processes, now by {processes}: {share // accumulate} videos x {accumulate} micro-batches "
            f"each keep {videos} a step; order and random draws differ from here on"
        )
    changed = train.model_copy(update={"batch_size": share // accumulate, "accumulate": accumulate})
    return config.model_copy(update={"train": changed})


@dataclass(frozen=True)
class Feed:
    """Where the batches of a run come from.

    Attributes:
        loader: from the number of micro-batches to pass over, an endless iterable of CPU batches (`core.data.batch`) of this process.
        prepare: from a CPU batch and the device to what the method takes.
        micro_per_epoch: batches of one process in one epoch.
        repeats: items that a row gives.
    """

    loader: Callable[[int], Iterable[Batch]]
    prepare: Callable[[Batch, torch.device], Batch]
    micro_per_epoch: int
    repeats: int = 1


def clip_feed(
    rows: list,
    config: Any,
    prepare: Callable[[Batch, torch.device], Batch],
    labels: list[str] | None = None,
    picker: Callable | None = None,
) -> Feed:
    """Random clips of the rows of a manifest, shared by the processes of this world.

    Args:
        rows: what to read.
        config: has `data` and `train`.
        prepare: as in `Feed`.
        labels: class names in the order of their numbers; None: every label is -1.
        picker: chooses the frames of a row instead of `config.data.clip` (`core.clips.loader.Picker`).
    """

    def loader(start: int) -> Any:
        from tasks.core.clips.loader import make_train_loader

        return make_train_loader(rows, config.data, labels, config.train.batch_size, *world(), config.train.seed, start, picker=picker)

    return Feed(loader, prepare, micro_per_epoch(len(rows), config), config.data.repeats)


def augmented(config: Any, size: int) -> Callable[[Batch, torch.device], Batch]:
    """What prepares a batch of clips for a method that takes `video` and perhaps boxes.

    Args:
        config: has `augment`.
        size: side of the square, px.

    Returns:
        from a CPU batch and a device to `video`, `(N, T, 3, size, size)` float32, augmented and normalised on the device; where the batch
        has boxes, `boxes` `(N, T, 4)` float32, px of that square, and `still` `(N,)` bool.
    """
    from tasks.core.clips.augment import TrainTransform

    transform = TrainTransform(config.augment, size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        still = {"still": batch["still"].to(device)} if "still" in batch else {}
        return {**transform.streams(moved(batch, device)), **still}

    return prepare


def micro_per_epoch(n: int, config: Any) -> int:
    """Batches in which a process of this world sees its share of `n` rows once."""
    return StepSampler(n, config.train.batch_size, *world(), config.train.seed).steps_per_epoch


def plan(method: Callable[[], Method], config: Any, rows: list, micro: int | None = None, best: bool = False) -> dict[str, Any]:
    """What a run would do, without doing it.

    Args:
        method: makes the method; called on the meta device.
        config: of the run.
        rows: the training set.
        micro: micro-batches of an epoch; None: one visit to every row.
        best: whether the best weights are kept beside the last.

    Returns:
        rows for people and machines: parameters, effective batch, learning rates after scaling, steps, checkpoint size.
    """
    with torch.device("meta"):
        built = method()
    batch = config.train.batch_size * config.train.accumulate * world().size
    per_epoch, total = run_length(config.train, micro_per_epoch(len(rows), config) if micro is None else micro)
    made = schedules(built, config.optim, batch, per_epoch, total)
    parameters, trained = count_parameters(built)
    return {
        "parameters": parameters,
        "videos": len(rows),
        "data_hash": hash_rows(rows),
        "effective_batch": batch,
        "clips_per_step": batch * config.data.repeats,
        "steps_per_epoch": per_epoch,
        "steps": total,
        "warmup_steps": made[MAIN].warmup_steps,
        **drawn(config),
        **{f"learning_rate{'' if k == MAIN else '_' + k}": s.lr for k, s in made.items()},
        "checkpoint_mib": round(checkpoint_bytes(parameters, trained, config, best) / 2**20, 1),
        "writes": "config.yaml run.json metrics.jsonl log.txt checkpoints/ model/",
    }


def count_parameters(module: torch.nn.Module) -> tuple[int, int]:
    """(all parameters, those that are trained)."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def train(
    run: Run,
    config: Any,
    method: Method,
    feed: Feed,
    what: str,
    rows: list | None = None,
    evaluate: Evaluate | None = None,
    best_of: str | None = None,
    patience: int | None = None,
    counted: str = "videos",
    **facts: Any,
) -> Trainer:
    """Trains a method to the end of its run, from the newest checkpoint where there is one; returns the trainer.

    Args:
        run: its folder.
        config: has `train` and `optim`.
        method: with its first weights.
        feed: its batches.
        what: what is trained, for the one line at the start.
        rows: the training set, recorded in run.json; None: a part of a run, whose data the run has recorded.
        evaluate, best_of, patience: as `Trainer` takes them.
        counted: what a row is.
        facts: recorded too.

    Raises:
        UsageError: the training set has changed since the run began.
        Others: as `Trainer.fit`.
    """
    accelerator = make_accelerator(config.train, run, uneven=method.uneven)
    prepare = drawing_first(feed.prepare, run.folder, config) if run.main else feed.prepare
    parameters, trained = count_parameters(method)
    if rows is not None:
        run.record_data(rows)
        run.record(device=str(accelerator.device), parameters=parameters, seed=config.train.seed, **drawn(config), **facts)
    size = f"{parameters / 1e6:.1f} M parameters" + (f", {trained / 1e6:.1f} M of them trained" if trained < parameters else "")
    share = f" ({', '.join(drawn(config).values())})" if drawn(config) else ""
    number = "" if rows is None else f", {len(rows)} {counted}{share}"
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    run.reporter.info(f"{what}: {size}{number}, {accelerator.device}, {precision}")
    trainer = Trainer(
        method,
        run,
        accelerator,
        config.train,
        config.optim,
        feed.loader,
        prepare,
        feed.micro_per_epoch,
        feed.repeats,
        evaluate,
        best_of,
        patience,
    )
    trainer.fit()
    return trainer


def conclude(run: Run, trainer: Trainer, result: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ends a run: the main process publishes and reports (`result`), the others wait for it. Returns the result, in every process."""
    if run.main:
        run.finish(result())
    trainer.accelerator.wait_for_everyone()
    return run.result


def numbers(run: Run, *losses: str, **more: Any) -> dict[str, Any]:
    """What a run reports: its folders, steps, the last logged values of `losses`, and what was skipped."""
    last = last_logged(run.metrics_file)
    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        **more,
        "steps": last["step"],
        **{name: last[name] for name in losses if name in last},
        "n_skipped": len(run.skipped),
    }


@dataclass(frozen=True)
class Card:
    """What a model card says beside what every card says.

    Attributes:
        title: its heading.
        facts: rows of its table, before the training videos.
        use: the command that uses the model; `{run}` stands for the run's folder as it was named.
        tags: for the Hub.
        pipeline_tag: of the Hub, where it has one for the task.
        numbers: metrics, the last rows of the table.
    """

    title: str
    facts: Mapping[str, Any]
    use: str
    tags: list[str]
    pipeline_tag: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def publish(
    run: Run, config: Any, weights: dict[str, torch.Tensor], saved: dict[str, Any], about: Card, rows: list, folder: Path | None = None
) -> None:
    """Writes the model folder of a run.

    Args:
        run: of this model.
        config: of the run.
        weights: tensors by name.
        saved: config.json less what every model folder has: `task`, `method`, `architecture` and what the task needs; `preprocessing` where
            it is not that of clips (`description.preprocessing`).
        about: the card.
        rows: the training set.
        folder: where to; None: `model` in the run's folder.
    """
    prepared = saved.get("preprocessing") or preprocessing(config, rows)
    saved = {"library": "vid", **saved, "preprocessing": prepared, "provenance": provenance(run, config)}
    facts = {
        **about.facts,
        "training videos": ", ".join([f"{len(rows)} (hash {saved['provenance']['data_hash']})", *drawn(config).values()]),
        **trained_length(run, config),
        "started from": config.init or "random weights",
        **({"frame stride": f"{prepared['stride_s']} s"} if prepared.get("stride_s") else {}),
        **{k: round(v, 4) if isinstance(v, float) else v for k, v in about.numbers.items()},
    }
    metadata = {"tags": about.tags, **({"pipeline_tag": about.pipeline_tag} if about.pipeline_tag else {})}
    text = card(about.title, facts, about.use.format(run=shlex.quote(str(run.folder))), metadata)
    save_model(folder or run.folder / "model", weights, saved, text)
