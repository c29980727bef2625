"""`vid finetune` of prompts: recognition, localisation and retrieval by words, on features of frames by a frozen image tower."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks.core.checkpoint import find_model, load_config
from tasks.core.data.feature_record import check_encoder, record_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.data.streams import open_streams
from tasks.core.engine import setup
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.towers.prepare import prepare_features
from tasks.core.towers.text_tower import TextTower
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.data import check_stream, one_folder
from tasks.prompting.events import read_proposals
from tasks.prompting.measurement import Measurement
from tasks.prompting.names import words_of
from tasks.prompting.sets import read_sets
from tasks.prompting.splits import splits
from tasks.prompting.towers import STREAM, feature_base, frame_maker, recalled_tower, text_tower
from tasks.prompting.training import build, feature_feed, items_of, method_of
from tasks.prompting.trials import run_trials

COUNTED = {"recognition": "videos", "localization": "events", "retrieval": "sentences"}
"""Method -> what a row is."""


def check(config: FinetuneConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    rows, val, labels = read_sets(config)
    words_of(labels, config.names)
    check_stream(config.data)
    if config.trials:
        next(splits(config.trials, rows, val))
    if config.proposals:
        if not len(val):
            raise UsageError("proposals are classified in the validation videos, and there are none", "add --val MANIFEST")
        read_proposals(config.proposals, list(dict.fromkeys(val.values("path"))))
    model = config.model
    if not model.temporal.layers and not (model.prompts.before or model.prompts.after or model.prompts.layout == "positional"):
        raise UsageError(
            "without prompts and temporal layers there is nothing to learn", "vid eval classify --protocol zero-shot tests as it is"
        )
    if config.init:
        _saved(config.init)
    tower = tower_of(config)
    if config.data.streams:
        folder = one_folder(open_streams(config.data), tower.dim, _clip(config))
        if config.init and (record := _saved(config.init)["streams"][STREAM])["encoder"].get("weights_hash"):
            check_encoder(record, folder)
    elif config.clip is None:
        raise UsageError(
            "nothing says which CLIP model looks at the frames", "--set clip=MODEL, or features: --set data.streams.visual.folder=FOLDER"
        )
    if tower.dim % model.temporal.heads and model.temporal.layers:
        raise UsageError(
            f"{tower.dim} channels do not divide by model.temporal.heads {model.temporal.heads}", "--set model.temporal.heads=N"
        )


def _saved(reference: str) -> dict[str, Any]:
    """config.json of a prompted model."""
    saved = load_config(find_model(reference))
    if saved["task"] != "prompting":
        raise UsageError(f"{reference} is a model of task '{saved['task']}', not a prompted one", "give --from a run of prompting")
    return saved


def _clip(config: FinetuneConfig) -> str | None:
    return config.text or config.clip or config.init


def tower_of(config: FinetuneConfig) -> TextTower:
    """The frozen text tower of a run."""
    if config.init:
        return recalled_tower(_saved(config.init), config.init, config.text or config.clip, config.vocabulary)
    return text_tower(config.text or config.clip, config.vocabulary)


def plan(config: FinetuneConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    rows, val, labels = read_sets(config)
    tower = tower_of(config)
    videos = len(items_of(config, rows))
    planned = setup.plan(lambda: method_of(config, tower, labels), config, rows, setup.micro_per_epoch(videos, config))
    planned.pop("clips_per_step")
    facts = {"videos": videos, **({} if config.method == "recognition" else {COUNTED[config.method]: len(rows)})}
    facts |= {"classes": len(labels)} if labels else {}
    facts |= {"val_rows": len(val), "prompts": config.model.prompts.shown(), "start": config.init or "scratch"}
    return {**planned, **facts, "frozen_text_tower": tower.source["weights_hash"]}


def run(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Trains, tests on `data.val` where given, writes `model/`; returns the result."""
    check(config)
    rows, val, labels = read_sets(config)
    if not config.data.streams:
        everything = Rows.joined([rows, val]) if len(val) else rows
        makers = {STREAM: frame_maker(config.clip, config.features)}
        streams = prepare_features(makers, config, run, everything, feature_base(config.features))
        config = config.model_copy(update={"data": config.data.model_copy(update={"streams": streams})})
    tower = tower_of(config)
    folder = one_folder(open_streams(config.data), tower.dim, _clip(config))
    if config.trials:  # some of which are tested on a part of the training set
        return run_trials(config, run, rows, val, folder, tower)
    setup.warn_untested(run, config.data)
    method = build(config, tower, labels, run.reporter if run.main else None)
    prompts, temporal = config.model.prompts.shown(), config.model.temporal.layers
    trainer = setup.train(
        run,
        config,
        method,
        feature_feed(config, rows, labels, folder, tower),
        f"prompts {prompts}, {temporal} temporal layers" + (f", {len(labels)} classes" if labels else ""),
        rows,
        evaluation(config, val, labels, folder, run) if len(val) else None,
        counted=COUNTED[config.method],
        **({"classes": len(labels)} if labels else {}),
        text_tower=tower.source,
    )

    def result() -> dict[str, Any]:
        publish(run, config, rows, labels, folder, trainer)
        return setup.numbers(run, "loss", **trainer.last_evaluation)

    return setup.conclude(run, trainer, result)


def evaluation(config: FinetuneConfig, val: Rows, labels: list[str], folder: FeatureFolder, run: Run) -> Callable:
    """What the loop validates with: the model, and beside it the frozen towers without training."""

    def evaluate(trainer: Trainer, stop: Callable[[], None]) -> dict[str, float]:
        method = trainer.evaluated_model
        was_training = method.training
        method.eval()
        test = Measurement(config, val, labels, folder, method.text.tower, trainer.accelerator.device, run.reporter)
        with torch.no_grad():
            found = test(method.model, stop)
        method.train(was_training)
        if run.main:
            run.skip(found.skipped, config.train.strict)
            if trainer.step >= trainer.total:
                found.write(run.folder)
        return found.numbers

    return evaluate


USES = {"recognition": "eval classify", "localization": "detect-events VIDEOS --from-proposals FILE", "retrieval": "eval retrieval"}
"""Method -> how its models are used."""


def publish(run: Run, config: FinetuneConfig, rows: Rows, labels: list[str], folder: FeatureFolder, trainer: Trainer) -> None:
    """Writes the model folder: what was trained, and which frozen towers it goes with."""
    method, record = trainer.evaluated_model, record_of(folder)
    vocabulary = {"vocabulary": str(Path(config.vocabulary).resolve())} if config.vocabulary else {}
    saved = {
        "task": "prompting",
        "method": config.method,
        "architecture": config.model.model_dump(),
        "sizes": sizes_of(method.text.tower),
        **({"labels": labels, "names": words_of(labels, config.names)} if labels else {}),
        "text_tower": {**method.text.source, **vocabulary},
        "streams": {STREAM: record},
        "preprocessing": {"grid": record["grid"]},
        "metrics": dict(trainer.last_evaluation),
    }
    facts = {
        "task": f"{config.method} by {'name' if labels else 'sentence'}" + (f", {len(labels)} classes in training" if labels else ""),
        "trained": f"prompts {config.model.prompts.shown()}, {config.model.temporal.layers} temporal layers",
        "frozen text tower": f"{method.text.source['reference']} ({method.text.source['weights_hash']})",
        "frozen image tower": f"{record['encoder'].get('reference')} ({record['encoder'].get('weights_hash')})",
    }
    numbers = {name: value for name, value in trainer.last_evaluation.items() if not name.startswith("n")}
    use = f"vid {USES[config.method]} --model {{run}}" + ("" if config.method == "localization" else " --data VAL")
    card = setup.Card("Prompted CLIP", facts, use, ["video", "clip"], numbers=numbers)
    setup.publish(run, config, method.model.state_dict(), saved, card, rows)


def sizes_of(tower: TextTower) -> dict[str, int]:
    """What a text tower decides of a prompted model."""
    return {"width": tower.width, "context": tower.context, "dim": tower.dim}
