"""The folder of `vid gen-pseudo`: written video by video, each of them whole or not at all, by any number of processes.

videos.csv      one row per video; a manifest, usable as --data
manifest.csv    one row per frame: what was done to it
frames/ masks/ flow/ flow_pseudo/    NAME/000000.png ...
pseudo.json     settings, versions, model, finished videos
.done/          per finished video its rows; the tables are put together from them
"""

import csv
import io
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import locks
from tasks.core.data.inputs import Input
from tasks.core.engine.run import differences, environment
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing, write_json, write_text
from tasks.core.flow.flow_png import write_flow
from tasks.core.reporter import Quiet, Reporter
from tasks.core.shard import Shard
from tasks.pseudo.pictures import write_picture

FORMAT = 1
KINDS = ("frames", "masks", "flow", "flow_pseudo")
VIDEO_COLUMNS = ("path", "source", "n_frames", "fps", "spatial", "masks", "temporal", "seed")
FRAME_COLUMNS = (
    *("path", "source", "frame", "t", "spatial", "model", "masks", "mask_kind", "mask_area", "box", "lambda", "box_r", "seed"),
)
_THREADS = 4


class Store:
    """Where pseudo-anomalies go.

    Args:
        out: the folder.
        settings: what they are made with, JSON-able; what is there already was made with the same.
        facts: of the model and other things worth recording.
        shard: processes that write different shards may do so at the same time.

    Raises:
        UsageError: the folder holds something else, pseudo-anomalies made with other settings, or another process writes this shard.
    """

    def __init__(self, out: Path, settings: dict[str, Any], facts: dict[str, Any], shard: Shard, reporter: Reporter | None = None):
        self.out, self.settings, self.facts, self.shard = Path(out), settings, facts, shard
        self.reporter = reporter or Quiet()
        self._lock: Any = None

    def open(self) -> None:
        """Makes the folder or takes it up again."""
        lock = self.out / f".shard-{self.shard.number}-of-{self.shard.count}.lock"
        self._lock = locks.hold(lock, str(self.out) if self.shard.count == 1 else f"shard {self.shard} of {self.out}", self.reporter)
        try:
            with locks.one_at_a_time(self.out / ".lock"):
                self._check()
                (self.out / ".done").mkdir(exist_ok=True)
                self._describe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets another process take up the shard."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def index(self) -> None:
        """Puts `videos.csv`, `manifest.csv` and `pseudo.json` together from everything that is finished, whoever finished it."""
        with locks.one_at_a_time(self.out / ".lock"):
            names = self._finished_names()
            rows = [json.loads((self.out / ".done" / f"{name}.json").read_text(encoding="utf-8"))["video"] for name in names]
            text = io.StringIO()
            table = csv.DictWriter(text, VIDEO_COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_text(self.out / "videos.csv", text.getvalue())
            with replacing(self.out / "manifest.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
                file.write(",".join(FRAME_COLUMNS) + "\n")
                for name in names:
                    file.write((self.out / ".done" / f"{name}.csv").read_text(encoding="utf-8"))
            self._describe()

    def _check(self) -> None:
        try:
            old = json.loads((self.out / "pseudo.json").read_text(encoding="utf-8"))
            if old["format"] != FORMAT or not isinstance(old["settings"], dict):
                raise ValueError
        except FileNotFoundError:
            if any(not path.name.startswith(".") for path in self.out.iterdir()):
                raise UsageError(f"{self.out} is not empty and holds no pseudo-anomalies", "choose another --out") from None
            return
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(f"{self.out / 'pseudo.json'} is not of this tool", "choose another --out") from None
        if changed := differences(old["settings"], self.settings):
            raise UsageError(
                f"{self.out} holds pseudo-anomalies made with other settings: " + "; ".join(changed),
                "repeat the command with the same settings to continue, or choose another --out",
            )

    def _describe(self) -> None:
        known = {"format": FORMAT, "seed": self.settings["seed"], "settings": self.settings, **self.facts, **environment()}
        write_json(self.out / "pseudo.json", {**known, "finished": self._finished_names()})

    def _finished_names(self) -> list[str]:
        return sorted(path.name.removesuffix(".json") for path in (self.out / ".done").glob("*.json") if not path.name.startswith("."))


class VideoWriter:
    """The pictures of one video, written by threads under temporary names; `finish` gives them theirs."""

    def __init__(self, out: Path, name: str, kinds: tuple[str, ...]):
        self.out, self.name = out, name
        self.folders = {kind: (out / kind / f".{name}.partial", out / kind / name) for kind in kinds}
        self._pool = ThreadPoolExecutor(_THREADS)
        self._waiting: list[Future] = []

    def __enter__(self) -> "VideoWriter":
        if (done := self.out / ".done" / f"{self.name}.json").exists():  # it goes before what it tells of
            with locks.one_at_a_time(self.out / ".lock"):
                done.unlink(missing_ok=True)
        for partial, final in self.folders.values():
            for stale in (partial, final):
                shutil.rmtree(stale, ignore_errors=True)
            partial.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for partial, _final in self.folders.values():
            shutil.rmtree(partial, ignore_errors=True)

    def put(self, kind: str, number: int, picture: np.ndarray) -> None:
        """Writes a frame `(H, W, 3)` uint8, a mask `(H, W)` bool or a flow `(2, H, W)` float32, soon."""
        write = write_flow if kind.startswith("flow") else write_picture
        self._waiting.append(self._pool.submit(write, self.folders[kind][0] / file_name(number), picture))

    def flush(self) -> None:
        """Waits until everything is written; raises what a writer raised."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.result()

    def finish(self, video: dict[str, Any], frames: list[dict[str, Any]], record: dict[str, Any]) -> None:
        """Renames the folders and writes down that the video is done, in this order."""
        self.flush()
        for partial, final in self.folders.values():
            os.replace(partial, final)
        text = io.StringIO()
        csv.DictWriter(text, FRAME_COLUMNS, lineterminator="\n").writerows(frames)
        done = self.out / ".done"
        write_text(done / f"{self.name}.csv", text.getvalue())
        write_json(done / f"{self.name}.json", {"video": video, "record": record})


def finished(out: Path, source: Input) -> dict[str, Any] | None:
    """The record of a video that is there already and has not changed since, else None.

    Raises:
        InputError: another video was made under this name.
    """
    done = out / ".done" / f"{source.name}.json"
    try:
        kept = json.loads(done.read_text(encoding="utf-8"))
        record, made_from, made_at = kept["record"], kept["video"]["source"], done.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if os.path.exists(made_from) and os.path.realpath(made_from) != os.path.realpath(source.row.path):  # else it has been moved
        raise InputError(
            f"{out} holds '{source.name}' made from another video, {made_from}",
            "choose another --out, or give all videos in one command, which gives each a name of its own",
        )
    changed = os.path.exists(source.row.path) and made_at < os.path.getmtime(source.row.path)
    return None if changed else record


def file_name(number: int) -> str:
    """000000.png, 000001.png, ..."""
    return f"{number:06d}.png"
