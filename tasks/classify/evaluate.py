"""`vid eval classify`: test a classifier by multi-view, or an encoder's frozen features by k nearest neighbours and retrieval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.classify.config import EvalConfig, HeadConfig
from tasks.classify.fusion import common_labels, fuse_values
from tasks.classify.model import Classifier
from tasks.classify.search import search
from tasks.classify.turbo import drop_pattern, token_chooser
from tasks.classify.views import Outputs, check_some, check_views, classify_views, model_data
from tasks.classify.writers import write_search, write_test
from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.data.labels import labelled
from tasks.core.engine.exchange import agree
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.output import Output
from tasks.core.metrics.classification import summarize
from tasks.core.nn.encoders import saved_settings
from tasks.core.report.probabilities import write_probabilities
from tasks.core.reporter import Reporter
from tasks.core.signals import StopFlag, exit_for
from tasks.core.world import join, world


def load_classifier(reference: str, device: torch.device | str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """A trained classifier in evaluation mode and its config.json.

    Args:
        reference: model folder, run folder or `hf://` id. Raises UsageError when it holds no classifier.
        device: where it computes.
    """
    folder = find_model(reference)
    config = _classifier_config(reference)
    model, head = saved_settings(config, reference), HeadConfig(**config["head"])
    classifier = build_strict(lambda: Classifier(model, len(config["labels"]), head), load_weights(folder), str(folder))
    return classifier.to(device).eval(), config


def _classifier_config(reference: str) -> dict[str, Any]:
    """config.json of a classifier; errors as `load_classifier`."""
    config = load_config(find_model(reference))
    if config["task"] != "classify":
        hint = "fine-tune it first: vid finetune; as it is, vid eval classify --protocol knn tests it"
        raise UsageError(f"{reference} is a model of task '{config['task']}', not a classifier", hint)
    return config


def run(config: EvalConfig, reporter: Reporter, output: Output | None = None) -> dict[str, Any]:
    """One JSON-able object: `top1`, `top5`, `mean_class` or `r@k` in percent, `n`, `n_skipped`, `views`, `protocol` and where the
    numbers come from; `compared`, the numbers of each model of `compare`; `files`, where some are written.

    Args:
        config: what is tested, and how.
        reporter: is told what was skipped.
        output: files to write (`writers.SUFFIXES`), named after the protocol; None: none.

    Raises:
        UsageError: pictures of neighbours are asked for where there are none.
        InputError: no video could be read, or labels that the model does not know.
        Preempted, Interrupted: stopped by a signal.
    """
    from tasks.core.data.manifest import read_sources

    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH (a manifest or a folder)")
    output = output or Output()
    if "html" in output.kinds and config.protocol == "finetuned":
        raise UsageError("the page shows nearest neighbours, which a classifier has not", "use --protocol retrieval or knn, or --write csv")
    check_flow(config)
    join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = read_sources(config.data.val, "val")
    with StopFlag() as flag:

        def stop() -> None:
            if number := agree(flag.received, device=device)[0]:
                raise exit_for(number)("evaluation stopped by a signal; nothing was written", "run the same command again")

        if config.protocol == "finetuned":
            numbers, outputs, labels = _test(config, rows, device, stop, reporter)
            skipped = outputs.skipped
        else:
            numbers, found = search(config, rows, device, stop, reporter)
            skipped = found.queries.skipped + found.gallery.skipped
    for path, reason in skipped:
        reporter.warn(f"skipped {path}: {reason}")
    if skipped and config.strict:
        raise InputError(f"{len(skipped)} videos could not be read, the first is {skipped[0][0]}: {skipped[0][1]}")
    result = {
        **numbers,
        "n_skipped": len(skipped),
        "views": config.views.shown(),
        "protocol": config.protocol,
        **({"keep": config.keep, "keep_seed": config.keep_seed} if config.keep < 1 else {}),
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "preset": _one_or_all([load_config(find_model(model)).get("provenance", {}).get("preset") for model in config.model]),
        "model": _one_or_all(config.model),
    }
    if output.folder is None or not world().main:
        return result
    if config.protocol == "finetuned":
        return {**result, "files": write_test(output, result, outputs, labels)}
    return {**result, "files": write_search(output, result, found, config, reporter)}


def check_flow(config: EvalConfig) -> None:
    """UsageError where flow is given and none of several models was trained on it."""
    seen = (load_config(find_model(model)).get("preprocessing", {}).get("flow_input") for model in config.models())
    if config.data.flow is not None and len(config.models()) > 1 and not any(seen):
        raise UsageError("data.flow is given, and none of the models was trained on optical flow", "leave data.flow out")


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _test(config: EvalConfig, rows: list, device: torch.device, stop: Any, reporter: Reporter) -> tuple[dict[str, Any], Outputs, list[str]]:
    """(numbers, probabilities, names of the classes)"""
    labels = common_labels({model: _classifier_config(model)["labels"] for model in config.model})
    found = [_probabilities(config, model, labels, rows, device, stop, reporter) for model in config.model]
    outputs = fuse_values(found)
    check_some(outputs)
    if config.save_scores and world().main:
        write_probabilities(Path(config.save_scores), outputs.paths, outputs.labels, outputs.values, labels)
    return {**summarize(outputs.values, outputs.labels), "n": len(outputs.labels)}, outputs, labels


def _probabilities(
    config: EvalConfig, model: str, labels: list[str], rows: list, device: torch.device, stop: Any, reporter: Reporter
) -> Outputs:
    """Probabilities of one model, its classes in the order of `labels`."""
    classifier, saved = load_classifier(model, device)
    labelled(rows, "test", labels)
    data, augment = model_data(config.data, saved["preprocessing"], config.views.crops, len(config.models()) > 1)
    check_views(config.views, data.clip, augment.crop)
    size = saved["preprocessing"]["image_size"]
    choose = token_chooser(classifier, drop_pattern(saved), config.keep, config.keep_seed) if config.keep < 1 else None
    outputs = classify_views(classifier, rows, labels, data, config.views, augment, size, config.batch_size, stop, reporter, choose)
    if len(outputs.values):
        outputs.values = outputs.values[:, [saved["labels"].index(label) for label in labels]]
    return outputs
