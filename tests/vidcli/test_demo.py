"""The demo at a fraction of its size: same path, same report."""

import re

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
