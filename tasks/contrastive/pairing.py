"""Video-text pretraining from rows with sentences to a model folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.pair_evaluation import PairTester
from tasks.contrastive.sentences import FrozenReader, Reader, SentenceBatch, SentencePicker, TokenReader, captioned
from tasks.contrastive.video_text import VideoTextPretraining
from tasks.core.checkpoint import encoder_weights, find_model, load_strict, load_weights
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.engine.description import preprocessing
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.hub import PREFIX
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import usable_weights
from tasks.core.nn.token_dropout import TokenCounts, plain_macs, token_counts
from tasks.core.text.learn import learn_tokenizer
from tasks.core.towers.start import check_start
from tasks.core.towers.text import load_text_tower
from tasks.core.world import world

CARD_USE = (
    "vid extract-features VIDEOS --model {run} --per window, or vid finetune --preset classify/... --from {run} --data TRAIN --val VAL"
)


@dataclass(frozen=True)
class Words:
    """What reads the sentences of a run.

    Attributes:
        reader: see `sentences`.
        text_dim: length of what a frozen tower gives; None: text is trained.
        recorded: of config.json: the identity of a frozen tower, or the vocabulary of text that is trained.
    """

    reader: Reader
    text_dim: int | None
    recorded: dict[str, Any]

    @property
    def vocabulary(self) -> int:
        """Tokens that a text that is trained knows."""
        return 0 if self.text_dim is not None else len(self.reader.tokenizer)


def words_of(config: PretrainConfig, rows: Rows) -> Words:
    """The frozen tower of a run, or a vocabulary learned from the sentences of training.

    Raises:
        UsageError: none is configured; the tower cannot be loaded.
    """
    text = config.method.text
    if text.new is not None:
        tokenizer = learn_tokenizer(rows.values("text"), text.new.vocabulary)
        recorded = {"vocabulary": tokenizer.vocabulary, "merges": tokenizer.merges}
        return Words(TokenReader(tokenizer, text.new.context), None, recorded)
    if text.tower is None:
        raise UsageError(
            "nothing says what reads the sentences",
            "--set method.text.tower=FOLDER (a sentence encoder or CLIP), or --set method.text.new={} to train one",
        )
    tower = load_text_tower(text.tower, vocabulary=text.vocabulary)
    places = {"reference": text.tower, **({"vocabulary": text.vocabulary} if text.vocabulary else {})}
    absolute = {name: place if place.startswith(PREFIX) else os.path.abspath(place) for name, place in places.items()}
    return Words(FrozenReader(tower), tower.dim, {**tower.source, **absolute})


def read_sets(config: PretrainConfig) -> tuple[Rows, Rows]:
    """(training rows, validation rows), each with a sentence; UsageError or InputError where they cannot be used."""
    rows = captioned(setup.training_rows(config.data), "training")
    val = captioned(read_sources(config.data.val, "val"), "validation") if config.data.val else Rows.of([])
    return rows, val


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    read_sets(config)
    if config.method.dropout.mask:
        token_counts(config.model.grid(), config.method.dropout)
    if config.train.batch_size < 2 and world().size == 1:
        raise UsageError("train.batch_size is 1: in a batch of one pair there is nothing to tell apart", "--set train.batch_size=32")
    if config.init:
        setup.check_flow_input(config)
        check_start(config.init, config.model, ("class_token", "start", "pos_frames"))


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    rows, val = read_sets(config)
    words = words_of(config, rows)
    planned = setup.plan(lambda: VideoTextPretraining(config, words.text_dim, words.vocabulary), config, rows)
    text = f"frozen, {words.recorded['weights_hash']}" if words.text_dim else f"trained, {words.vocabulary} tokens known"
    counts = token_counts(config.model.grid(), config.method.dropout)
    tokens = {"visible_tokens": counts.visible, "reconstructed_tokens": counts.targets, "ignored_tokens": counts.ignored}
    facts = {"method": config.method.name, "text": text, "val_clips": len(val), "start": config.init or "scratch"}
    return {**planned, **facts, **tokens, **gmacs(config.model, config, counts)}


def gmacs(model: VitConfig, config: PretrainConfig, counts: TokenCounts) -> dict[str, float]:
    """Multiply-adds of a clip in 10^9, as the paper counts them, beside those without dropout."""
    decoder, every = config.method.dropout.decoder, TokenCounts(model.n_tokens(), 0, 0)
    found = {"gmacs_per_clip": counts, "gmacs_all_tokens": every}
    return {name: float(f"{plain_macs(model, decoder, each, model.class_token) / 1e9:.4g}") for name, each in found.items()}


def build(config: PretrainConfig, words: Words) -> VideoTextPretraining:
    """The method with seeded weights, or with the encoder of `config.init` in place."""
    setup.seed_weights(config)
    method = VideoTextPretraining(config, words.text_dim, words.vocabulary)
    if config.init:
        encoder, folder = method.model.encoder, find_model(config.init)
        load_strict(encoder, usable_weights(encoder, encoder_weights(load_weights(folder))), str(folder))
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, tests on `data.val` where given, writes `model/`; returns the result."""
    check(config)
    rows, val = read_sets(config)
    words = words_of(config, rows)
    feed = setup.clip_feed(rows, config, SentenceBatch(config, rows, words.reader), picker=SentencePicker.from_config(config))
    dropout = config.method.dropout
    what = f"video-text, {dropout.mask:g} of the tokens dropped, text {'frozen' if words.text_dim else 'trained too'}"
    evaluate = evaluation(config, val, words, run) if len(val) else None
    facts = {"text_tower": words.recorded} if words.text_dim else {}
    trainer = setup.train(run, config, build(config, words), feed, what, rows, evaluate, counted="sentences", **facts)

    def result() -> dict[str, Any]:
        publish(run, config, trainer, words, rows)
        return setup.numbers(run, "loss", "task_loss", "reconstruction", "top1", **trainer.last_evaluation)

    return setup.conclude(run, trainer, result)


def evaluation(config: PretrainConfig, val: Rows, words: Words, run: Run) -> Callable[[Trainer, Callable[[], None]], dict[str, float]]:
    """What the loop validates with."""

    def evaluate(trainer: Trainer, stop: Callable[[], None]) -> dict[str, float]:
        tester = PairTester(config, words.reader, run.reporter, stop)
        found = tester.test(trainer.evaluated_model.model, val)
        if run.main:
            run.skip(tester.skipped, config.train.strict)
        return found

    return evaluate


def publish(run: Run, config: PretrainConfig, trainer: Trainer, words: Words, rows: Rows) -> None:
    """Writes the model folder: the video encoder, the projections, and text that was trained; of a frozen tower its name and hash."""
    model, method = trainer.evaluated_model.model, config.method
    saved = {
        "task": "contrastive",
        "method": method.name,
        "architecture": config.model.model_dump(),
        "pair": {"dim": model.dim, "scale": 1 / method.temperature, "cosine": method.cosine},
        "text_tower": words.recorded if model.text is None else {**words.recorded, "architecture": model.text.config.model_dump()},
        "turbo": method.dropout.model_dump(),
        "preprocessing": preprocessing(config, rows),
        "metrics": dict(trainer.last_evaluation),
    }
    dim, depth, _ = config.model.widths()
    text = f"{words.recorded['reference']} ({words.recorded['weights_hash']}), frozen" if words.text_dim else "trained with the video"
    facts = {
        "method": f"symmetric InfoNCE of clips and sentences, {method.dropout.mask:g} of the tokens dropped in training",
        "video encoder": f"ViT of width {dim}, {depth} blocks, clips of {config.model.frames} frames of {config.model.image_size} px",
        "text": text,
        "vectors": f"{model.dim} numbers, compared by {'cosine' if method.cosine else 'dot product'}",
    }
    numbers = {name: value for name, value in trainer.last_evaluation.items() if "_r1" in name}
    card = setup.Card("Video and text in one space", facts, CARD_USE, ["video", "video-text", "contrastive-learning"], numbers=numbers)
    setup.publish(run, config, model.state_dict(), saved, card, rows)
