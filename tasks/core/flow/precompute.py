"""`vid data flow`: the optical flow of any number of videos, computed once and kept in a folder."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.data.inputs import Input
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.folder import file_for, open_for_writing, read_facts, write_video
from tasks.core.flow.levels import stream_pictures
from tasks.core.report.outputs import readable
from tasks.core.reporter import Reporter
from tasks.core.shard import Shard
from tasks.core.video.children import each
from tasks.core.video.fingerprint import fingerprint
from tasks.core.video.frame_count import expect
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError


@dataclass(frozen=True)
class Job:
    """What is done to every video.

    Attributes:
        out: the folder.
        settings: of the flow.
        device: where TV-L1 runs.
        overwrite: do again what is there.
    """

    out: Path
    settings: FlowSettings
    device: torch.device
    overwrite: bool = False


def run(job: Job, inputs: list[Input], shard: Shard, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Flow of this shard's videos, each of them whole: parts of the same video are one video here.

    Args:
        workers: processes; on a GPU there is one, this one.

    Yields, in the order of the inputs:
        `{"video", "files", "n_frames", "n_flows", "height", "width", "fingerprint", "damage"}` and the settings; `{"video", "error"}` for
        one that cannot be read; a record with `"skipped": True` for one that was there.

    Raises:
        UsageError: the folder holds something else, or flow computed otherwise.
    """
    videos = list({source.row.path: source for source in reversed(inputs)}.values())[::-1]
    own = shard.own(videos, attrgetter("name"), reporter)
    open_for_writing(job.out, job.settings)
    here = 0 if job.device.type != "cpu" else workers
    yield from each(
        partial(one, job), own, here, reporter, "computing flow", "video", lambda source, reason: {"video": source.shown, "error": reason}
    )


def one(job: Job, source: Input, advance: Callable[[int], None] = lambda n: None) -> dict[str, Any]:
    """The record of one video, whose flow is computed now or was before."""
    path = source.row.path
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # the other cores have videos of their own
    try:
        mark = fingerprint(path)
        file = file_for(job.out, path, mark)
        if not job.overwrite and (facts := read_facts(file)) is not None:
            return {"video": source.shown, "files": [str(file)], **facts, "skipped": True}
        with open_video(path) as reader:
            expect(advance, reader.n_frames)
            facts = {
                "source": readable(os.path.abspath(path)),
                "fingerprint": mark,
                "n_frames": reader.n_frames,
                **job.settings.model_dump(mode="json"),
            }
            facts = write_video(file, facts, _counted(stream_pictures(reader, job.settings, job.device), advance))
            return {"video": source.shown, "files": [str(file)], **facts, "damage": reader.damage}
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}


def _counted(parts: Iterator[np.ndarray], advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    for part in parts:
        yield part
        advance(len(part))
