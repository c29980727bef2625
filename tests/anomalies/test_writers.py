import csv
import json
import os

import numpy as np
import pytest
from found_anomalies import detection, scores_of, write_yard

from tasks.anomalies.predictions import read_predictions
from tasks.anomalies.result import as_record
from tasks.anomalies.writers import SUFFIXES, write_csv, write_file
from tasks.core.inference.output import write_record
from tasks.core.video.open import open_video


def test_record_is_plain_json_and_holds_every_frame():
    found = detection(damage="ends early")
    record = json.loads(json.dumps(as_record(found)))
    assert record["intervals"] == [
        {"start_s": 2.0, "end_s": 3.0, "start_frame": 20, "end_frame": 29, "peak": 0.9, "peak_s": 2.0, "peak_frame": 20}
    ]
    assert record["peak"] == {"score": 0.9, "t": 2.0, "frame": 20}
    assert record["frames"]["t"][33] == 3.3
    assert record["frames"]["frame"] == list(range(50))
    assert {name: values[25] for name, values in record["frames"]["parts"].items()} == {"motion": 0.45, "change": 0.225}
    assert (record["damage"], record["settings"]["threshold"], record["duration_s"]) == ("ends early", 0.5, 5.0)


def test_a_video_without_scores():
    record = as_record(detection(scores=scores_of([]), intervals=[]))
    assert (record["peak"], record["intervals"], record["frames"]["score"]) == (None, [], [])


def test_csv_has_a_row_per_frame_with_all_indicators(tmp_path):
    write_csv(tmp_path / "a.csv", detection([0.1, 0.9], pts=[0.5, 0.533333], path="a,b.mp4"))
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["video", "t", "frame", "score", "motion", "change"],
        ["a,b.mp4", "0.500000", "0", "0.1", "0.05", "0.025"],
        ["a,b.mp4", "0.533333", "1", "0.9", "0.45", "0.225"],
    ]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_scores_read_back_bit_for_bit(tmp_path, kind):
    score = np.random.default_rng(0).random(500).astype(np.float32)
    found = detection(score)
    path = tmp_path / f"a{SUFFIXES[kind]}"
    if kind == "json":
        write_record(path, as_record(found))
    else:
        write_csv(path, found)
    (read,) = read_predictions(path)
    assert np.array_equal(read.score.astype(np.float32), score)
    assert np.array_equal(read.parts["motion"].astype(np.float32), found.scores.parts["motion"])
    assert np.allclose(read.t, found.scores.t, atol=1e-6)


def test_json_is_one_line_per_key(tmp_path):
    write_record(tmp_path / "a.json", as_record(detection(np.zeros(10_000))))
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert len(lines) == len(as_record(detection())) + 2


def test_a_file_name_that_is_no_utf8_can_be_written(tmp_path):
    found = detection(path=os.fsdecode(b"caf\xe9.mp4"))
    write_csv(tmp_path / "a.csv", found)
    assert "caf\ufffd.mp4" in (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert as_record(found)["video"] == "caf\ufffd.mp4"


def test_every_kind_but_the_record_is_written_whole_and_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    beats = []
    with open_video(write_yard(tmp_path / "yard.mp4", frames=12)) as reader:
        for kind in SUFFIXES.keys() - {"json"}:
            write_file(kind, tmp_path / "new" / f"yard{SUFFIXES[kind]}", detection(np.arange(12) / 12), reader, beats.append)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"yard.anomalies.{kind}" for kind in ("csv", "html", "mp4")]
    assert all(path.stat().st_size for path in (tmp_path / "new").iterdir())
    assert len(beats) >= 12
    assert not any(beats)
