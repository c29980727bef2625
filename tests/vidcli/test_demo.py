"""The demo at a fraction of its size: same path, same report."""

import json
import re
import shlex

from tasks.core.data.manifest import read_manifest
from vidcli.app import main
from vidcli.console import console
from vidcli.demo import run_demo


def test_demo_writes_a_self_contained_report_and_continues_for_free(tmp_path):
    done = run_demo(tmp_path / "demo", console(), 0, n_per_class=10, epochs=1)
    html = (tmp_path / "demo" / "report.html").read_text()
    assert [row["encoder"] for row in done["rows"]] == ["pretrained with TATS", "from scratch", "chance"]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    for word in ("sampler", "reconstruction", "Confusion", "frames, reconstruction"):
        assert word in html
    assert html.count("data:image/png") >= 4
    assert html.count("data:image/svg") >= 5
    before = (tmp_path / "demo" / "pretrain" / "metrics.jsonl").stat().st_mtime_ns
    assert run_demo(tmp_path / "demo", console(), 0, n_per_class=10, epochs=1)["rows"] == done["rows"]
    assert (tmp_path / "demo" / "pretrain" / "metrics.jsonl").stat().st_mtime_ns == before


def test_captioned_videos_and_the_command_that_learns_from_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tasks.core.data.synthetic_captions.VIDEOS", {"train": 4, "val": 2, "held": 2})
    assert main(["demo", "--captions", "--scenes", "2", "-o", str(tmp_path / "films"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = read_manifest(told["manifest"])
    assert [row.split for row in rows] == ["train"] * 4 + ["val"] * 2 + ["held"] * 2
    assert all(row.text and row.end_s == row.start_s + 4 for row in rows)
    assert (told["train_sentences"], told["val_sentences"]) == (4, 2)
    words = [*shlex.split(told["next"])[1:], "--dry-run"]
    assert main(words) == 0
    assert main(["demo", "--scenes", "2", "-o", str(tmp_path / "x")]) == 2
