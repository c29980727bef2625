"""What normal footage scores: from a bounded number of frames, whatever there is of it."""

from collections import Counter

import anomaly_toys
import pytest

from tasks.anomalies import calibrate as module
from tasks.anomalies.calibrate import calibrate, stretches
from tasks.anomalies.footage import Footage
from tasks.anomalies.stream import Networks
from tasks.core.clips.config import DataConfig
from tasks.core.errors import InputError
from tasks.core.video.open import open_video


def networks() -> Networks:
    settings = anomaly_toys.config(parts=["appearance", "motion"])
    architecture = {"parts": ["appearance", "motion"], "autoencoder": settings.model.model_dump(exclude={"norm"})}
    return Networks({**architecture, "flow": settings.flow.model_dump(), "semantic": None}).eval()


def test_no_more_is_looked_at_than_the_windows_need():
    hours = [Footage(f"{i}.mp4", 100, 200_000) for i in range(50)]
    cut = stretches(hours, 16)
    assert len({item.path for item in cut}) == module.VIDEOS
    assert sum(item.high - item.low for item in cut) <= module.WINDOWS * 16
    for item in cut:
        assert item.low - 100 == pytest.approx(200_000 - item.high, abs=1)  # the middle
        assert len(item.starts(16)) > module.WINDOWS // module.VIDEOS
    short = [Footage("a.mp4", 3, 20), Footage("b.mp4", 0, 50)]
    assert stretches(short, 16) == short


def test_every_frame_of_the_stretches_is_told_and_no_other_is_read(tmp_path, monkeypatch):
    folder = anomaly_toys.write_frames(tmp_path / "long", anomaly_toys.clip(90, 0))
    monkeypatch.setattr(module, "WINDOWS", 4)
    cut = stretches([Footage(str(folder), 0, 90)], 8)
    assert [(item.low, item.high) for item in cut] == [(29, 61)]
    read, told = Counter(), []

    def watched(*given):
        reader = open_video(*given)
        frames = reader.frames

        def counting(start, stop, short_side=None):
            for number, t, frame in frames(start, stop, short_side):
                read[number] += 1
                yield number, t, frame

        reader.frames = counting
        return reader

    monkeypatch.setattr(module, "open_video", watched)
    found = calibrate(networks(), cut, DataConfig(), told.append)
    assert set(found) == {"appearance", "motion"}
    assert sum(told) == 32
    assert sorted(read) == list(range(29, 61))


def test_footage_that_cannot_be_read_any_more_is_named(tmp_path):
    folder = anomaly_toys.write_frames(tmp_path / "v", anomaly_toys.clip(20, 0))
    gone = Footage(str(tmp_path / "gone.mp4"), 0, 20)
    assert calibrate(networks(), [gone, Footage(str(folder), 0, 20)], DataConfig())["motion"]["low"] >= 0
    with pytest.raises(InputError, match=r"no normal video gives appearance a score.*gone\.mp4"):
        calibrate(networks(), [gone], DataConfig())
