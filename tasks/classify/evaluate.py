"""`vid eval classify`: test a classifier by multi-view, or an encoder's frozen features by k nearest neighbours and retrieval."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.classify.config import EvalConfig, HeadConfig
from tasks.classify.finetune import labelled, write_predictions
from tasks.classify.fusion import common_labels, fuse_similarities, fuse_values
from tasks.classify.model import Classifier
from tasks.classify.similarity import cosine
from tasks.classify.views import Outputs, check_views, classify_views, collect, rounds_of, view_batches
from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.clips.config import AugmentConfig, DataConfig
from tasks.core.clips.prepare import clip_of, flow_for_model, short_side_of, squares_of, view_transform
from tasks.core.data.rows import Row
from tasks.core.engine.exchange import agree
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.classification import knn_scores, recall_at, summarize
from tasks.core.nn.encoders import saved_settings
from tasks.core.reporter import Reporter
from tasks.core.signals import StopFlag, exit_for
from tasks.core.towers.encoder import VideoEncoder, load_encoder
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
        raise UsageError(
            f"{reference} is a model of task '{config['task']}', not a classifier", "fine-tune it first, or use --protocol knn"
        )
    return config


def model_data(data: DataConfig, preprocessing: dict[str, Any], crops: int = 1) -> tuple[DataConfig, AugmentConfig]:
    """The reading and normalisation that a model was trained with; an explicit stride in `data` wins."""
    clip = data.clip
    if clip.stride_frames is None and clip.stride_s is None:
        clip = clip_of(preprocessing)
    else:
        clip = clip.model_copy(update={"frames": preprocessing["frames"]})
    short = data.short_side or short_side_of(preprocessing, crops)
    flow = flow_for_model(data.flow, preprocessing)
    return data.model_copy(update={"clip": clip, "short_side": short, "flow": flow}), squares_of(preprocessing)


def run(config: EvalConfig, reporter: Reporter) -> dict[str, Any]:
    """One JSON-able object: `top1`, `top5`, `mean_class` or `r@k` in percent, `n`, `n_skipped`, `views`, `protocol` and where the
    numbers come from.

    Raises:
        InputError: no video could be read, or labels that the model does not know.
        Preempted, Interrupted: stopped by a signal.
    """
    from tasks.core.data.manifest import read_sources

    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH (a manifest or a folder)")
    join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = read_sources(config.data.val, "val")
    with StopFlag() as flag:

        def stop() -> None:
            if number := agree(flag.received, device=device)[0]:
                raise exit_for(number)("evaluation stopped by a signal; nothing was written", "run the same command again")

        if config.protocol == "finetuned":
            result, skipped = _test(config, rows, device, stop, reporter)
        else:
            result, skipped = _frozen(config, rows, device, stop, reporter)
    for path, reason in skipped:
        reporter.warn(f"skipped {path}: {reason}")
    if skipped and config.strict:
        raise InputError(f"{len(skipped)} videos could not be read, the first is {skipped[0][0]}: {skipped[0][1]}")
    return {
        **result,
        "n_skipped": len(skipped),
        "views": config.views.shown(),
        "protocol": config.protocol,
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "preset": _one_or_all([load_config(find_model(model)).get("provenance", {}).get("preset") for model in config.model]),
        "model": _one_or_all(config.model),
    }


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _test(config: EvalConfig, rows: list, device: torch.device, stop: Any, reporter: Reporter) -> tuple[dict[str, Any], list]:
    labels = common_labels({model: _classifier_config(model)["labels"] for model in config.model})
    found = [_probabilities(config, model, labels, rows, device, stop, reporter) for model in config.model]
    outputs = fuse_values(found)
    _some(outputs)
    if config.save_scores and world().main:
        write_predictions(Path(config.save_scores), outputs, labels)
    return {**summarize(outputs.values, outputs.labels), "n": len(outputs.labels)}, outputs.skipped


def _probabilities(
    config: EvalConfig, model: str, labels: list[str], rows: list, device: torch.device, stop: Any, reporter: Reporter
) -> Outputs:
    """Probabilities of one model, its classes in the order of `labels`."""
    classifier, saved = load_classifier(model, device)
    labelled(rows, "test", labels)
    data, augment = model_data(config.data, saved["preprocessing"], config.views.crops)
    check_views(config.views, data.clip, augment.crop)
    size = saved["preprocessing"]["image_size"]
    outputs = classify_views(classifier, rows, labels, data, config.views, augment, size, config.batch_size, stop, reporter)
    if len(outputs.values):
        outputs.values = outputs.values[:, [saved["labels"].index(label) for label in labels]]
    return outputs


def _frozen(config: EvalConfig, rows: list, device: torch.device, stop: Any, reporter: Reporter) -> tuple[dict[str, Any], list]:
    """k nearest neighbours or retrieval: test videos are queries, training videos the gallery."""
    from tasks.core.data.manifest import read_sources

    if not config.data.train:
        raise UsageError(f"protocol {config.protocol} compares with a gallery", "add --gallery PATH (the training videos)")
    gallery_rows = read_sources(config.data.train, "train")
    labels = labelled(gallery_rows, "gallery")
    labelled(rows, "test", labels)
    check_apart(rows, gallery_rows)
    pairs = []
    for model in config.model:
        encoder = load_encoder(model, device)
        sets = [features(config, encoder, part, labels, device, stop, reporter) for part in (rows, gallery_rows)]
        for part in sets:
            _some(part)
        pairs.append((*sets, cosine(sets[0].values, sets[1].values, config.center)))
    queries, gallery, similarity = fuse_similarities(pairs)
    _some(queries)
    _some(gallery)
    if config.protocol == "knn":
        scores = knn_scores(similarity, gallery.labels, len(labels), config.k)
        numbers = {**summarize(scores, queries.labels), "k": config.k}
    else:
        numbers = {f"r@{k}": recall_at(similarity, queries.labels, gallery.labels, k) for k in config.recall_at}
    facts = {"n": len(queries.labels), "n_gallery": len(gallery.labels), "center": config.center}
    return {**numbers, **facts}, queries.skipped + gallery.skipped


def features(
    config: EvalConfig, encoder: VideoEncoder, rows: list, labels: list[str], device: torch.device, stop: Callable, reporter: Reporter
) -> Outputs:
    """Pooled features of every video, averaged over views, `(n, dim)`."""
    data, augment = model_data(config.data, encoder.preprocessing, config.views.crops)
    check_views(config.views, data.clip, augment.crop)
    transform = view_transform(encoder.preprocessing, config.views.crops)

    def forward(clip: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return encoder(clip)["pooled"]

    batches = view_batches(rows, data, labels, config.batch_size, config.views)
    rounds = rounds_of(rows, config.batch_size, config.views)
    return collect(forward, batches, transform, config.views.crops, device, stop, reporter, len(rows), rounds=rounds).gathered()


def check_apart(queries: Iterable[Row], gallery: Iterable[Row]) -> None:
    """InputError where a query is in the gallery too: it would find itself."""
    stored = {(row.path, row.start_s, row.end_s) for row in gallery}
    both = [row.path for row in queries if (row.path, row.start_s, row.end_s) in stored]
    if both:
        raise InputError(
            f"{len(both)} of the test videos are in the gallery too, where they would find themselves: {both[0]}",
            "leave them out of --gallery or of --data (PATH@train and PATH@val, where a manifest has a column split)",
        )


def _some(outputs: Outputs) -> None:
    if not len(outputs.values):
        raise InputError("none of the videos could be read", "run: vid data check MANIFEST")
