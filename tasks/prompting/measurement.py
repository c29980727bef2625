"""The test of what a training made: classes of clips, of events and proposals, or sentences; the model, and beside it no training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.data.segments.predictions import write_results
from tasks.core.report.probabilities import write_probabilities
from tasks.core.reporter import Reporter
from tasks.core.towers.text_tower import TextTower
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.dense import Matcher
from tasks.prompting.events import event_numbers, match_events, read_proposals
from tasks.prompting.method import zero_shot_features
from tasks.prompting.metrics import accuracy
from tasks.prompting.model import PromptedModel
from tasks.prompting.names import words_of
from tasks.prompting.predict import prompted_scorer, score_rows, text_of, vector_scorer, zero_shot_scorer
from tasks.prompting.sentences import captioned, retrieve

PROMPTED, ZERO_SHOT = "prompted", "zero_shot"


@dataclass(frozen=True)
class Outcome:
    """What a test found.

    Attributes:
        numbers: of the model by their names, and with `zero_shot_` before them those of the frozen towers alone; `n`, `n_skipped`.
        skipped: (path, reason) of what could not be read.
        write: writes what was predicted into a folder.
    """

    numbers: dict[str, float]
    skipped: list[tuple[str, str]]
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Measurement:
    """A test set, and all that it takes.

    Attributes:
        config: of the training.
        rows: what is tested.
        labels: classes that are told apart; none for retrieval.
        folder: features of frames.
        tower: frozen text tower, where `device` is.
        device: where the model is.
        reporter: progress.
    """

    config: FinetuneConfig
    rows: Rows
    labels: list[str]
    folder: FeatureFolder
    tower: TextTower
    device: torch.device
    reporter: Reporter

    def __call__(self, model: PromptedModel, stop: Callable[[], None]) -> Outcome:
        """Tests a model in evaluation mode; `stop` is called after every batch, and raises to end."""
        return {"recognition": _classes, "localization": _events, "retrieval": _sentences}[self.config.method](self, model, stop)

    def words(self) -> list[str]:
        """The names of the classes."""
        return words_of(self.labels, self.config.names)

    def control(self) -> torch.Tensor | None:
        """Vectors `(C, dim)` of hand-written prompts; None where there is no control."""
        return None if self.config.template is None else zero_shot_features(self.tower, self.words(), self.config.template)


def _classes(test: Measurement, model: PromptedModel, stop: Callable[[], None]) -> Outcome:
    config, control = test.config, test.control()
    scorers = {PROMPTED: prompted_scorer(model, text_of(model, test.tower, test.words()))}
    if control is not None:
        scorers[ZERO_SHOT] = zero_shot_scorer(control, config.model.temperature)
    given = (test.rows, test.labels, config.data, test.folder, config.model, config.test, scorers, test.device, stop, test.reporter)
    found = score_rows(*given)

    def write(folder: Path) -> None:
        write_probabilities(folder / "predictions.csv", found.paths, found.labels, found.outputs[PROMPTED], test.labels)

    numbers = {name: accuracy(values, found.labels) for name, values in found.outputs.items()}
    return _outcome(numbers, len(found.labels), found.skipped, write)


def _events(test: Measurement, model: PromptedModel, stop: Callable[[], None]) -> Outcome:
    config, control = test.config, test.control()
    matchers = {PROMPTED: Matcher(text_of(model, test.tower, test.words()), config.model.temperature, model)}
    if control is not None:
        matchers[ZERO_SHOT] = Matcher(control, 1 / (test.tower.scale or 1 / config.model.temperature))
    proposals = read_proposals(config.proposals, list(dict.fromkeys(test.rows.values("path")))) if config.proposals else None
    given = (test.rows, test.labels, config.data, test.folder, matchers, proposals, config.per_proposal, stop, test.reporter)
    found = match_events(*given)

    def write(folder: Path) -> None:
        if proposals is not None:
            write_results(folder / "predictions.json", found.events.get(PROMPTED, {}))

    return _outcome(event_numbers(found, test.rows, config.protocol, proposals is not None), len(found.labels), found.skipped, write)


def _sentences(test: Measurement, model: PromptedModel, stop: Callable[[], None]) -> Outcome:
    config, given = test.config, captioned(test.rows, "validation")
    vectors: dict[str, Any] = {PROMPTED: (vector_scorer(model), lambda texts: text_of(model, test.tower, texts))}
    if config.template is not None:
        vectors[ZERO_SHOT] = (vector_scorer(None), lambda texts: zero_shot_features(test.tower, texts, config.template))
    found = retrieve(given, vectors, config.data, test.folder, config.model, config.test, test.device, stop, test.reporter)
    numbers = {
        name: {f"{direction}_{key}": value for direction, values in found.numbers(name).items() for key, value in values.items()}
        for name in vectors
    }
    return _outcome(numbers, len(found.texts), found.skipped, lambda folder: None)


def _outcome(numbers: dict[str, dict[str, float]], n: int, skipped: list[tuple[str, str]], write: Callable[[Path], None]) -> Outcome:
    told = {f"{ZERO_SHOT}_{name}": value for name, value in numbers.get(ZERO_SHOT, {}).items()}
    return Outcome({**numbers[PROMPTED], **told, "n": n, "n_skipped": len(skipped)}, skipped, write)
