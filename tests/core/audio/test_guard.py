"""A decoder of sound that crashes, hangs or raises costs one file."""

import signal

import pytest
from sounds import write_sound

from tasks.core.audio.read import open_sound
from tasks.core.video import cache, guard
from tasks.core.video.reader import VideoError

DECODER = """
import os, signal, threading
from tasks.core.audio import index
from tasks.core.video import guard
def decoded(path, *rest):
    name = os.path.basename(path)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        threading.Event().wait()
    if "raise" in name:
        raise RuntimeError("broken")
    return real(path, *rest)
real, index.decoded = index.decoded, decoded
guard.serve({fd}, {parent})
"""


@pytest.fixture
def bad_decoder(monkeypatch):
    """Looking processes whose decoder of sound does what a file's name says; no process is shared with other tests."""
    monkeypatch.setattr(guard, "_ONE_LINE", DECODER)
    monkeypatch.setattr(guard, "_idle", [])
    monkeypatch.setattr(guard, "_own_risk", False)
    yield
    for looker in guard._idle:
        looker.kill()


def named(folder, name):
    return write_sound(folder / f"{name}.mp4", "aac", seconds=0.5)


def test_a_crash_costs_one_file_and_is_remembered(tmp_path, bad_decoder, monkeypatch):
    crash, good = named(tmp_path, "crash"), named(tmp_path, "good")
    for missing in ("error", "silence"):
        with pytest.raises(VideoError, match=rf"crash.mp4: its decoder crashed \(exit -{signal.SIGSEGV.value}\)"):
            open_sound(crash, missing=missing)
    with open_sound(good) as sound:
        assert len(sound.read()) == 7_680
    monkeypatch.setattr(guard, "acquire_worker", None)  # nothing is asked again
    with pytest.raises(VideoError, match="its decoder crashed"):
        open_sound(crash)
    monkeypatch.setattr(cache, "REFUSED_S", 0.0)
    with pytest.raises(TypeError):
        open_sound(crash)


def test_a_hang_is_ended(tmp_path, bad_decoder, monkeypatch):
    hang = named(tmp_path, "hang")
    monkeypatch.setattr(guard, "LIMIT_S", 3.0)
    with pytest.raises(VideoError, match="gave no answer within 3 s"):
        open_sound(hang)
    assert not guard._idle


def test_what_a_decoder_raises_is_about_the_file(tmp_path, bad_decoder):
    with pytest.raises(VideoError, match=r"cannot be read \(RuntimeError: broken\)"):
        open_sound(named(tmp_path, "raise"))
    (looker,) = guard._idle
    with open_sound(named(tmp_path, "good")) as sound:
        assert sound.has_sound
    assert guard._idle == [looker]
