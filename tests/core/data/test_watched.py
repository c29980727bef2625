"""A decoder that crashes or hangs in a loader process costs one video, not the run."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from painted import write_video
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from tasks.core.clips.config import DataConfig
from tasks.core.clips.loader import ClipDataset, collate, make_train_loader
from tasks.core.data import watched
from tasks.core.data.feed import data_loader
from tasks.core.data.manifest import Row
from tasks.core.data.sampler import EvalBatches, StepSampler
from tasks.core.errors import VidError
from tasks.core.video.cache import index_of

DATA = DataConfig(clip={"frames": 2, "stride_frames": 2}, workers=2)


class Misbehaving(ClipDataset):
    """Stands for a decoder that crashes or hangs after a file was indexed."""

    def __getitem__(self, key):
        name = os.path.basename(self.rows[key[0]].path)
        if "crash" in name:
            os._exit(11)
        if "hang" in name:
            threading.Event().wait()
        return super().__getitem__(key)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The loader looks after its processes every five seconds otherwise."""
    monkeypatch.setattr(watched, "_BEAT_S", 0.5)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))


@pytest.fixture
def rows(tmp_path):
    """Of videos that are indexed: a first look starts a process, whose time would count."""
    names = ("a", "crash", "b", "c", "hang", "d")
    made = [Row(str(write_video(tmp_path / f"{name}.mp4", 8))) for name in names]
    for row in made:
        index_of(row.path)
    return made


def test_what_kills_or_hangs_is_skipped_and_named_and_all_else_comes_as_before(rows, monkeypatch):
    monkeypatch.setattr(watched, "LIMIT_S", 3.0)
    loader = data_loader(Misbehaving(rows, DATA, None, seed=3), StepSampler(6, 2, shuffle=False), DATA, collate)
    found = list(itertools.islice(loader, 6))
    plain = list(itertools.islice(make_train_loader(rows, DATA.model_copy(update={"workers": 0}), None, 2, seed=3, shuffle=False), 6))
    skipped = {os.path.basename(path): reason for batch in found for path, reason in batch["skipped"]}
    assert skipped == {
        "crash.mp4": "a loader process ended (exit 11) while reading it",
        "hang.mp4": "reading it did not end within 3 s",
    }
    for one, other in zip(found, plain, strict=True):
        kept = np.isin(other["uid"].numpy(), (1, 4), invert=True)
        assert one["uid"].tolist() == other["uid"][kept].tolist()
        assert torch.equal(one["video"], other["video"][kept])


def test_a_process_that_dies_while_it_hands_over_a_batch(rows, monkeypatch):
    whole, struck = _MultiProcessingDataLoaderIter._try_get_data, []
    loader = data_loader(Misbehaving([rows[4], rows[0]], DATA, None, "views"), EvalBatches(2, 1), DATA, collate=collate)

    def torn(self, *timeout):
        if not struck and loader._items._reading[0, 0] == 0:
            struck.append(self._workers[0].kill())
            raise ConnectionResetError(104, "Connection reset by peer")
        return whole(self, 0.5)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", torn)
    first, second = loader
    assert [(os.path.basename(path), reason) for path, reason in first["skipped"]] == [
        ("hang.mp4", "a loader process ended (exit -9) while reading it")
    ]
    assert second["uid"].tolist() == [1]


class Dying(ClipDataset):
    def __getitem__(self, key):
        os._exit(7)


def test_processes_that_always_die_are_not_a_matter_of_one_file(rows, monkeypatch):
    monkeypatch.setattr(watched, "MOST_DEATHS", 0)
    one = DATA.model_copy(update={"workers": 1})
    with pytest.raises(VidError, match="end without a word"):
        next(iter(data_loader(Dying(rows, one, None), StepSampler(6, 2), one, collate)))


def test_what_a_worker_raises_stays_what_it_is(rows):
    with pytest.raises(RuntimeError, match="the collation is wrong"):
        next(iter(data_loader(ClipDataset(rows[:1], DATA, None), EvalBatches(1, 1), DATA, collate=_broken)))


def test_an_error_leaves_no_process_behind(rows):
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="the collation is wrong"):
        next(iter(data_loader(ClipDataset(rows[:1], DATA, None), EvalBatches(1, 1), DATA, collate=_broken)))
    assert set(multiprocessing.active_children()) <= before


def _broken(samples):
    raise RuntimeError("the collation is wrong")


def test_a_second_pass_begins_at_the_start(rows):
    loader = data_loader(ClipDataset([rows[0], rows[2], rows[3]], DATA, None, "views"), EvalBatches(3, 1), DATA, collate=collate)
    for _ in range(2):
        assert [uid for batch in loader for uid in batch["uid"].tolist()] == [0, 1, 2]
    assert len(loader) == 3


def test_processes_end_with_the_one_that_started_them(rows, tmp_path):
    """Killed, it can end none of them: what they hold open (its output too) closes all the same."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from tasks.core.clips.config import DataConfig\n"
        "from tasks.core.clips.loader import make_train_loader\n"
        "from tasks.core.data.manifest import index_path\n"
        "if __name__ == '__main__':\n"
        f"    loader = make_train_loader(index_path({rows[0].path!r}), DataConfig(clip={{'frames': 2}}, workers=2), None, 1)\n"
        "    next(iter(loader))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, script], env=env, stdout=subprocess.PIPE, timeout=60)  # until nobody can write to it
    assert done.returncode == -signal.SIGKILL
