"""Methods and batches for trainings of prompts."""

from typing import Any

from tasks.core.checkpoint import find_model, load_strict, load_weights
from tasks.core.data.feature_loader import make_train_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.reporter import Reporter
from tasks.core.towers.text import TextTower
from tasks.core.world import world
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.data import train_batch, whole
from tasks.prompting.method import Prompting
from tasks.prompting.names import tokens_of, words_of
from tasks.prompting.towers import STREAM


def build(config: FinetuneConfig, tower: TextTower, labels: list[str], reporter: Reporter | None = None) -> Prompting:
    """The method with seeded weights, and those of `config.init` in place."""
    tokens = tokens_of(words_of(labels, config.names), tower.tokenizer, tower.context - config.model.prompts.added, reporter)
    setup.seed_weights(config)
    method = Prompting(config, tower, tokens, tower.dim)
    if config.init:
        load_strict(method.model, load_weights(find_model(config.init)), config.init)
    return method


def feature_feed(config: FinetuneConfig, rows: Rows, labels: list[str], folder: FeatureFolder) -> setup.Feed:
    """Random clips of the features of whole videos, or of the parts that rows name."""
    data = whole(config.data)

    def loader(start: int) -> Any:
        return make_train_loader(rows, data, {STREAM: folder}, labels, config.train.batch_size, *world(), config.train.seed, start)

    return setup.Feed(loader, train_batch(config.model), setup.micro_per_epoch(len(rows), config), data.repeats)
