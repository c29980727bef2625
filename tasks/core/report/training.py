"""The page of a training run: what came out, curves, confusion, the hardest clips, what the network saw. Reads the run's files only."""

import csv
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.rows import Row
from tasks.core.engine.run import read_metrics, read_skipped
from tasks.core.engine.samples import SAMPLES
from tasks.core.report import figures
from tasks.core.report.cards import jpeg
from tasks.core.report.films import strip
from tasks.core.report.page import Page
from tasks.core.video.reader import VideoError

REPORT = "report.html"
HARDEST, FRAMES, SIDE_PX = 12, 7, 96
MOST_CURVES = 24
MOST_PICTURES = 8
_POSITION = ("step", "total", "epoch", "kind", "clips", "skipped")
_SPEED = ("clips_per_s", "wait_share")
_LISTED = ("run", "model", "predictions", "picture", "confusion")


def write_report(folder: Path) -> Path:
    """Writes `report.html` of a run folder from what lies there, whichever task the run is of; returns its path.

    The page appears whole or not at all and asks for nothing outside itself.
    """
    facts, result = _object(folder / "run.json"), _object(folder / "result.json")
    words = (f"{facts.get('verb')} of task {facts.get('task')}", facts.get("preset"), facts.get("device"))
    page = Page(folder.resolve().name, " · ".join(str(word) for word in words if word))
    _result(page, folder, result)
    _curves(page, logs_of(folder))
    _seen(page, folder)
    _hardest(page, folder)
    _skipped(page, folder)
    _details(page, folder, facts)
    return page.write(folder / REPORT)


def logs_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines of metrics.jsonl: of the run by the name "", else of each of its parts by the part's."""
    files = {"": folder / "metrics.jsonl"} if (folder / "metrics.jsonl").is_file() else {}
    files = files or {path.parent.name: path for path in sorted(folder.glob("*/metrics.jsonl"))}
    return {name: read_metrics(path) for name, path in files.items()}


def kind_of(records: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """The lines of one kind: `train` or `eval`."""
    return [record for record in records if record.get("kind") == kind]


def read_confusion(path: Path) -> tuple[list[str], np.ndarray]:
    """Labels, and counts (n, n), of a confusion.csv: rows are the truth, columns the prediction."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file))
    return header[1:], np.array([[int(count) for count in line[1:]] for line in lines])


def loss_figures(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """(drawing, caption) of losses in training and of what evaluations found."""
    train, tested = ({name: kind_of(records, kind) for name, records in logs.items()} for kind in ("train", "eval"))
    losses = [key for key in _keys(train) if key == "loss" or key.endswith("_loss") or key == "reconstruction"]
    found = [(figures.curves(_series(train, losses), "loss"), "losses in training")] if losses else []
    shares = [key for key in _keys(tested) if key not in ("n", "n_skipped")]
    return found + ([(figures.curves(_series(tested, shares), ""), "evaluations")] if shares else [])


def other_figures(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """(drawing, caption) of everything else that was logged in training, one each."""
    train = {name: kind_of(records, "train") for name, records in logs.items()}
    drawn = [key for key in _keys(train) if key != "loss" and not key.endswith("_loss") and key != "reconstruction"]
    ordered = sorted(drawn, key=lambda key: key in _SPEED)
    return [(figures.curves(_series(train, [key]), key.replace("_", " ")), key.replace("_", " ")) for key in ordered[:MOST_CURVES]]


def _keys(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Names of the numbers that were logged, in the order in which they appear."""
    records = (record for records in logs.values() for record in records)
    numbers = (key for record in records for key, value in record.items() if isinstance(value, int | float) and not isinstance(value, bool))
    return [key for key in dict.fromkeys(numbers) if key not in _POSITION]


def _series(logs: Mapping[str, Sequence[Mapping[str, Any]]], keys: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    return {
        " ".join(word for word in (name, key.replace("_", " ")) if word): figures.points(records, key)
        for name, records in logs.items()
        for key in keys
    }


def _result(page: Page, folder: Path, result: Mapping[str, Any]) -> None:
    numbers = {key: value for key, value in result.items() if key not in _LISTED and isinstance(value, int | float | str)}
    if numbers:
        page.section("Result").facts(numbers)
    if (folder / "confusion.csv").is_file():
        labels, matrix = read_confusion(folder / "confusion.csv")
        page.section("Confusion").figure(figures.confusion(matrix, labels), "rows are the truth, columns the prediction")


def _curves(page: Page, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    first, others = loss_figures(logs), other_figures(logs)
    if first or others:
        page.section("Training").gallery(first)
    if others:
        page.section("More of what was logged").gallery(others)


def _seen(page: Page, folder: Path) -> None:
    if (folder / SAMPLES).is_file():
        page.section("What the network saw")
        page.text("Clips of the first batch of training, cropped and changed as the settings say, time from left to right.")
        page.wide((folder / SAMPLES).read_bytes(), "the first clips")
    pictures = sorted((folder / "pictures").glob("*.png")) or sorted(folder.glob("*.png"))
    pictures = [picture for picture in pictures if picture.name != SAMPLES][:MOST_PICTURES]
    if pictures:
        page.section("Pictures of the end of the run")
    for picture in pictures:
        page.wide(picture.read_bytes(), picture.stem)


def _hardest(page: Page, folder: Path) -> None:
    """The tested videos to whose class the model gave the least probability, with frames of those that can be read."""
    found = hardest(folder / "predictions.csv") if (folder / "predictions.csv").is_file() else []
    if not found:
        return
    page.section(f"The {len(found)} hardest videos").text("To their own class the model gave the least probability.")
    pictures, rows = [], []
    for path, label, predicted, probability in found:
        caption = f"{label}, taken for {predicted}" if label != predicted else label
        rows.append([Path(path).name, label, predicted, probability])
        try:
            film = jpeg(strip(Row(path), FRAMES, SIDE_PX), FRAMES * SIDE_PX)
        except VideoError:
            continue
        pictures.append((film, f"{caption} ({probability:.2f}): {Path(path).name}"))
    page.gallery(pictures)
    page.table(["video", "class", "predicted", "probability of its class"], rows)


def hardest(file: Path, count: int = HARDEST) -> list[tuple[str, str, str, float]]:
    """(path, class, predicted class, probability of its own class) of the videos in a predictions.csv, the least probable first."""
    with open(file, newline="", encoding="utf-8") as lines:
        header, *rows = list(csv.reader(lines))
    places = {name: place for place, name in enumerate(header[3:], start=3)}
    found = [(path, label, predicted, float(row[places[label]])) for row in rows for path, label, predicted in [row[:3]] if label in places]
    return sorted(found, key=lambda item: item[3])[:count]


def _skipped(page: Page, folder: Path) -> None:
    skipped = read_skipped(folder / "skipped.csv")
    if skipped:
        page.section(f"Skipped: {len(skipped)} videos").table(["video", "reason"], list(skipped.items())[:50])


def _details(page: Page, folder: Path, facts: Mapping[str, Any]) -> None:
    import yaml

    page.section("Details")
    if isinstance(facts.get("argv"), list):
        page.code(shlex.join(map(str, facts["argv"])))
    page.facts({key.replace("_", " "): value for key, value in facts.items() if isinstance(value, int | float | str)})
    try:
        page.code(yaml.safe_dump(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), sort_keys=False, allow_unicode=True))
    except (OSError, yaml.YAMLError):
        return


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
