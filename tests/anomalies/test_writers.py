import csv
import json
import os

import numpy as np
import pytest
from found_anomalies import detection, scores_of, write_yard

from tasks.anomalies.predictions import read_predictions
from tasks.anomalies.result import as_record
from tasks.anomalies.writers import outputs, write_all, write_csv, write_json
from tasks.core.errors import UsageError
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
    path = outputs(tmp_path, "a", [kind])[0]
    {"json": write_json, "csv": write_csv}[kind](path, found)
    (read,) = read_predictions(path)
    assert np.array_equal(read.score.astype(np.float32), score)
    assert np.array_equal(read.parts["motion"].astype(np.float32), found.scores.parts["motion"])
    assert np.allclose(read.t, found.scores.t, atol=1e-6)


def test_json_is_one_line_per_key(tmp_path):
    write_json(tmp_path / "a.json", detection(np.zeros(10_000)))
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert len(lines) == len(as_record(detection())) + 2


def test_a_file_name_that_is_no_utf8_can_be_written(tmp_path):
    found = detection(path=os.fsdecode(b"caf\xe9.mp4"))
    for path, write in ((tmp_path / "a.json", write_json), (tmp_path / "a.csv", write_csv)):
        write(path, found)
        assert "caf\ufffd.mp4" in path.read_text(encoding="utf-8")


def test_write_all_writes_what_outputs_names_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    beats = []
    with open_video(write_yard(tmp_path / "yard.mp4", frames=12)) as reader:
        paths = write_all(
            tmp_path / "new", "yard", detection(np.arange(12) / 12), ["mp4", "json", "html", "csv", "json"], reader, beats.append
        )
    assert [path.name for path in paths] == ["yard.anomalies.mp4", "yard.anomalies.json", "yard.html", "yard.anomalies.csv"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert len(beats) >= 12
    assert not any(beats)


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match="'mpg4'") as caught:
        outputs(None, "clip", ["json", "mpg4"])
    assert "did you mean 'mp4'?" in caught.value.hint
