"""Annotated events to measure against: subsets, formats, and what is left out."""

import json

import pytest

from tasks.core.data.segments.predictions import write_results
from tasks.core.data.segments.truth import NO_LABEL, read_truth
from tasks.core.errors import InputError, UsageError

PREFERRED = ("test", "validation")


def entry(subset, *events):
    return {"subset": subset, "annotations": [{"label": label, "segment": [start, end]} for label, start, end in events]}


DATABASE = {
    "database": {
        "a": entry("Test", ("run", 0, 2), ("run", 3, 3), ("jump", 5, 4)),
        "b": entry("Test"),
        "c": entry("training", ("run", 1, 2)),
        "d": {"subset": "Test", "annotations": [{"segment": [0, 1]}, {"segment": ["x", 1], "label": "run"}]},
    }
}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_subset_is_chosen_and_what_cannot_be_used_is_counted(tmp_path):
    truth = read_truth(write(tmp_path / "t.json", DATABASE), PREFERRED)
    assert (truth.subset, truth.format) == ("Test", "activitynet")
    assert (truth.videos, truth.others) == ({"a", "b", "d"}, {"c"})
    assert list(zip(truth.events.video, truth.events.label, truth.events.segment.tolist(), strict=True)) == [
        ("a", "run", [0, 2]),
        ("a", "run", [3, 3]),
        ("a", "jump", [5, 4]),
    ]
    assert truth.left_out == {NO_LABEL: 1, "no times that can be read": 1}
    assert read_truth(tmp_path / "t.json", PREFERRED, "TRAINING").events.video == ["c"]
    assert read_truth(tmp_path / "t.json", ("validation", "training")).subset == "training"


def test_subsets_that_are_not_there_or_cannot_be_told(tmp_path):
    file = write(tmp_path / "t.json", DATABASE)
    with pytest.raises(UsageError, match="no videos of subset 'val'") as error:
        read_truth(file, PREFERRED, "val")
    assert "Test, training" in error.value.hint
    with pytest.raises(UsageError, match="which subset to measure on cannot be told"):
        read_truth(file, ("validation",))
    alone = write(tmp_path / "one.json", {"database": {"c": DATABASE["database"]["c"]}})
    assert read_truth(alone, PREFERRED).subset == "training"
    without = write(tmp_path / "none.json", {"c": {"annotations": DATABASE["database"]["c"]["annotations"]}})
    assert (read_truth(without, PREFERRED).subset, read_truth(without, PREFERRED).events.video) == (None, ["c"])


def test_tables_of_epic_and_manifests(tmp_path):
    head = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
    epic = write(tmp_path / "EPIC_100_validation.csv", head + "n0,P01_01,00:00:01.5,00:01:02,3,12\n")
    for label, name in ((None, "3"), ("noun", "12"), ("action", "3-12")):
        truth = read_truth(epic, PREFERRED, label=label)
        assert (truth.format, truth.events.label, truth.events.segment.tolist()) == ("epic100", [name], [[1.5, 62]])
    rows = [("a.mp4", "run", 0, 2, "train"), ("b.mp4", "jump", 1, 1, "val"), ("b.mp4", "", 1, 2, "val"), ("c.mp4", "run", "", "", "val")]
    table = write(tmp_path / "m.csv", "path,label,start,end,split\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    lines = [dict(zip(("path", "label", "start", "end", "split"), row, strict=True)) for row in rows]
    lines = write(tmp_path / "m.jsonl", "".join(json.dumps({k: v for k, v in line.items() if v != ""}) + "\n" for line in lines))
    for file in (table, lines):
        truth = read_truth(file, ("val",))
        assert (truth.subset, truth.format) == ("val", "manifest")
        assert (truth.events.video, truth.events.label) == ([str(tmp_path / "b.mp4")], ["jump"])
        assert truth.videos == {str(tmp_path / "b.mp4"), str(tmp_path / "c.mp4")}
        assert truth.left_out == {NO_LABEL: 1, "rows without start or end": 1}
    with pytest.raises(UsageError, match="a manifest has one label"):
        read_truth(table, ("val",), label="noun")


def test_what_is_something_else_is_refused(tmp_path):
    write_results(tmp_path / "r.json", {"a": []})
    write(tmp_path / "x.json", {"a": 5})
    write(tmp_path / "v.csv", "path,label\na.mp4,run\n")
    write(tmp_path / "h.json", {"v": [[1, 0.0, 1.0, "a sentence"]]})
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04.")
    for name, message in (
        ("r.json", "these are predictions, not annotations"),
        ("x.json", "format of these annotations is not known"),
        ("x.pkl", "format of these annotations is not known"),
        ("v.csv", "no row has a start and an end"),
        ("h.json", "none of the 1 annotated segments has a label"),
        ("gone.json", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(tmp_path / name, PREFERRED)


@pytest.mark.real
def test_published_files(real_data):
    counts = {}
    for name, preferred in (
        ("unav100/unav100_annotations.json", PREFERRED),
        ("thumos14/thumos14.json", PREFERRED),
        ("thumos14/gt_test_um.json", PREFERRED),
        ("av_events/annotations.json", PREFERRED),
    ):
        truth = read_truth(real_data / name, preferred)
        counts[name] = (truth.subset, len(truth.videos), len(truth.events), len(set(truth.events.label)))
        assert not truth.left_out
    assert list(counts.values()) == [
        ("test", 2167, 5900, 100),
        ("Test", 212, 3358, 20),
        ("test", 210, 3311, 20),
        ("validation", 24, 169, 7),
    ]
