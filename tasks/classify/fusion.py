"""Several models tested together (two streams, Simonyan and Zisserman 2014): probabilities or similarities of a video are averaged."""

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.classify.views import Outputs
from tasks.core.errors import UsageError


def common_labels(labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The class names of all models, in the order of the first; UsageError where one has others.

    Args:
        labels: model -> its class names.
    """
    (first, names), *others = labels.items()
    for model, own in others:
        if strange := sorted(set(names) ^ set(own)):
            raise UsageError(
                f"{first} and {model} do not have the same classes: {', '.join(strange[:5])}", "average models of the same classes"
            )
    return list(names)


def fuse_values(found: Sequence[Outputs]) -> Outputs:
    """The mean of what the models say of every video that all of them could read."""
    if len(found) == 1:
        return found[0]
    kept = _common(found)
    places = [_places(outputs, kept) for outputs in found]
    values = np.mean([outputs.values[place] for outputs, place in zip(found, places, strict=True)], axis=0) if len(kept) else None
    return _chosen(found, places[0], found[0].values[:0] if values is None else values)


def align_similarities(found: Sequence[tuple[Outputs, Outputs, np.ndarray]]) -> tuple[Outputs, Outputs, list[np.ndarray]]:
    """Queries, gallery and the similarity `(queries, gallery)` by each model, over the videos that all of them could read.

    Args:
        found: of each model queries, gallery and similarity.
    """
    if len(found) == 1:
        return found[0][0], found[0][1], [found[0][2]]
    sides = [[pair[side] for pair in found] for side in (0, 1)]
    places = [[_places(outputs, _common(side)) for outputs in side] for side in sides]
    similarities = [pair[2][np.ix_(rows, columns)] for pair, rows, columns in zip(found, *places, strict=True)]
    queries, gallery = (_chosen(side, place[0], side[0].values[place[0]]) for side, place in zip(sides, places, strict=True))
    return queries, gallery, similarities


def _common(found: Sequence[Outputs]) -> np.ndarray:
    """Numbers of the videos that all models could read, increasing."""
    kept = found[0].uids
    for outputs in found[1:]:
        kept = np.intersect1d(kept, outputs.uids)
    return np.sort(kept)


def _places(outputs: Outputs, kept: np.ndarray) -> np.ndarray:
    """Where these videos stand in what a model says."""
    order = np.argsort(outputs.uids)
    return order[np.searchsorted(outputs.uids, kept, sorter=order)]


def _chosen(found: Sequence[Outputs], places: np.ndarray, values: np.ndarray) -> Outputs:
    """The videos at these places of the first model, with other values; what any model could not read is skipped, once."""
    first = found[0]
    skipped = dict(reversed([pair for outputs in found for pair in outputs.skipped]))
    return Outputs(values, first.labels[places], first.uids[places], [first.paths[i] for i in places], list(reversed(skipped.items())))
