"""One stage of training: its data and method, its model folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.alignment.config import PretrainConfig, TowerConfig
from tasks.alignment.data import Narrated, SentenceCropper, Windows, narrated
from tasks.alignment.decode import span_scores
from tasks.alignment.learned import from_config, joined, lengths_of, share_of, weighted
from tasks.alignment.method import METHODS, Aligning, Cotraining
from tasks.alignment.text import Tokenizer, vocabulary_of
from tasks.core.checkpoint import find_model, load_config, load_strict, load_weights
from tasks.core.data.feature_files import FeatureError
from tasks.core.data.feature_loader import make_train_loader
from tasks.core.data.feature_moments import channel_moments
from tasks.core.data.feature_record import check_encoder, record_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Row, Rows
from tasks.core.data.streams import open_streams
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter
from tasks.core.world import world

Folders = dict[str, FeatureFolder]
MOST_VIDEOS = 200
"""On which the least score of an alignable sentence is measured."""


@dataclass(frozen=True)
class Texts:
    """What makes sentences ready for the method.

    Attributes:
        width: channels of a sentence.
        vocabulary: of a bag of words; None: sentences come from a frozen tower.
        tower: of `core.towers.identity`, where there is one.
        encode: from sentences to numbers of words (K, L) or vectors (K, width).
    """

    width: int
    vocabulary: list[str] | None
    tower: dict[str, Any] | None
    encode: Any


def training_set(config: PretrainConfig) -> Narrated:
    """Videos and sentences; UsageError where none are given."""
    if not config.data.train:
        raise UsageError("no training videos given", "add --data PATH (a manifest with a column subtitles or text)")
    return narrated(read_sources(config.data.train, "train"))


def texts_of(config: PretrainConfig, found: Narrated, reporter: Reporter | None = None) -> Texts:
    """The words of the model to start from, else those of the training sentences; or the frozen tower's vectors of all sentences."""
    sentences = [sentence.text for several in found.sentences.values() for sentence in several]
    if isinstance(config.text, TowerConfig):
        from tasks.core.towers import load_text_tower
        from tasks.core.towers.text_cache import text_features

        tower = load_text_tower(config.text.model, vocabulary=config.text.vocabulary)
        made = dict(zip(sentences, text_features(tower, sentences, reporter=reporter), strict=True))
        encode = partial(_looked_up, made, tower.dim)
        return Texts(tower.dim, None, dict(tower.source), encode)
    words = load_config(find_model(config.init)).get("vocabulary") if config.init else None
    words = list(words or vocabulary_of(sentences))
    return Texts(config.text.width, words, None, Tokenizer(words, config.text.max_words))


def _looked_up(made: dict[str, Any], dim: int, sentences: Sequence[str]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(made[sentence]) for sentence in sentences]) if sentences else torch.zeros(0, dim)


def check_start(config: PretrainConfig, folders: Folders) -> None:
    """UsageError where the model to start from does not fit: another task, architecture, kind of text or features."""
    if not config.init:
        if config.method.name == "tan-cotrain":
            raise UsageError("stage 2 learns from what stage 1 has learned", "--from RUN of stage 1; both at once: method.name=tan-stages")
        return
    saved = load_config(find_model(config.init))
    if saved["task"] != "alignment":
        raise UsageError(f"{config.init} is a model of task '{saved['task']}', not an aligner", "give --from an aligner")
    ours = config.model.model_dump()
    free = ("init_std", "input_dropout", "dropout", "head_layer")
    wrong = {key: value for key, value in saved["architecture"].items() if key not in free and ours.get(key) != value}
    if wrong:
        told = ", ".join(f"{key} is {ours.get(key)}, there {value}" for key, value in wrong.items())
        hint = "take it over: " + " ".join(f"--set model.{key}={value}" for key, value in wrong.items())
        raise UsageError(f"the aligner in {config.init} has another architecture than this run: {told}", hint)
    own = config.text.model_dump(exclude={"model", "vocabulary", "frozen"})
    if {key: saved["text"].get(key) for key in own} != own:
        raise UsageError(f"{config.init} has another text tower than this run", f"it has {dict(saved['text'])}")
    for name, record in saved["streams"].items():
        if name in folders and record["encoder"].get("reference"):
            check_encoder(record, folders[name])


def build(config: PretrainConfig, folders: Folders, found: Narrated, texts: Texts, *stream: int) -> Aligning:
    """The method with seeded weights and the scale of the features, or with the weights of `config.init`."""
    setup.seed_weights(config, *stream)
    dim = sum(folder.dim for folder in folders.values())
    method = METHODS[config.method.name](config, dim, texts.width, None if texts.vocabulary is None else len(texts.vocabulary))
    if config.init:
        start(method, config.init)
    elif method.aligner.scale is not None:
        learn_scale(method, folders, list(found.sentences))
    if isinstance(method, Cotraining):
        method.restart_target()
    return method


def start(method: Aligning, reference: str) -> None:
    """Loads the weights of a model folder into aligner and bag of words; UsageError where they do not fit."""
    weights = load_weights(find_model(reference))
    parts = {"aligner.": method.aligner, **({"text.": method.text} if method.text is not None else {})}
    for prefix, module in parts.items():
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        load_strict(module, own, reference)


def learn_scale(method: Aligning, folders: Folders, paths: list[str]) -> None:
    """Gives the model mean and deviation of each channel over the features of the training set."""
    moments = [channel_moments(folder, paths) for folder in folders.values()]
    if all(each is not None for each in moments):
        means, deviations = (torch.cat([torch.from_numpy(each[part]) for each in moments]) for part in (0, 1))
        method.aligner.scale.learn(means, deviations)


def feed(config: PretrainConfig, found: Narrated, texts: Texts, folders: Folders) -> setup.Feed:
    """Windows of videos with their sentences."""
    videos = found.rows.grouped()
    crop = SentenceCropper() if config.window.start == "sentence" else None

    def loader(start: int) -> Any:
        return make_train_loader(videos, config.data, folders, None, config.train.batch_size, *world(), config.train.seed, start, crop=crop)

    windows = Windows(config, found.sentences, texts.encode, folders)
    return setup.Feed(loader, windows, setup.micro_per_epoch(len(videos), config), config.data.repeats)


def train(run: Run, config: PretrainConfig, found: Narrated, rows: Rows | None, number: int = 0, what: str | None = None) -> Any:
    """Trains one stage to its end; returns the trainer, and what `publish` needs.

    Args:
        run: of this stage.
        config: of this stage.
        found: videos and sentences.
        rows: recorded; None: a part of a run that has recorded them.
        number: of the stage.
        what: is trained.
    """
    folders = open_streams(config.data)
    check_start(config, folders)
    texts = texts_of(config, found, run.reporter)
    method = build(config, folders, found, texts, number)
    said = what or f"aligning sentences with {' and '.join(folders)}"
    return setup.train(run, config, method, feed(config, found, texts, folders), said, rows), folders, texts


def publish(
    run: Run, config: PretrainConfig, method: Aligning, folders: Folders, texts: Texts, found: Narrated, folder: Path | None = None
) -> None:
    """Writes the model folder of an aligner: without the moving average, which stays in the checkpoints."""
    weights = {f"aligner.{name}": tensor for name, tensor in method.aligner.state_dict().items()}
    if method.text is not None:
        weights |= {f"text.{name}": tensor for name, tensor in method.text.state_dict().items()}
    streams = {name: record_of(each) for name, each in folders.items()}
    trained = config.method.name != "tan"
    saved = {
        "task": "alignment",
        "method": config.method.name,
        "architecture": config.model.model_dump(),
        "text": config.text.model_dump(),
        "vocabulary": texts.vocabulary,
        "words": None if texts.vocabulary is None else len(texts.vocabulary),
        "text_dim": texts.width,
        "tower": texts.tower,
        "streams": streams,
        "head_trained": trained and config.method.scored_by == "head",
        "spread_s": config.window.spread_s,
        "temperature": config.method.temperature,
        "preprocessing": {"grid": next(iter(streams.values()))["grid"], "align": config.data.align, "window": config.data.max_length},
    }
    if trained and not saved["head_trained"]:
        saved["least"] = least_score(saved, weights, config, folders, found)
    said = f"bag of {len(texts.vocabulary)} words" if texts.vocabulary is not None else texts.tower["reference"]
    facts = {
        "task": "aligns sentences with a video",
        "stage": "2, co-trained: tells which sentences are alignable" if trained else "1",
        "input": f"features of {', '.join(str(each['encoder'].get('reference')) for each in streams.values())}",
        "text": said,
    }
    card = setup.Card("Sentence aligner", facts, "vid align VIDEO --text FILE --model {run}", ["video", "temporal-alignment"])
    setup.publish(run, config, weights, saved, card, videos(found), folder)


def videos(found: Narrated) -> Rows:
    """One row for each video."""
    return Rows.of(Row(path) for path in found.sentences)


def least_score(
    saved: dict[str, Any], weights: dict[str, torch.Tensor], config: PretrainConfig, folders: Folders, found: Narrated
) -> float | None:
    """The score that the best `method.alpha` of the training sentences reach, of up to MOST_VIDEOS videos; None where none has features."""
    model = from_config(saved)
    model.load_state_dict(weights)
    model.eval()
    scores = []
    for path, sentences in list(found.sentences.items())[:MOST_VIDEOS]:
        with suppress(FeatureError):
            grid, features = joined([folder.of(Row(path)) for folder in folders.values()], config.data.align)
            values = model.similarities(features, model.encode([s.text for s in sentences])).values
            times = [(s.start_s, min(s.end_s, grid.times(len(features))[-1, 1])) for s in sentences]
            lengths = lengths_of([max(end - start, 0.0) for start, end in times], grid, len(features))
            scores.append(share_of(span_scores(weighted(values, times, grid, saved), lengths).max(1)))
    return float(np.quantile(np.concatenate(scores), 1 - config.method.alpha)) if scores else None
