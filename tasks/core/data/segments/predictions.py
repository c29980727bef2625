"""Events that were found: the JSON of ActivityNet's results, and what `vid detect-events` writes.

ActivityNet: `{"version", "results": {video: [{"label", "score", "segment": [start, end]}]}, "external_data"}`, seconds.
Our own, a file NAME.events.json for each video: `{"video": path, "duration_s", "events": [{"label", "start", "end", "score"}], ...}`.
Proposals have no label; they are also read from a CSV with the columns video, start, end and score.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.data.segments.formats import load_content
from tasks.core.data.segments.names import AnnotatedVideos
from tasks.core.data.segments.table import EventTable
from tasks.core.errors import InputError
from tasks.core.files import write_json
from tasks.core.strict_json import parse_json

SUFFIX = ".events.json"
"""How the name of our own record of a video ends."""
_LONGEST = 1 << 20  # signs of a first line that are looked at
NO_EVENT = "entries without a label, a score and two times"
NO_PROPOSAL = "entries without a score and two times"
NOT_READ = "videos that could not be read"
_SHAPES = 'expected: {"results": {VIDEO: [{"label", "score", "segment"}]}}, or what vid detect-events writes'


class Event(NamedTuple):
    """An event that was found; a proposal where `label` is empty.

    Attributes:
        label: name of its class.
        start, end: seconds.
        score: the higher the surer.
    """

    label: str
    start: float
    end: float
    score: float


@dataclass
class Predictions:
    """What a file says.

    Attributes:
        events: in the order of the file.
        videos: named there, also those in which nothing was found, as the annotation calls them.
        left_out: reason -> number.
    """

    events: EventTable
    videos: list[str]
    left_out: Counter[str] = field(default_factory=Counter)


def event_dicts(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Events as our own record has them under `events`."""
    return [event._asdict() if event.label else {k: v for k, v in event._asdict().items() if k != "label"} for event in events]


def write_results(path: Path, found: Mapping[str, Sequence[Event]]) -> None:
    """Writes the events (or proposals) of many videos as ActivityNet's results.

    Args:
        path: the file; it appears whole.
        found: name of a video -> its events; a video without any is written, too.
    """
    results = {
        video: [{**({"label": e.label} if e.label else {}), "score": e.score, "segment": [e.start, e.end]} for e in events]
        for video, events in found.items()
    }
    write_json(path, {"version": "VERSION 1.3", "results": results, "external_data": {}})


def read_predictions(path: str | Path, annotated: Iterable[str] = (), label: str | None = None, proposals: bool = False) -> Predictions:
    """The events of ActivityNet's results, of a CSV, or of our own records: a folder of NAME.events.json, one of them, or JSON Lines.
    Of a training run, or its folder of predictions, those of the last validation.

    Args:
        path: of a file or a folder.
        annotated: names of videos, see `AnnotatedVideos`.
        label: what is read where an entry has no `label`: `verb`, `noun` or `action` of EPIC-KITCHENS-100.
        proposals: labels are not needed, and all are empty.

    Raises:
        InputError: it cannot be read, or is something else; two records are about one video; a video's name fits several.
    """
    path = Path(path)
    reader = _Reader(path, AnnotatedVideos(annotated), label, proposals)
    content = _content(path)
    if isinstance(content, Mapping) and isinstance(content.get("results"), Mapping):
        for video, entries in content["results"].items():
            reader.add_video(video, entries, "segment")
    elif isinstance(content, list) and content and isinstance(content[0], Mapping) and {"start", "end", "score"} <= content[0].keys():
        reader.add_rows(content)
    else:
        for record in [content] if isinstance(content, Mapping) else content if isinstance(content, list) else [None]:
            reader.add_record(record)
    return reader.found()


def are_predictions(path: str | Path) -> bool:
    """Whether a file or a folder is what `read_predictions` reads, by its name and its beginning; no video and no manifest is."""
    path = Path(path)
    if path.is_dir():
        return next(path.rglob(f"*{SUFFIX}"), None) is not None
    if path.suffix.lower() == ".json":
        return path.is_file()
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = file.readline(_LONGEST) if path.suffix.lower() in (".csv", ".jsonl", ".ndjson") else ""
    except (OSError, ValueError):
        return False
    if path.suffix.lower() == ".csv":
        return {"video", "start", "end", "score"} <= {name.strip() for name in first.split(",")}
    return first.lstrip().startswith("{") and '"video"' in first and '"path"' not in first


def _content(path: Path) -> Any:
    """The parsed file; the objects of a folder or of JSON Lines as a list."""
    if path.is_dir():
        files = sorted(path.rglob(f"*{SUFFIX}"))
        if not files:
            if steps := sorted([*path.glob("step-*.json"), *path.glob("predictions/step-*.json")], key=lambda file: file.name):
                return load_content(steps[-1])
            raise InputError(f"{path}: no *{SUFFIX} in this folder", "it should hold what vid detect-events wrote, or be a training run")
        return [load_content(file) for file in files]
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        try:
            content = load_content(path)
            return None if content == [] and path.suffix.lower() not in (".json", ".csv") else content
        except InputError as error:
            if "Extra data" not in error.message:
                raise
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    return [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


class _Reader:
    """Collects columns; entries that cannot be used are counted.

    Args:
        path, annotated, label, proposals: see `read_predictions`.
    """

    def __init__(self, path: Path, annotated: AnnotatedVideos, label: str | None, proposals: bool):
        self.path, self.annotated, self.label, self.proposals = path, annotated, label, proposals
        self.video: list[str] = []
        self.labels: list[str] = []
        self.times: list[tuple[float, float]] = []
        self.scores: list[float] = []
        self.videos: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()

    def add_video(self, name: str, entries: Any, times: str) -> None:
        """The entries of a video; `times` says where their times are: `segment`, or `start` and `end`."""
        video = self.annotated.find(name, str(self.path))
        if video in self.videos:
            raise InputError(f"{self.path}: two results for '{video}', from {self.videos[video]} and {name}", "keep one of them")
        self.videos[video] = name
        if not isinstance(entries, list):
            raise InputError(f"{self.path}: '{name}' has no list of events", _SHAPES)
        before = len(self.scores)
        for entry in entries:
            try:
                start, end = entry["segment"] if times == "segment" else (entry["start"], entry["end"])
                event = self._label(entry), (float(start), float(end)), float(entry["score"])
            except (TypeError, ValueError, LookupError, AttributeError):
                self.left_out[NO_PROPOSAL if self.proposals else NO_EVENT] += 1
                continue
            self.labels.append(event[0])
            self.times.append(event[1])
            self.scores.append(event[2])
        self.video.extend(repeat(video, len(self.scores) - before))

    def add_record(self, record: Any) -> None:
        """Our own record of a video; one with `error` instead says that it could not be read."""
        if isinstance(record, Mapping) and isinstance(record.get("database"), Mapping):
            raise InputError(f"{self.path}: these are annotations, not predictions", "are --predictions and --ground-truth swapped?")
        if not isinstance(record, Mapping) or not isinstance(record.get("video"), str) or not {"events", "error"} & record.keys():
            raise InputError(f"{self.path}: these are no predicted events", _SHAPES)
        if "events" not in record:
            self.left_out[NOT_READ] += 1
        else:
            self.add_video(record["video"], record["events"], "start")

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """The lines of a CSV."""
        videos: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if not row.get("video"):
                raise InputError(f"{self.path}: no column 'video'", "a CSV of events has the columns video, start, end, score and label")
            videos.setdefault(row["video"], []).append(row)
        for video, entries in videos.items():
            self.add_video(video, entries, "start")

    def found(self) -> Predictions:
        """All of it; InputError where there are entries and none can be used."""
        unusable = self.left_out[NO_PROPOSAL] + self.left_out[NO_EVENT]
        if unusable and not self.scores:
            what = "two times and a score" if self.proposals else "a label, a score and two times"
            raise InputError(f"{self.path}: none of its {unusable} entries has {what}", _SHAPES)
        return Predictions(EventTable.of(self.video, self.labels, self.times, self.scores), list(self.videos), +self.left_out)

    def _label(self, entry: Mapping[str, Any]) -> str:
        if self.proposals:
            return ""
        label = entry.get("label")
        if label is None and self.label:
            label = str(entry[self.label]).replace(",", "-")
        if not isinstance(label, str | int) or isinstance(label, bool) or label == "":
            raise ValueError
        return str(label)
