"""A detector's scores as a file, so that another threshold or another output needs no second look at the video.

`NAME.boundaries.scores.csv`: a first line `# {...}` with what is known of the video as JSON, then a table `t,frame,score`, of the
training-free detector also `kind`. Spreadsheets
open it as it stands, `pandas.read_csv(path, comment="#")` reads the table.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tasks.boundaries.result import KINDS, Detection, Scores
from tasks.core.errors import InputError
from tasks.core.files import replacing
from tasks.core.report.outputs import video_facts

SUFFIX = ".boundaries.scores.csv"
_SHORT = ".scores.csv"
"""How the names of earlier versions end; `SUFFIX` ends so too."""
_VERSION = 1
_HEADERS = ("t,frame,score", "t,frame,score,kind")
_AGAIN = "detect again with --save-scores"
_TYPES = {
    "rows": int,
    "video": str,
    "method": str,
    "settings": dict,
    "n_frames": int,
    "fps": float,
    "duration_s": float,
    "start_s": float,
    "width": int,
    "height": int,
    "damage": str | None,
    "part": list | None,
    "file_start_s": float,
    "file": str,
}


def write_scores(path: Path, detection: Detection) -> None:
    """Writes scores and everything else but the boundaries. Times are float64 and scores float32, both exact.

    Args:
        path: by custom `NAME` + `SUFFIX`; appears whole or not at all.
        detection: what was found.
    """
    scores = detection.scores
    known = {
        "version": _VERSION,
        "rows": len(scores),
        "video": detection.path,
        "method": detection.method,
        "settings": detection.settings,
        **video_facts(detection),
        "damage": detection.damage,
        "part": None if detection.part is None else list(detection.part),
        "file_start_s": float(detection.file_start_s),
        "file": detection.file,
    }
    # the shortest text that reads back as the same number, of each width
    columns = [map(repr, scores.t.tolist()), map(str, scores.frame.tolist()), map(str, scores.score.astype(np.float32))]
    if scores.kind is not None:
        columns.append(KINDS[place] for place in scores.kind)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"# {json.dumps(known)}\n{_HEADERS[scores.kind is not None]}\n")
        file.writelines(",".join(cells) + "\n" for cells in zip(*columns, strict=True))


def saved_in(source: Path) -> list[tuple[str, Path]]:
    """Files of scores: this one, or those directly in this folder, each with what the names of its outputs begin with.

    Raises:
        InputError: a folder without scores.
    """
    files = sorted(source.glob(f"*{_SHORT}"), key=lambda file: file.name.endswith(SUFFIX)) if source.is_dir() else [source]
    if not files:
        raise InputError(f"{source}: no scores in this folder", "--save-scores writes them")
    found = {file.name.removesuffix(SUFFIX).removesuffix(_SHORT): file for file in files}  # of both names the present one
    return sorted(found.items(), key=lambda item: item[1])


def read_scores(path: Path) -> Detection:
    """Reads what `write_scores` wrote; empty lines at the end do no harm.

    Returns:
        The detection without boundaries: `settings` holds what was set when the scores were made.

    Raises:
        InputError: no such file, damaged (names the line), or of another version.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "--save-scores writes it") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: no text", _AGAIN) from None
    known = _known(path, lines[0])
    if len(lines) < 2 or lines[1].strip() not in _HEADERS:
        raise _damage(path, 2, f"'{_HEADERS[0]}' expected")
    if len(lines) - 2 != known["rows"]:
        raise _damage(path, len(lines), f"{len(lines) - 2} rows of scores, {known['rows']} expected")
    scores = _scores(path, lines[2:], known["n_frames"], with_kind=lines[1].strip() == _HEADERS[1])
    rest = {key: known[key] for key in _TYPES if key not in ("rows", "video")}
    rest["part"] = None if rest["part"] is None else tuple(rest["part"])
    return Detection(path=known["video"], scores=scores, **rest)


def _known(path: Path, line: str) -> dict[str, Any]:
    try:
        known = json.loads(line.removeprefix("#"))
    except ValueError:
        known = None
    if not line.startswith("#") or not isinstance(known, dict):
        raise _damage(path, 1, "'# {...}' with what is known of the video expected")
    if known.get("version") != _VERSION:
        raise InputError(f"{path}, line 1: scores of version {known.get('version')}, this program reads version {_VERSION}", _AGAIN)
    for key, kind in _TYPES.items():
        value = known.get(key)
        if key not in known or isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
            raise _damage(path, 1, f"'{key}' is missing or of the wrong kind")
    return known


def _scores(path: Path, lines: list[str], n_frames: int, with_kind: bool) -> Scores:
    t = np.empty(len(lines), dtype=np.float64)
    frame = np.empty(len(lines), dtype=np.int64)
    score = np.empty(len(lines), dtype=np.float32)
    kind = np.zeros(len(lines), dtype=np.uint8)
    for i, line in enumerate(lines):
        try:
            cells = line.split(",")
            t[i], frame[i], score[i] = float(cells[0]), int(cells[1]), np.float32(cells[2])
            kind[i] = KINDS.index(cells[3].strip()) if with_kind else 0
            sound = len(cells) == 3 + with_kind and math.isfinite(t[i]) and 0 <= frame[i] < n_frames and 0 <= score[i] <= 1
        except (ValueError, IndexError, OverflowError):
            sound = False
        if not sound:
            raise _damage(path, i + 3, "a time, a frame of the video and a score from 0 to 1 expected")
        if i and not (t[i] > t[i - 1] and frame[i] > frame[i - 1]):
            raise _damage(path, i + 3, "time or frame does not increase")
    return Scores(t, frame, score, kind if with_kind else None)


def _damage(path: Path, line: int, reason: str) -> InputError:
    return InputError(f"{path}, line {line}: {reason}", _AGAIN)
