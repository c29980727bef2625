"""What training verbs say before they begin."""

from types import SimpleNamespace

import pytest

from tasks.core.clips.config import DataConfig
from tasks.core.engine.setup import warn_untested


@pytest.mark.parametrize(
    ("lines", "train", "val", "told"),
    [
        ("path,label\na.mp4,x\n", "all.csv", [], "vid data index VIDEOS --split 0.8"),
        ("path,label,split\na.mp4,x,train\nb.mp4,x,Validation\n", "all.csv", [], "all.csv has some: --val all.csv"),
        ("path,label,split\na.mp4,x,train\nb.mp4,x,val\n", "all.csv@train", [], "vid data index VIDEOS --split 0.8"),
        ("path,label\na.mp4,x\n", "all.csv", ["all.csv"], None),
    ],
)
def test_a_run_without_videos_to_test_on_says_so(tmp_path, monkeypatch, lines, train, val, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.csv").write_text(lines)
    said = []
    warn_untested(SimpleNamespace(main=True, reporter=SimpleNamespace(warn=said.append)), DataConfig(clip={}, train=[train], val=val))
    assert len(said) == (told is not None)
    assert told is None or ("no --val" in said[0] and told in said[0])
