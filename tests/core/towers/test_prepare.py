"""Features of a run, made once and reused until their tower or their videos change."""

import numpy as np
import pytest
from clip_toys import clip_folder
from engine_toy import ToyConfig
from painted import write_video

from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Row, Rows
from tasks.core.engine.run import Run
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.extract import Extractor
from tasks.core.towers.prepare import prepare_features


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    clip_folder(tmp_path / "clip")
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", 20)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return tmp_path


def prepared(place, *names):
    """The folder of features and the run's list of videos that cannot be read."""
    config = ToyConfig()
    run = Run(place / "run", config, Quiet())
    run.folder.mkdir(exist_ok=True)
    maker = Extractor(ExtractConfig(model=str(place / "clip"), per="window", hop_s=0.1))
    rows = Rows.of([Row(str(place / f"{name}.mp4"), start_s=start) for name in names for start in (None, 0.2)])
    streams = prepare_features({"visual": maker}, config, run, rows, None)
    return FeatureFolder(streams["visual"].folder), run.skipped


def written(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.path.glob("*.npz")}


def test_made_once(place):
    first, skipped = prepared(place, "a", "bad", "b")
    before = written(first)
    assert first.path == place / "run" / "features" / "visual"
    assert (list(first), [*skipped]) == (["a", "b"], [str(place / "bad.mp4")])
    again, _ = prepared(place, "a", "b")
    assert written(again) == before


def test_changed_weights_are_noticed(place):
    first, _ = prepared(place, "a", "b")
    values, before = first.get("a").values, written(first)
    clip_folder(place / "clip", activation="gelu")
    with pytest.raises(UsageError, match=r"holds .*clip .*this is .*clip"):
        prepared(place, "a")  # those of b would stay
    again, _ = prepared(place, "a", "b")
    assert all(written(again)[name] != when for name, when in before.items())
    assert not np.allclose(again.get("a").values, values, atol=1e-4)


def test_no_video_can_be_read(place):
    with pytest.raises(InputError, match="none of 1 videos can be read"):
        prepared(place, "bad")
