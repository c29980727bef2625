"""What `vid classify` writes of a video: a table, a page. Nothing here classifies anything."""

import csv
import io
from pathlib import Path

from tasks.classify.labelling import Labelling
from tasks.core import files
from tasks.core.inference.detector import Footage
from tasks.core.inference.output import RECORD
from tasks.core.report.outputs import readable

SUFFIXES = {RECORD: ".labels.json", "csv": ".labels.csv", "html": ".labels.html"}
"""Kind of file -> how its name ends."""
COLUMNS = ("video", "of", "start", "end", "rank", "label", "score")


def write_file(kind: str, path: Path, labelling: Labelling, opened: Footage) -> None:
    """Writes one kind of file; it appears whole or not at all.

    Args:
        kind: of `SUFFIXES`, without the record.
        path: the file.
        labelling: what was said.
        opened: the video, for pictures.
    """
    if kind == "html":
        from tasks.classify.label_page import write_report

        write_report(path, labelling, opened)
    else:
        write_csv(path, labelling)


def write_csv(path: Path, labelling: Labelling) -> None:
    """Writes `COLUMNS`: the classes of the whole video (`of` is video), then those of each window (`of` is window), the best first."""
    whole = labelling.start_s, labelling.start_s + labelling.duration_s, labelling.probabilities
    windows = [(*times, values) for times, values in zip(labelling.times.tolist(), labelling.windows, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, (start, end, values) in enumerate([whole, *windows]):
        for rank, (label, score) in enumerate(labelling.named(values), start=1):
            of = "window" if number else "video"
            writer.writerow((readable(labelling.path), of, round(start, 4), round(end, 4), rank, label, score))
    files.write_text(path, text.getvalue())
