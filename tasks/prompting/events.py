"""Videos with timed events: snippets to learn from, and the test of a model on annotated events and on proposals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tasks.core.data.batch import Batch
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.feature_loader import make_eval_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row, Rows
from tasks.core.data.segments.predictions import NO_PROPOSAL, Event, read_predictions
from tasks.core.data.segments.table import EventTable
from tasks.core.errors import InputError
from tasks.core.metrics.events import event_scores
from tasks.core.reporter import Reporter
from tasks.core.world import world
from tasks.prompting.config import PromptedConfig
from tasks.prompting.data import whole
from tasks.prompting.dense import Matcher, means_inside
from tasks.prompting.metrics import accuracy
from tasks.prompting.towers import STREAM

LEAST_INSIDE = 0.5
"""Share of an event, or of a snippet where the event is longer, that must be in a snippet for the event to be learned from."""
_SHAPES = 'proposals: what vid detect-events --proposals wrote, {"results": {VIDEO: [{"score", "segment"}]}}, or CSV: video,start,end,score'
Proposals = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Video -> segments (P, 2) in seconds, and their scores (P,)."""


def check_events(rows: Rows, what: str) -> Rows:
    """The rows without those of videos in which nothing happens (neither label nor times); InputError where none is left that has times."""
    events = rows.at(np.array([row.label is not None or row.start_s is not None or row.end_s is not None for row in rows], bool))
    if not any(row.start_s is not None and row.end_s is not None for row in events):
        raise InputError(
            f"none of the {len(rows)} {what} rows has a start and an end", "a manifest of events has the columns path,label,start,end"
        )
    return events


def event_crop(times: np.ndarray, length: int, rng: np.random.Generator, rows: Sequence[Row]) -> int:
    """A random snippet around a random event of a video (`core.data.feature_loader.Cropper`): all of it, or nothing but it where it is
    longer than the snippet.
    """
    row = rows[int(rng.integers(len(rows)))]
    low, high = _grid_of(times).part(len(times), row.start_s, row.end_s)
    first, last = sorted((high - length, low))
    first, last = max(first, 0), min(last, len(times) - length)
    return int(rng.integers(first, last + 1))


def snippets(config: PromptedConfig) -> Callable[[Batch, torch.device], Batch]:
    """What brings a CPU batch of features of videos with their events to `method.EventPrompting`.

    It makes `clip` (B, frames, dim); and of the E events of all snippets `owner` (E,) int64, the number of the snippet, `inside` (E, 2)
    int64, numbers [first, last + 1) of the features inside the event, and `label` (E,) int64.
    """

    def prepare(batch: Batch, device: torch.device) -> Batch:
        clips, events = [], []
        for number, length in enumerate(batch["length"].tolist()):
            clips.append(batch["features"][number, torch.arange(config.frames).clamp(max=length - 1)])
            grid = _grid_of(batch["times"][number, :length].numpy())
            for segment, kind in zip(batch["segments"][number].tolist(), batch["segment_label"][number].tolist(), strict=True):
                if (part := part_of(grid, length, *segment)) is not None:
                    events.append((number, *part, kind))
        columns = torch.tensor(events, dtype=torch.int64).reshape(-1, 4)
        made = {"clip": torch.stack(clips), "owner": columns[:, 0], "inside": columns[:, 1:3], "label": columns[:, 3]}
        return {name: values.to(device, non_blocking=True) for name, values in made.items()}

    return prepare


def part_of(grid: Grid, n: int, start_s: float, end_s: float) -> tuple[int, int] | None:
    """Numbers [first, last + 1) of the features of a snippet inside an event; None where too little of the event is there."""
    low, high = grid.index_of(start_s), grid.index_of(end_s)
    inside = min(high, n - 0.5) - max(low, -0.5)
    there = inside >= LEAST_INSIDE * min(high - low, n) if high > low else -0.5 <= low < n - 0.5
    return grid.part(n, start_s, end_s) if there else None


def _grid_of(times: np.ndarray) -> Grid:
    """The grid of neighbouring features that see (n, 2) seconds."""
    begins, span = times[:, 0].astype(np.float64), max(float(times[0, 1] - times[0, 0]), 0.0)
    stride = (begins[-1] - begins[0]) / (len(begins) - 1) if len(begins) > 1 else max(span, 1e-3)
    return Grid(stride, span, float(begins[0]))


def read_proposals(file: str, videos: Sequence[str], reporter: Reporter | None = None) -> Proposals:
    """The proposals of a file in videos that are called by their paths; what is no segment or has no score in numbers is left out.

    Raises:
        InputError: the file cannot be read, has none of the videos, or scores below 0.
    """
    try:
        read = read_predictions(file, videos, proposals=True)
    except InputError as error:
        raise InputError(error.message, _SHAPES) from None
    table = read.events
    usable = np.isfinite(table.segment).all(1) & np.isfinite(table.score) & (table.segment[:, 1] >= table.segment[:, 0])
    if reporter is not None and (bad := int((~usable).sum()) + read.left_out[NO_PROPOSAL]):
        reporter.warn(f"{file}: left out {bad} proposals without two times in order and a score")
    table = table.keep(usable)
    if (table.score < 0).any():
        raise InputError(f"{file} has scores below 0", "the score of a proposal is multiplied with a probability: give scores from 0 to 1")
    places: dict[str, list[int]] = {}
    for place, video in enumerate(table.video):
        places.setdefault(video, []).append(place)
    if videos and not any(video in read.videos for video in videos):
        example = f": it speaks of '{read.videos[0]}'" if read.videos else ""
        raise InputError(f"{file} has no proposals for {videos[0]}{example}", "videos are found by their file's name")
    return {video: (table.segment[rows], table.score[rows]) for video, rows in places.items()}


def classified(
    proposals: tuple[np.ndarray, np.ndarray], probabilities: np.ndarray, labels: Sequence[str], per_proposal: int | None = None
) -> list[Event]:
    """Events of proposals: the score of each is that of the proposal times the probability of the class; the best first.

    Args:
        proposals: segments (P, 2) in seconds, scores (P,).
        probabilities: (P, C).
        labels: names of the C classes.
        per_proposal: the best classes of each proposal; None: all.
    """
    segments, confidence = proposals
    joint = confidence[:, None] * probabilities
    kept = np.argsort(-probabilities, axis=1, kind="stable")[:, :per_proposal]
    pairs = [(place, int(number)) for place, numbers in enumerate(kept) for number in numbers]
    pairs.sort(key=lambda pair: -joint[pair])
    return [Event(labels[number], *(round(float(t), 4) for t in segments[place]), float(joint[place, number])) for place, number in pairs]


@dataclass
class EventTest:
    """What a test of events found.

    Attributes:
        probabilities: name of a matcher -> those of the annotated events, (n, C) each.
        labels: numbers of their classes.
        events: name of a matcher -> video -> its classified proposals.
        skipped: (path, reason) of what could not be read.
    """

    probabilities: dict[str, list[np.ndarray]] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    events: dict[str, dict[str, list[Event]]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def join(self, other: "EventTest") -> None:
        """Adds what another process found."""
        for name, values in other.probabilities.items():
            self.probabilities.setdefault(name, []).extend(values)
        for name, videos in other.events.items():
            self.events.setdefault(name, {}).update(videos)
        self.labels += other.labels
        self.skipped += other.skipped


def match_events(
    rows: Rows,
    labels: Sequence[str],
    data: FeatureConfig,
    folder: FeatureFolder,
    matchers: Mapping[str, Matcher],
    proposals: Proposals | None,
    per_proposal: int | None,
    stop: Callable[[], None],
    reporter: Reporter,
) -> EventTest:
    """Tests on features of whole videos; all processes share the work and get the same.

    Args:
        rows: annotated events.
        labels: classes in the order of their numbers.
        data: how features are read.
        folder: of features.
        matchers: by name.
        proposals: in these videos; None: only annotated events are classified.
        per_proposal: as `classified`.
        stop: called after every video, equally often by all processes; raises to end.
        reporter: progress.

    Raises:
        InputError: nothing could be read.
    """
    rank, size = world()
    videos, own = rows.grouped(), EventTest()
    batches = iter(make_eval_loader(videos, whole(data), {STREAM: folder}, list(labels), 1, rank, size))
    with reporter.progress("testing", len(videos), "video") as bar:
        for _ in range(-(-len(videos) // size)):  # a process may have one video less than others
            batch = next(batches, None)
            if batch is not None:
                own.skipped += batch["skipped"]
                if batch["path"]:
                    _test_video(batch, labels, matchers, proposals, per_proposal, own)
                bar.advance(size)
            stop()
    parts: list[Any] = [own]
    if size > 1:
        parts = [None] * size
        torch.distributed.all_gather_object(parts, own)
    found = EventTest()
    for part in parts:
        found.join(part)
    if not found.labels:
        reason = found.skipped[0][1] if found.skipped else "there are none"
        raise InputError(f"no features of the videos to test on could be read: {reason}")
    return found


def _test_video(
    batch: Batch,
    labels: Sequence[str],
    matchers: Mapping[str, Matcher],
    proposals: Proposals | None,
    per_proposal: int | None,
    into: EventTest,
) -> None:
    path, grid = batch["path"][0], _grid_of(batch["times"][0].numpy())
    annotated = batch["segment_label"][0] >= 0
    into.labels += batch["segment_label"][0][annotated].tolist()
    for name, matcher in matchers.items():
        dense = np.concatenate(list(matcher.dense([batch["features"][0].numpy()])))
        truth = means_inside(dense, grid, batch["segments"][0][annotated].numpy())
        into.probabilities.setdefault(name, []).append(matcher.probabilities(truth))
        if proposals is not None and path in proposals:
            chances = matcher.probabilities(means_inside(dense, grid, proposals[path][0]))
            into.events.setdefault(name, {})[path] = classified(proposals[path], chances, labels, per_proposal)


def event_numbers(found: EventTest, rows: Rows, protocol: str, proposed: bool) -> dict[str, dict[str, float]]:
    """Name of a matcher -> accuracy on the annotated events and, where there were proposals, mAP in [0, 1].

    Args:
        found: of the test.
        rows: all annotated events, also of videos that could not be read.
        protocol: of `core.metrics.events`.
        proposed: whether there were proposals.
    """
    timed = [row for row in rows if row.label is not None and row.start_s is not None and row.end_s is not None]
    truth = EventTable.of([row.path for row in timed], [row.label for row in timed], [(row.start_s, row.end_s) for row in timed])
    numbers = {}
    for name, parts in found.probabilities.items():
        numbers[name] = accuracy(np.concatenate(parts), np.array(found.labels))
        if proposed:
            videos = found.events.get(name, {})
            columns = [(video, e.label, (e.start, e.end), e.score) for video, events in videos.items() for e in events]
            table = EventTable.of(*zip(*columns, strict=True)) if columns else EventTable.of([], [], [], [])
            measured = event_scores(table, truth, protocol)
            numbers[name] |= {"average_map": measured["average_map"]}
            numbers[name] |= {f"map@{threshold}": value for threshold, value in measured["map"].items()}
    return numbers
