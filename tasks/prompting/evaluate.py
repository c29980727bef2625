"""`vid eval classify` of prompted models, and of image-text models without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.data.feature_record import check_encoder
from tasks.core.data.features import FeatureFolder
from tasks.core.data.labels import labelled
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Rows
from tasks.core.data.streams import open_streams
from tasks.core.engine.exchange import agree
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.files import write_json
from tasks.core.inference.output import RECORD, Output
from tasks.core.report.probabilities import write_probabilities
from tasks.core.reporter import Reporter
from tasks.core.signals import StopFlag, exit_for
from tasks.core.towers.image_text import load_pair
from tasks.core.towers.prepare import inputs_of
from tasks.core.towers.produce import produce
from tasks.core.towers.text import TextTower
from tasks.core.video.cache import cache_folder
from tasks.core.world import join, world
from tasks.prompting.config import EvalConfig, PromptedConfig
from tasks.prompting.data import check_stream, one_folder
from tasks.prompting.method import zero_shot_features
from tasks.prompting.metrics import accuracy
from tasks.prompting.model import PromptedModel
from tasks.prompting.names import words_of
from tasks.prompting.predict import Scorer, Tested, classify_rows, prompted_scorer, text_of, zero_shot_scorer
from tasks.prompting.towers import STREAM, beside, feature_base, frame_maker, recalled_tower

SUFFIXES = {RECORD: ".json", "csv": ".csv"}
"""Kind of file -> what follows the protocol in its name."""


def is_prompted(reference: str) -> bool:
    """Whether a reference names a prompted model; False for whatever else, also for what is not there."""
    try:
        return load_config(find_model(reference))["task"] == "prompting"
    except UsageError:
        return False


def load_prompted(reference: str, device: torch.device | str = "cpu") -> tuple[PromptedModel, dict[str, Any]]:
    """A prompted model in evaluation mode and its config.json.

    Args:
        reference: model folder, run folder or `hf://` id. Raises UsageError when it holds no prompted model.
        device: where it computes.
    """
    folder = find_model(reference)
    saved = load_config(folder)
    if saved["task"] != "prompting":
        raise UsageError(
            f"{reference} is a model of task '{saved['task']}', not a prompted one", "vid finetune --preset prompting/... makes one"
        )
    config = PromptedConfig(**saved["architecture"])
    model = build_strict(lambda: PromptedModel(config, **saved["sizes"]), load_weights(folder), str(folder))
    return model.to(device).eval(), saved


def run(config: EvalConfig, reporter: Reporter, output: Output | None = None) -> dict[str, Any]:
    """One JSON-able object: `top1`, `top5`, `avg`, `mean_class` in percent, `n`, `n_skipped`, `protocol`, and where the numbers come from.

    Args:
        config: what is tested, and how.
        reporter: is told what was skipped.
        output: files to write (`SUFFIXES`), named after the protocol; None: none.

    Raises:
        UsageError, InputError: nothing can be tested.
        Preempted, Interrupted: stopped by a signal.
    """
    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH (a manifest or a folder)")
    check_stream(config.data)
    join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = read_sources(config.data.val, "val")
    with StopFlag() as flag:

        def stop() -> None:
            if number := agree(flag.received, device=device)[0]:
                raise exit_for(number)("evaluation stopped by a signal; nothing was written", "run the same command again")

        facts, labels, found = _tested(config, rows, device, stop, reporter)
    for path, reason in found.skipped:
        reporter.warn(f"skipped {path}: {reason}")
    if found.skipped and config.strict:
        raise InputError(f"{len(found.skipped)} videos could not be read, the first is {found.skipped[0][0]}: {found.skipped[0][1]}")
    probabilities = found.probabilities[config.protocol]
    result = {
        **accuracy(probabilities, found.labels),
        "n": len(found.labels),
        "n_skipped": len(found.skipped),
        "classes": len(labels),
        "protocol": config.protocol,
        "samples": config.test.samples,
        **facts,
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "model": config.model,
    }
    if world().main:
        if config.save_scores:
            write_probabilities(Path(config.save_scores), found.paths, found.labels, probabilities, labels)
        if output is not None and output.folder is not None:
            files = output.files(SUFFIXES, config.protocol)
            if "csv" in files:
                write_probabilities(files["csv"], found.paths, found.labels, probabilities, labels)
            result["files"] = [str(file) for file in files.values()]
            write_json(files[RECORD], result)
    return result


def _tested(
    config: EvalConfig, rows: Rows, device: torch.device, stop: Callable[[], None], reporter: Reporter
) -> tuple[dict[str, Any], list[str], Tested]:
    """(facts for the result, classes, probabilities)"""
    prompted = is_prompted(config.model)
    if config.protocol == "prompted" or prompted:
        model, saved = load_prompted(config.model, device)
        tower = recalled_tower(saved, config.model, config.clip, config.vocabulary).to(device)
        sampled = model.config
    else:
        model, saved = None, {}
        tower = load_pair(config.clip or config.model, vocabulary=config.vocabulary, text=config.text).text.to(device)
        sampled = PromptedConfig(frames=config.frames)
    own = list(saved.get("labels", ()))
    labels = own if own and config.classes == "model" else labelled(rows, "test")
    labelled(rows, "test", labels)
    names = words_of(labels, config.names, dict(zip(own, saved.get("names", ()), strict=False)))
    if config.protocol == "prompted":
        scorer: Scorer = prompted_scorer(model, text_of(model, tower, names, reporter))
        facts = {"prompts": sampled.prompts.shown(), "temporal_layers": sampled.temporal.layers}
    else:
        scorer = zero_shot_scorer(
            zero_shot_features(tower, names, config.template), 1 / (getattr(tower, "scale", None) or 1 / sampled.temperature)
        )
        facts = {"template": config.template}
    folder = _features(config, rows, saved, tower, reporter)
    scorers = {config.protocol: scorer}
    return facts, labels, classify_rows(rows, labels, config.data, folder, sampled, config.test, scorers, device, stop, reporter)


def _features(config: EvalConfig, rows: Rows, saved: dict[str, Any], tower: TextTower, reporter: Reporter) -> FeatureFolder:
    """The features of the test set: those of `data.streams`, else made now, or found in the cache."""
    record = saved.get("streams", {}).get(STREAM)
    if config.data.streams:
        folder = one_folder(open_streams(config.data), tower.dim, config.model)
        if record and record["encoder"].get("weights_hash"):
            check_encoder(record, folder)
        return folder
    inside = beside(config.model, saved.get("image_tower", {}).get("reference")) if saved else None
    frames, reference = config.features, config.clip or inside or (record["encoder"].get("reference") if record else config.model)
    if reference is None:
        raise UsageError(
            f"{config.model} does not say which image tower it learned from", "--set clip=MODEL, or --set data.streams.visual.folder=FOLDER"
        )
    if record and record["grid"] and record["grid"]["stride_s"]:
        frames = frames.model_copy(update={"hop_s": record["grid"]["stride_s"]})
    maker = frame_maker(reference, frames)
    inputs = inputs_of(rows)
    base = feature_base(frames) or cache_folder() / "features" / f"{maker.described['id']}-{hash_rows(rows)}"
    for made in produce(maker, inputs[world().share], base / STREAM, False, reporter, inputs, "features of frames"):
        if "error" in made:
            reporter.warn(f"skipped {made['video']}: {made['error']}")
    if world().size > 1:
        torch.distributed.barrier()
    folder = one_folder({STREAM: FeatureFolder(base / STREAM)}, tower.dim, config.model)
    if record and record["encoder"].get("weights_hash"):
        check_encoder(record, folder)
    return folder
