"""`vid eval retrieval`: sentences find their videos and videos their sentences, by a prompted model or a CLIP model without training."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.data.manifest import read_sources
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import UsageError
from tasks.core.files import write_json, write_text
from tasks.core.inference.output import RECORD, Output
from tasks.core.metrics.retrieval import ranks
from tasks.core.report.outputs import readable
from tasks.core.reporter import Reporter
from tasks.core.world import join, world
from tasks.prompting.config import PromptedConfig, RetrievalConfig
from tasks.prompting.data import check_stream
from tasks.prompting.evaluate import tell_skipped, testing
from tasks.prompting.method import zero_shot_features
from tasks.prompting.opened import Opened, features_of, open_model
from tasks.prompting.predict import Scorer, text_of, vector_scorer
from tasks.prompting.sentences import Captioned, Retrieved, captioned, retrieve

SUFFIXES = {RECORD: ".json", "csv": ".csv"}
"""Kind of file -> what follows `retrieval` in its name."""
_NAME = "retrieval"


def run(config: RetrievalConfig, reporter: Reporter, output: Output | None = None) -> dict[str, Any]:
    """One JSON-able object: `text_to_video` and `video_to_text`, each with `r1`, `r5`, `r10` (percent), `median_rank` and `mean_rank`;
    `n_texts`, `n_videos`, `n_skipped` videos, `protocol`, and where the numbers come from.

    Args:
        config: what is tested, and how.
        reporter: is told what was skipped.
        output: files to write (`SUFFIXES`); None: none.

    Raises:
        UsageError, InputError: nothing can be tested.
        Preempted, Interrupted: stopped by a signal.
    """
    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH, a manifest with a column text")
    check_stream(config.data)
    join()
    rows = read_sources(config.data.val, "val")
    given = captioned(rows, "test")
    with testing() as (device, stop):
        opened = open_model(config, device, config.protocol == "prompted")
        protocol = config.protocol or ("zero-shot" if opened.model is None else "prompted")
        found = _retrieved(config, opened, protocol, given, device, stop, reporter)
    tell_skipped(found.skipped, config.strict, reporter)
    own = {"template": config.template} if protocol == "zero-shot" else {"prompts": opened.model.config.prompts.shown()}
    result = {
        **found.numbers(protocol),
        "n_texts": len(found.texts),
        "n_videos": len(found.paths),
        "n_skipped": len(found.skipped),
        "protocol": protocol,
        "samples": config.test.samples,
        **own,
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "model": config.model,
    }
    if world().main and output is not None and output.folder is not None:
        files = output.files(SUFFIXES, _NAME)
        if "csv" in files:
            write_ranks(files["csv"], found, protocol)
        result["files"] = [str(file) for file in files.values()]
        write_json(files[RECORD], result)
    return result


def _retrieved(
    config: RetrievalConfig,
    opened: Opened,
    protocol: str,
    given: Captioned,
    device: torch.device,
    stop: Callable[[], None],
    reporter: Reporter,
) -> Retrieved:
    model, tower = opened.model, opened.tower
    sampled = PromptedConfig(frames=config.frames, gaps=config.gaps) if model is None else model.config
    if protocol == "prompted":
        vectors: tuple[Scorer, Callable[[list[str]], torch.Tensor]] = (
            vector_scorer(model),
            lambda texts: text_of(model, tower, texts, reporter),
        )
    else:
        vectors = vector_scorer(None), lambda texts: zero_shot_features(tower, texts, config.template, reporter)
    folder = features_of(opened, config, given.videos, reporter)
    return retrieve(given, {protocol: vectors}, config.data, folder, sampled, config.test, device, stop, reporter)


def write_ranks(path: Path, found: Retrieved, protocol: str) -> None:
    """Writes a line for each sentence: `text`, its `video`, the `rank` of this video, `similarity` with it, and the video found `first`."""
    similarity = found.similarity[protocol]
    places, first = ranks(similarity, found.video), similarity.argmax(1)
    own = similarity[np.arange(len(first)), found.video]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("text", "video", "rank", "similarity", "first"))
    names = [readable(name) for name in found.paths]
    for number, sentence in enumerate(found.texts):
        row = names[found.video[number]], f"{places[number]:g}", f"{own[number]:.4f}", names[first[number]]
        writer.writerow((readable(sentence), *row))
    write_text(path, text.getvalue())
