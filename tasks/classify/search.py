"""Frozen features: test videos are queries, training videos the gallery; who is nearest to whom, by one model or several."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.classify.config import EvalConfig
from tasks.classify.fusion import align_similarities
from tasks.classify.similarity import cosine
from tasks.classify.views import Outputs, check_some, check_views, collect, model_data, rounds_of, view_batches
from tasks.core.clips.prepare import view_transform
from tasks.core.data.labels import labelled
from tasks.core.data.rows import Row, Rows
from tasks.core.engine import setup
from tasks.core.engine.description import drawn
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.classification import knn_scores, recall_at, summarize
from tasks.core.report.outputs import readable
from tasks.core.reporter import Reporter
from tasks.core.towers.encoder import VideoEncoder, load_encoder


@dataclass(frozen=True)
class Search:
    """Queries and gallery as one method or several see them, over the videos that all of them could read.

    Attributes:
        queries, gallery: `labels` and `uids`, the numbers of the rows; the values are those of the first model.
        query_rows, gallery_rows: what the numbers count.
        labels: names of the classes.
        methods: name -> similarity (queries, gallery); the first is what is tested, the others are those it is compared with.
        numbers: name -> what was measured of it.
    """

    queries: Outputs
    gallery: Outputs
    query_rows: Rows
    gallery_rows: Rows
    labels: list[str]
    methods: dict[str, np.ndarray]
    numbers: dict[str, dict[str, float]]

    def nearest(self, method: str, k: int) -> np.ndarray:
        """(queries, k) places in the gallery, the most similar first, the first of equal ones before the others."""
        return np.argsort(-self.methods[method], axis=1, kind="stable")[:, :k]

    def nearest_of(self, method: str, query: int, k: int) -> np.ndarray:
        """(k,): a row of `nearest`."""
        return np.argsort(-self.methods[method][query], kind="stable")[:k]


def search(config: EvalConfig, rows: Rows, device: torch.device, stop: Callable, reporter: Reporter) -> tuple[dict[str, Any], Search]:
    """What is reported, and what it was measured on.

    Args:
        config: protocol `knn` or `retrieval`.
        rows: of the test videos.
        device: where encoders compute.
        stop: called after every batch; raises to end.
        reporter: shows progress.

    Raises:
        UsageError: no gallery.
        InputError: no video could be read, labels that the gallery has not, or a video that is in the gallery too.
    """
    gallery_rows, labels = read_gallery(config, rows)
    models = config.models()
    pairs = [_pair(config, model, rows, gallery_rows, labels, device, stop, reporter) for model in models]
    queries, gallery, aligned = align_similarities(pairs)
    check_some(queries)
    check_some(gallery)
    alone = dict(zip(models, aligned, strict=True))
    methods = {" + ".join(config.model): np.mean([alone[model] for model in config.model], axis=0)}
    methods |= {model: alone[model] for model in config.compare}
    numbers = {name: measure(config, similarity, queries, gallery, len(labels)) for name, similarity in methods.items()}
    first, *others = numbers.items()
    facts = {"n": len(queries.labels), "n_gallery": len(gallery.labels), "center": config.center, **drawn(config)}
    found = Search(queries, gallery, rows, gallery_rows, labels, methods, numbers)
    return {**first[1], **facts, **({"compared": dict(others)} if others else {})}, found


def read_gallery(config: EvalConfig, rows: Rows) -> tuple[Rows, list[str]]:
    """(rows of the gallery, names of its classes); the test videos have no others."""
    if not config.data.train:
        raise UsageError(f"protocol {config.protocol} compares with a gallery", "add --gallery PATH (the training videos)")
    gallery = setup.training_rows(config.data)
    labels = labelled(gallery, "gallery")
    labelled(rows, "test", labels)
    check_apart(rows, gallery)
    return gallery, labels


def check_apart(queries: Iterable[Row], gallery: Iterable[Row]) -> None:
    """InputError where a query is in the gallery too: it would find itself."""
    stored = {(row.path, row.start_s, row.end_s) for row in gallery}
    both = [row.path for row in queries if (row.path, row.start_s, row.end_s) in stored]
    if both:
        raise InputError(
            f"{len(both)} of the test videos are in the gallery too, where they would find themselves: {both[0]}",
            "leave them out of --gallery or of --data (PATH@train and PATH@val, where a manifest has a column split)",
        )


def measure(config: EvalConfig, similarity: np.ndarray, queries: Outputs, gallery: Outputs, n_classes: int) -> dict[str, float]:
    """Numbers of the protocol, percent."""
    if config.protocol == "knn":
        scores = knn_scores(similarity, gallery.labels, n_classes, config.k)
        return {**summarize(scores, queries.labels), "k": config.k}
    return {f"r@{k}": recall_at(similarity, queries.labels, gallery.labels, k) for k in config.recall_at}


def _pair(
    config: EvalConfig, model: str, rows: Rows, gallery: Rows, labels: list[str], device: torch.device, stop: Callable, reporter: Reporter
) -> tuple[Outputs, Outputs, np.ndarray]:
    """Features of queries and gallery by one model, and their similarity."""
    encoder = load_encoder(model, device)
    sets = [features(config, encoder, part, labels, device, stop, reporter) for part in (rows, gallery)]
    for part in sets:
        check_some(part)
    return sets[0], sets[1], cosine(sets[0].values, sets[1].values, config.center)


def features(
    config: EvalConfig, encoder: VideoEncoder, rows: Rows, labels: list[str], device: torch.device, stop: Callable, reporter: Reporter
) -> Outputs:
    """Pooled features of every video, averaged over views, `(n, dim)`."""
    without_boxes = {**encoder.preprocessing, "boxes": None}  # a head may look at them, encoders do not
    data, augment = model_data(config.data, without_boxes, config.views.crops, len(config.models()) > 1)
    check_views(config.views, data.clip, augment.crop)
    transform = view_transform(encoder.preprocessing, config.views.crops)

    def forward(clip: torch.Tensor, _: list[int]) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return encoder(clip)["pooled"]

    batches = view_batches(rows, data, labels, config.batch_size, config.views)
    rounds = rounds_of(rows, config.batch_size, config.views)
    return collect(forward, batches, transform, config.views.crops, device, stop, reporter, len(rows), rounds=rounds).gathered()


def name_of(row: Row) -> str:
    """The path of a row, and its part of the video as a media fragment (`#t=START,END`, seconds) where it has one."""
    start, end = (None if time is None else f"{time:g}" for time in (row.start_s, row.end_s))
    part = "" if start is None and end is None else f"#t={start or '0'}{'' if end is None else f',{end}'}"
    return readable(row.path) + part
