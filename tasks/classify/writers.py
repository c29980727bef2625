"""What `vid eval classify` writes: the result, a table, a page of nearest neighbours."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.classify.config import EvalConfig
from tasks.classify.search import Search, name_of
from tasks.classify.views import Outputs
from tasks.core.files import replacing, write_json
from tasks.core.inference.output import RECORD, Output
from tasks.core.report.probabilities import write_probabilities
from tasks.core.reporter import Reporter

SUFFIXES = {RECORD: ".json", "csv": ".csv", "html": ".html"}
"""Kind of file -> what follows the protocol in its name; `json` is the result."""
COLUMNS = ("query", "label", "method", "rank", "neighbour", "neighbour_label", "similarity")


def write_test(output: Output, result: dict[str, Any], outputs: Outputs, labels: list[str]) -> list[str]:
    """Files of a test of classifiers: the result and, as CSV, probabilities of every video. Returns their paths."""
    files = output.files(SUFFIXES, result["protocol"])
    if "csv" in files:
        write_probabilities(files["csv"], outputs.paths, outputs.labels, outputs.values, labels)
    return _recorded(files, result)


def write_search(output: Output, result: dict[str, Any], found: Search, config: EvalConfig, reporter: Reporter) -> list[str]:
    """Files of a search: the result, as CSV the nearest of every query, the page. Returns their paths."""
    files = output.files(SUFFIXES, result["protocol"])
    if "csv" in files:
        write_neighbours(files["csv"], found, config.page.neighbours)
    if "html" in files:
        from tasks.classify.page import write_page

        write_page(files["html"], result, found, config, reporter)
    return _recorded(files, result)


def write_neighbours(path: Path, found: Search, k: int) -> None:
    """CSV of `COLUMNS`: the k nearest of every query by every method, rank 1 the most similar."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for method in found.methods:
            writer.writerows(_lines(found, method, k))


def _lines(found: Search, method: str, k: int) -> Iterator[tuple[Any, ...]]:
    for query, places in enumerate(found.nearest(method, k)):
        row = found.query_rows[int(found.queries.uids[query])]
        for rank, place in enumerate(places, start=1):
            other = found.gallery_rows[int(found.gallery.uids[place])]
            similarity = f"{found.methods[method][query, place]:.6f}"
            yield name_of(row), row.label, method, rank, name_of(other), other.label, similarity


def _recorded(files: dict[str, Path], result: dict[str, Any]) -> list[str]:
    paths = [str(file) for file in files.values()]
    write_json(files[RECORD], {**result, "files": paths})
    return paths
