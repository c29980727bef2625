"""Methods and batches for trainings of prompts."""

from collections.abc import Sequence
from typing import Any

from tasks.core.checkpoint import find_model, load_strict, load_weights
from tasks.core.data.feature_loader import Item, make_train_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.errors import InputError
from tasks.core.reporter import Reporter
from tasks.core.towers.text_tower import TextTower
from tasks.core.world import world
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.data import train_batch, whole
from tasks.prompting.events import event_crop, snippets
from tasks.prompting.method import EventPrompting, Prompting, SentencePrompting
from tasks.prompting.names import tokens_of, words_of
from tasks.prompting.sentences import captioned, pairs
from tasks.prompting.towers import STREAM

Trained = Prompting | SentencePrompting
TRAINING = "training"
"""What the training set is called in messages."""


def method_of(config: FinetuneConfig, tower: TextTower, labels: list[str], reporter: Reporter | None = None) -> Trained:
    """The method; retrieval has no labels."""
    if config.method == "retrieval":
        room_of(config, tower)
        return SentencePrompting(config, tower, tower.dim)
    tokens = tokens_of(words_of(labels, config.names), tower.tokenizer, room_of(config, tower), reporter)
    return (EventPrompting if config.method == "localization" else Prompting)(config, tower, tokens, tower.dim)


def items_of(config: FinetuneConfig, rows: Rows) -> Sequence[Item]:
    """What a training draws from: rows; localization: videos with their events; retrieval: videos with their sentences."""
    if config.method == "localization":
        return rows.grouped()
    return captioned(rows, TRAINING).videos if config.method == "retrieval" else rows


def room_of(config: FinetuneConfig, tower: TextTower) -> int:
    """Tokens that fit beside the prompts; InputError where none does."""
    room = tower.context - config.model.prompts.added
    if room < 1:
        raise InputError("the prompts leave no token for a name", "give fewer: model.prompts.before, model.prompts.after")
    return room


def build(config: FinetuneConfig, tower: TextTower, labels: list[str], reporter: Reporter | None = None) -> Trained:
    """The method with seeded weights, and those of `config.init` in place."""
    setup.seed_weights(config)
    method = method_of(config, tower, labels, reporter)
    if config.init:
        load_strict(method.model, load_weights(find_model(config.init)), config.init)
    return method


def feature_feed(config: FinetuneConfig, rows: Rows, labels: list[str], folder: FeatureFolder, tower: TextTower) -> setup.Feed:
    """Random clips of the features of whole videos, or of the parts that rows name; localization: snippets of videos with their events;
    retrieval: clips of videos, each with one of its sentences.
    """
    data, items, crop = whole(config.data), items_of(config, rows), None
    if config.method == "localization":
        data = data.model_copy(update={"max_length": config.model.frames})
        crop, prepare = event_crop, snippets(config.model)
    elif config.method == "retrieval":
        prepare = pairs(config.model, captioned(rows, TRAINING).texts, tower.tokenizer, room_of(config, tower))
    else:
        prepare = train_batch(config.model)

    def loader(start: int) -> Any:
        batch, seed = config.train.batch_size, config.train.seed
        return make_train_loader(items, data, {STREAM: folder}, labels or None, batch, *world(), seed, start, crop=crop)

    return setup.Feed(loader, prepare, setup.micro_per_epoch(len(items), config), data.repeats)
