"""Whoever opens a file survives it."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from painted import write_video

from tasks.core.errors import VidError
from tasks.core.video import cache, guard
from tasks.core.video.children import run_children
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

DECODER = """
import os, signal, threading
from tasks.core.video import guard, index
def build_index(path, full):
    name = os.path.basename(path)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        threading.Event().wait()
    if "raise" in name:
        raise RuntimeError("broken")
    return real(path, full)
real, index.build_index = index.build_index, build_index
guard.serve({fd}, {parent})
"""


@pytest.fixture
def bad_decoder(monkeypatch):
    """Looking processes whose decoder crashes, hangs or raises where a file's name says so; no process is shared with other tests."""
    monkeypatch.setattr(guard, "_ONE_LINE", DECODER)
    monkeypatch.setattr(guard, "_idle", [])
    monkeypatch.setattr(guard, "_own_risk", False)
    yield
    for looker in guard._idle:
        looker.kill()


def named(folder, name):
    return write_video(folder / f"{name}.mp4", 6)


def test_a_crash_costs_one_file_and_is_remembered(tmp_path, bad_decoder, monkeypatch):
    crash, good = named(tmp_path, "crash"), named(tmp_path, "good")
    with pytest.raises(VideoError, match=rf"crash.mp4: its decoder crashed \(exit -{signal.SIGSEGV.value}\)"):
        open_video(crash)
    assert open_video(good).n_frames == 6
    monkeypatch.setattr(guard, "acquire_worker", None)  # nothing is asked again
    with pytest.raises(VideoError, match="its decoder crashed"):
        open_video(crash)
    monkeypatch.setattr(cache, "REFUSED_S", 0.0)
    with pytest.raises(TypeError):
        open_video(crash)


def test_a_hang_is_ended(tmp_path, bad_decoder, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT_S", 1.0)
    with pytest.raises(VideoError, match="gave no answer within 1 s"):
        open_video(named(tmp_path, "hang"))
    assert not guard._idle


def test_what_a_decoder_raises_is_about_the_file(tmp_path, bad_decoder):
    with pytest.raises(VideoError, match=r"cannot be read \(RuntimeError: broken\)"):
        open_video(named(tmp_path, "raise"))
    (looker,) = guard._idle
    assert open_video(named(tmp_path, "good")).n_frames == 6
    assert guard._idle == [looker]


def test_a_process_that_went_for_want_of_work_is_replaced(tmp_path, bad_decoder):
    open_video(named(tmp_path, "good"))
    (looker,) = guard._idle
    looker.kill()
    assert open_video(named(tmp_path, "other")).n_frames == 6
    assert guard._idle != [looker]


def test_a_signal_to_all_does_not_reach_it(tmp_path, bad_decoder):
    open_video(named(tmp_path, "good"))
    (looker,) = guard._idle
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(looker._process.pid, number)
    assert open_video(named(tmp_path, "other")).n_frames == 6
    assert guard._idle == [looker]


def looked_at_by(path, note):
    """Work of a process that may be killed: opens a file and counts the processes that were asked."""
    reader = open_video(path)
    assert reader.n_frames == 6
    return len(guard._idle)


def test_a_process_that_may_be_killed_looks_itself(tmp_path):
    path = str(named(tmp_path, "good"))
    found = list(run_children(looked_at_by, [path], 1, lambda note: 60.0))
    assert found[-1][1:] == ("done", 0)


def test_threads_look_at_the_same_time(tmp_path, bad_decoder):
    paths = [named(tmp_path, f"good{i}") for i in range(3)]
    threads = [threading.Thread(target=open_video, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cache.index_of(path) is not None for path in paths)
    assert 1 <= len(guard._idle) <= 3


def test_a_process_that_cannot_begin_is_no_fault_of_the_file(tmp_path, bad_decoder, monkeypatch):
    good = named(tmp_path, "good")
    for ending in ("raise SystemExit(1)", "pass"):
        monkeypatch.setattr(guard, "_ONE_LINE", ending)
        with pytest.raises(VidError, match="does not start") as caught:
            open_video(good)
        assert not isinstance(caught.value, VideoError)
    monkeypatch.setattr(guard, "_ONE_LINE", DECODER)
    assert open_video(good).n_frames == 6


def test_modules_of_the_working_folder_are_not_taken_for_ours(tmp_path):
    """Neither where a file is first looked at nor in loader processes."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "tasks.py").write_text("")
    named(tmp_path, "a"), named(tmp_path, "b")
    script = tmp_path / "script.py"
    script.write_text(
        "from tasks.core.clips.config import DataConfig\n"
        "from tasks.core.clips.loader import make_train_loader\n"
        "from tasks.core.data.manifest import index_path\n"
        "if __name__ == '__main__':\n"
        f"    rows = index_path({str(tmp_path)!r})\n"
        "    batch = next(iter(make_train_loader(rows, DataConfig(clip={'frames': 2}, workers=1), None, 2)))\n"
        "    print(len(batch['video']), batch['skipped'])\n"
    )
    env = {**os.environ, "VID_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path / "here", env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("2 []", 0), done.stderr
