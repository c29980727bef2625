"""Reading every file of a manifest once, and saying what is wrong with it before a GPU waits for it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.core.data.captions import FALLBACK, read_subtitles
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError


@dataclass
class CheckResult:
    """What was found out about one row.

    Attributes:
        row: its number;
        path, label: as in the manifest.
        ok: frames can be read from it.
        problems: what is wrong with the file, its part or its captions, in words; a row can be ok and have problems.
        n_frames: really decodable;
        header_frames: claimed by the header, 0 where it claims none.
        duration_s: from the first to the end of the last frame;
        fps: average;
        vfr: variable frame rate;
        b_frames: stored out of order.
        sound: `codec`, `rate` (Hz), `channels` and `offset_s` (how much later than the pictures it begins) by the header; None: no sound.
        seek: reader -> {"wrong", "queries"} of random access compared with sequential decoding, or {"error"}.
        sha256: of the content;
        duplicate_of: path of an earlier row with the same content.
    """

    row: int
    path: str
    label: str | None = None
    ok: bool = False
    problems: list[str] = field(default_factory=list)
    n_frames: int = 0
    header_frames: int = 0
    duration_s: float = 0.0
    fps: float = 0.0
    vfr: bool = False
    codec: str | None = None
    container: str | None = None
    b_frames: bool = False
    height: int = 0
    width: int = 0
    size_bytes: int = 0
    sound: dict[str, Any] | None = None
    seek: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: str | None = None
    duplicate_of: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def seek_ok_decord(self) -> bool | None:
        """Whether decord was exact; None where it was not tried. A manifest keeps it in the column of this name."""
        found = self.seek.get("decord")
        return None if found is None else found.get("wrong") == 0


def check_rows(
    rows: list[Row],
    workers: int | None = None,
    timeout_s: float = 300.0,
    few: int = 2,
    seek: bool = True,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[CheckResult]:
    """Check every row, each file once, in separate processes; results come in the order of the rows.

    A file on which a decoder hangs or crashes is reported like any other unreadable one. Indexes stay in the cache,
    where readers find them.

    Args:
        workers: processes; None: one per core, at most 8.
        timeout_s: time for one file.
        few: classes with fewer rows than this are named as a problem of each of their rows.
        seek: also measure random access (costs a second decoding of part of each file).
        stopped: asked now and then; True ends it, and the rows that are left get no result.
    """
    from tasks.core.video.checkers import run_all
    from tasks.core.video.children import default_workers

    count = Counter(row.label for row in rows)
    labelled = any(row.label is not None for row in rows)
    captions = _CaptionCheck(any(row.text is not None for row in rows), any(row.subtitles is not None for row in rows))
    first_with: dict[str, str] = {}
    paths = list(dict.fromkeys(row.path for row in rows))
    answers: dict[str, dict[str, Any]] = {}
    waiting = iter(run_all(paths, default_workers(workers), timeout_s, seek, stopped))
    for number, row in enumerate(rows):
        while row.path not in answers:
            answer = next(waiting, None)
            if answer is None:
                return
            answers[answer[0]] = answer[1]
        facts = answers[row.path]
        result = CheckResult(number, row.path, row.label, **{**facts, "problems": list(facts.get("problems", []))})
        result.problems += [*_part_problems(row, result), *captions.problems(row)]
        if labelled and row.label is None:
            result.problems.append("no label")
        elif labelled and count[row.label] < few:
            result.problems.append(f"class '{row.label}' has only {count[row.label]} row" + "s" * (count[row.label] != 1))
        if result.sha256:
            earlier = first_with.setdefault(result.sha256, row.path)
            if earlier != row.path:
                result.duplicate_of = earlier
                result.problems.append(f"same content as {earlier}")
        yield result


def summary(results: Iterable[CheckResult]) -> dict[str, Any]:
    """Totals of a check: rows, files ok and not, vfr, with sound, duplicates, unlabelled, hours, rows per class, codecs, exact readers."""
    results = list(results)
    files = list({r.path: r for r in results}.values())
    return {
        "rows": len(results),
        "files": len(files),
        "ok": sum(r.ok for r in results),
        "failed": sum(not r.ok for r in results),
        "with_problems": sum(bool(r.problems) for r in results),
        "vfr": sum(r.vfr for r in files),
        "b_frames": sum(r.b_frames for r in files),
        "duplicates": sum(r.duplicate_of is not None for r in results),
        "unlabelled": sum(r.label is None for r in results),
        "with_sound": sum(r.sound is not None for r in files),
        "hours": sum(r.duration_s for r in files) / 3600,
        "codecs": dict(Counter(f"{r.codec} in {r.container}" for r in files if r.codec)),
        "classes": dict(sorted(Counter(r.label for r in results if r.label is not None).items())),
        "pyav_inexact": sum(r.seek.get("pyav", {}).get("wrong", 0) > 0 for r in files),
        "decord_exact": sum(r.seek_ok_decord is True for r in files),
        "decord_inexact": sum(r.seek_ok_decord is False for r in files),
    }


def _part_problems(row: Row, result: CheckResult) -> list[str]:
    """What is wrong with the part of the video that a row names; an end within a frame of the video's is its end."""
    found = []
    if row.start_s is not None and row.end_s is not None and row.end_s <= row.start_s:
        found.append(f"its part ends at {row.end_s:g} s and begins at {row.start_s:g} s")
    if not result.ok or not result.duration_s:
        return found
    if row.start_s is not None and row.start_s >= result.duration_s:
        found.append(f"its part begins at {row.start_s:g} s, the video is {result.duration_s:.2f} s long")
    elif row.end_s is not None and row.end_s > result.duration_s + 1 / max(result.fps, 1):
        found.append(f"its part ends at {row.end_s:g} s, the video is {result.duration_s:.2f} s long")
    return found


class _CaptionCheck:
    """Looks at text and subtitles of rows, at each file once.

    Args:
        texts: whether some row has a text, so that all should.
        subtitles: whether some row names a file.
    """

    def __init__(self, texts: bool, subtitles: bool):
        self.texts, self.subtitles = texts, subtitles
        self.files: dict[str, list[str]] = {}

    def problems(self, row: Row) -> list[str]:
        """What is wrong with the captions of a row."""
        found = ["no text"] if self.texts and row.text is None else []
        if row.subtitles is None:
            return found or (["no subtitles"] if self.subtitles and row.text is None else [])
        if row.subtitles not in self.files:
            self.files[row.subtitles] = _subtitle_problems(row.subtitles)
        return found + self.files[row.subtitles]


def _subtitle_problems(path: str) -> list[str]:
    try:
        read = read_subtitles(path)
    except InputError as error:
        return [f"subtitles: {error.message}"]
    found = [f"subtitles are not in UTF-8, read as {FALLBACK}"] if read.encoding == FALLBACK else []
    return found if read.sentences else [*found, "subtitles say nothing"]
