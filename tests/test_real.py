"""On the real videos, where they lie beside the checkout: index, check, a short pretraining, fine-tuning, evaluation by command."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real


def vid(*words: object, code: int = 0) -> list[dict]:
    done = subprocess.run([sys.executable, "-m", "vidcli", *map(str, words)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_check_finds_nothing_wrong_with_the_everyday_clips(real_data):
    rows = vid("data", "check", real_data / "clips", "--json", "--no-seek")
    assert len(rows) == 6
    assert all(row["ok"] and row["n_frames"] > 30 for row in rows)


@pytest.mark.slow
def test_gestures_from_videos_to_a_number(real_data, tmp_path):
    manifest = real_data / "gestures" / "manifest.csv"
    small = ["--set", "train.max_steps=3", "--batch-size", 4, "--set", "data.preload=false", "--workers", 0, "--json"]
    vid(
        "pretrain",
        "--preset",
        "masked/tats-tiny",
        "--data",
        manifest,
        "--out",
        tmp_path / "pre",
        "--set",
        "sampler.warmup_epochs=0",
        *small,
    )
    tuned = vid(
        "finetune",
        "--preset",
        "classify/tiny",
        "--from",
        tmp_path / "pre",
        "--data",
        manifest,
        "--val",
        f"{manifest}@val",
        "--out",
        tmp_path / "ft",
        *small,
    )
    assert tuned[-1]["n"] == 42
    assert tuned[-1]["n_skipped"] == 0
    lines = [json.loads(line) for line in (tmp_path / "pre" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["policy_entropy"] > 0
