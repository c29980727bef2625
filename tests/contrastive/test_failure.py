"""What ends a run before its time: kill -9 in any stage, and streams that hold no numbers. The same command goes on, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from contrastive_helpers import MINING, STAGES, command, vid
from killed import run_until_killed

from tasks.contrastive.data import PairViews
from tasks.core.checkpoint import load_weights
from tasks.core.engine.run import read_metrics, read_skipped


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def listed(videos, runs) -> Path:
    """The videos, and between them some that cannot be read."""
    lines = ["path"]
    for number, video in enumerate(sorted(videos.parent.rglob("*.mp4"))):
        lines.append(str(video))
        if number < 4:
            (runs / f"broken{number}.mp4").write_bytes(b"no video")
            lines.append(f"broken{number}.mp4")
    (runs / "listed.csv").write_text("\n".join(lines) + "\n")
    return runs / "listed.csv"


@pytest.fixture(scope="module")
def cycles(listed, flow, runs) -> Path:
    """All stages of CoCLR, undisturbed."""
    assert vid("coclr-tiny", listed, runs / "cycles", f"data.flow.folder={flow}", *MINING) == 0
    assert json.loads((runs / "cycles" / "result.json").read_text())["n_skipped"] > 0
    return runs / "cycles"


def assert_equal(found: Path, expected: Path, stages: tuple[str, ...] = (".",), models: tuple[str, ...] = ("model",)) -> None:
    """Curves and weights are the same bit for bit."""
    for stage in stages:
        rows = [read_metrics(run / stage / "metrics.jsonl") for run in (found, expected)]
        ours, theirs = ([(row["step"], row["loss"], row["skipped"]) for row in each] for each in rows)
        assert ours == theirs, stage
    for model in models:
        weights, wanted = load_weights(found / model), load_weights(expected / model)
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_kill_9_in_every_stage_of_the_cycles(cycles, listed, flow, tmp_path):
    """The five processes are one run: each goes on where the one before it died."""
    line = command("coclr-tiny", listed, tmp_path / "run", f"data.flow.folder={flow}", *MINING)
    for stage, step in zip(STAGES, (2, 1, 3, 2), strict=True):
        run_until_killed(tmp_path / "run" / stage, step, *line)
    assert vid("coclr-tiny", listed, tmp_path / "run", f"data.flow.folder={flow}", *MINING) == 0
    assert_equal(tmp_path / "run", cycles, STAGES, ("model", "model-flow"))


def test_between_two_stages_it_is_known_what_was_skipped(cycles, listed, flow, tmp_path):
    shutil.copytree(cycles, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for later in ("model", "model-flow", *STAGES[2:]):
        shutil.rmtree(tmp_path / "run" / later)
    assert vid("coclr-tiny", listed, tmp_path / "run", f"data.flow.folder={flow}", *MINING) == 0
    assert_equal(tmp_path / "run", cycles, STAGES, ("model", "model-flow"))
    assert (tmp_path / "run" / "skipped.csv").read_text() == (cycles / "skipped.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["infonce-tiny", "infonce-flow-tiny", "ubernce-tiny", "coclr-rgb-tiny", "coclr-flow-tiny"])
def test_kill_9_in_a_stage_of_its_own(cycles, videos, flow, runs, tmp_path, name):
    sets = [] if name in ("infonce-tiny", "ubernce-tiny") else [f"data.flow.folder={flow}"]
    if name.startswith("coclr"):
        own, other = STAGES[:2] if name == "coclr-rgb-tiny" else STAGES[1::-1]
        sets += ["method.topk=1", f"init={cycles / own}", f"method.miner={cycles / other}"]
    assert vid(name, videos, tmp_path / "whole", *sets) == 0
    run_until_killed(tmp_path / "run", 3, *command(name, videos, tmp_path / "run", *sets))
    assert vid(name, videos, tmp_path / "run", *sets) == 0
    assert_equal(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("stream", ["video", "flow"])
def test_no_number_in_a_stream_stops_before_the_step(cycles, videos, flow, tmp_path, capsys, monkeypatch, stream):
    sets = [f"data.flow.folder={flow}", "method.topk=1", f"init={cycles / STAGES[0]}", f"method.miner={cycles / STAGES[1]}"]
    views, seen = PairViews.__call__, []

    def poisoned(self, batch, device):
        seen.append(batch["path"])
        made = views(self, batch, device)
        if len(seen) == 2:
            made[stream][0, 1] = torch.nan
        return made

    with monkeypatch.context() as patched:
        patched.setattr(PairViews, "__call__", poisoned)
        assert vid("coclr-rgb-tiny", videos, tmp_path / "run", *sets) == 5
    told = capsys.readouterr().err
    assert "training diverged at step 2 (loss nan" in told
    assert all(path in told for path in seen[1])
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "train"] == [1]
    assert vid("coclr-rgb-tiny", videos, tmp_path / "run", *sets) == 0  # from the checkpoint of the first step
    assert vid("coclr-rgb-tiny", videos, tmp_path / "whole", *sets) == 0
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_videos_shorter_than_half_a_clip_are_skipped_and_counted(videos, tmp_path):
    """Three parts of 24 frames at 12 per second; one has only 3 frames, where clips of 8 need 4. A batch of the one clip left is learned
    from too.
    """
    first, second, third = sorted(videos.parent.rglob("*.mp4"))[:3]
    listed = f"path,start,end\n{first},0,2\n{second},0,0.25\n{third},0.5,2\n"
    (tmp_path / "parts.csv").write_text(listed)
    sets = ["data.clip.frames=8", "data.clip.stride_frames=1", "train.max_steps=4", "data.preload=false"]
    assert vid("infonce-tiny", tmp_path / "parts.csv", tmp_path / "run", *sets) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["n_skipped"] == 1
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["skipped"] == 1
    assert 1 in [row["clips"] for row in rows]
    assert read_skipped(tmp_path / "run" / "skipped.csv") == {str(second): "it has 3 frames, fewer than 4 (pairs.min_share)"}
