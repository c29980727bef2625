"""Random parts of a data set for few-shot and open-set protocols, drawn by a seed or read from published lists."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.core.data.rows import Rows
from tasks.core.errors import InputError, UsageError
from tasks.prompting.config import TrialsConfig


@dataclass(frozen=True)
class Split:
    """What one trial learns from and is tested on.

    Attributes:
        train, test: rows without a common one.
        known: classes of training, sorted.
        asked: classes that are told apart in testing, sorted.
    """

    train: Rows
    test: Rows
    known: list[str]
    asked: list[str]


def splits(config: TrialsConfig, rows: Rows, val: Rows) -> Iterator[Split]:
    """The trials of a protocol, always the same for a seed.

    Args:
        config: which protocol.
        rows, val: labelled rows of `data.train` and `data.val`.

    Raises:
        UsageError: a validation set is missing, or a folder of lists has too few.
        InputError: too few classes or videos, or a listed one that is not among the rows.
    """
    if config.kind != "way" and not len(val):
        raise UsageError(f"trials.kind {config.kind} is tested on a validation set", "add --val MANIFEST")
    for number in range(config.trials):
        yield (
            _listed(config, rows, val, number) if config.files else _drawn(config, rows, val, np.random.default_rng([config.seed, number]))
        )


def _drawn(config: TrialsConfig, rows: Rows, val: Rows, rng: np.random.Generator) -> Split:
    by_class = _by_class(rows)
    if config.kind == "open":
        names = sorted({*by_class, *_by_class(val)})
        held = max(1, round(len(names) * config.held))
        if len(names) - held < 2:
            raise InputError(f"{len(names)} classes are too few to keep {held} of them from training")
        asked = sorted(rng.permutation(names)[:held].tolist())
        return _open(rows, val, [name for name in names if name not in asked], asked)
    names = sorted(by_class)
    if config.kind == "way":
        if len(names) < config.ways:
            raise InputError(f"{len(names)} classes are too few for trials of {config.ways}", "--set trials.ways=N")
        names = sorted(rng.permutation(names)[: config.ways].tolist())
    chosen = [place for name in names for place in _shots(by_class[name], name, config, rng)]
    if config.kind == "all":
        return Split(rows.at(np.array(chosen)), val, names, names)
    rest = sorted({place for name in names for place in by_class[name]} - set(chosen))
    return Split(rows.at(np.array(chosen)), rows.at(np.array(rest)), names, names)


def _shots(places: Sequence[int], name: str, config: TrialsConfig, rng: np.random.Generator) -> list[int]:
    needed = config.shots + (config.kind == "way")  # one more to be tested on
    if len(places) < needed:
        raise InputError(f"the class '{name}' has {len(places)} videos, {needed} are needed", "--set trials.shots=N")
    return sorted(rng.permutation(places)[: config.shots].tolist())


def _open(rows: Rows, val: Rows, known: list[str], asked: list[str]) -> Split:
    train, test = _by_class(rows), _by_class(val)
    learned = sorted(place for name in known for place in train.get(name, ()))
    tested = sorted(place for name in asked for place in test.get(name, ()))
    if not learned or not tested:
        raise InputError("no videos of the classes of a trial", f"{'training' if not learned else 'validation'} has none of them")
    return Split(rows.at(np.array(learned)), val.at(np.array(tested)), sorted(known), sorted(asked))


def _listed(config: TrialsConfig, rows: Rows, val: Rows, number: int) -> Split:
    folder = Path(config.files)
    train, test = (_lines(folder, part, number) for part in ("train", "test"))
    if train is None:
        raise UsageError(f"{folder} has no train/split_{number}.list for trial {number + 1} of {config.trials}", "--set trials.trials=N")
    if config.kind == "open":
        if test is None:
            raise UsageError(f"{folder} has no test/split_{number}.list", "an open set needs both lists of classes")
        if both := sorted(set(train) & set(test)):
            raise InputError(f"{folder}: the class '{both[0]}' is in both lists of split {number}")
        return _open(rows, val, *(_resolved(names, {*_by_class(rows), *_by_class(val)}) for names in (train, test)))
    learned = _found(train, rows, folder)
    known = rows.at(learned).codes("label")[1]
    if config.kind == "all":
        return Split(rows.at(learned), val, known, known)
    tested = _found(test, rows, folder) if test else None
    if tested is None:
        by_class = _by_class(rows)
        tested = np.array(sorted({place for name in known for place in by_class[name]} - set(learned.tolist())))
    if both := set(learned.tolist()) & set(tested.tolist()):
        raise InputError(f"{folder}: {rows[min(both)].path} is in both lists of split {number}")
    return Split(rows.at(learned), rows.at(tested), known, known)


def _lines(folder: Path, part: str, number: int) -> list[str] | None:
    """Lines of a list; a folder may have one list for all trials, `train.list`. None: there is none."""
    for file in (folder / part / f"split_{number}.list", folder / f"{part}.list"):
        if file.is_file():
            return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return None


def _found(lines: Sequence[str], rows: Rows, folder: Path) -> np.ndarray:
    """Places of the rows that CLASS/VIDEO lines name; endings of files do not count, nor do spaces for underscores in classes."""
    places = {}
    for place, (path, label) in enumerate(zip(rows.values("path"), rows.values("label"), strict=True)):
        for name in {os.path.basename(path), os.path.splitext(os.path.basename(path))[0]}:
            places[_plain(label), name] = place
    found = []
    for line in lines:
        label, _, video = line.rpartition("/")
        key = (_plain(label), video)
        if key not in places:
            raise InputError(f"{folder} lists {line!r:.80}, which is not among the {len(rows)} rows", "give the whole data set with --data")
        found.append(places[key])
    return np.array(found)


def _resolved(names: Sequence[str], labels: set[str]) -> list[str]:
    plain = {_plain(label): label for label in labels}
    if missing := next((name for name in names if _plain(name) not in plain), None):
        raise InputError(f"the list has the class {missing!r:.60}, of which there are no videos")
    return [plain[_plain(name)] for name in names]


def _plain(label: str) -> str:
    return label.replace("_", " ").lower()


def _by_class(rows: Rows) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(rows.values("label")):
        found[label].append(place)
    return found
