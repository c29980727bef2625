"""Numbers, lengths and classes of annotated events, by hand."""

import json

import pytest

from tasks.core.data.segments.statistics import UNLABELLED, are_annotations, read_events, statistics
from tasks.core.errors import InputError, UsageError

DATABASE = {
    "a": {
        "subset": "training",
        "duration": 10,
        "annotations": [
            {"segment": [0, 4], "label": "run"},
            {"segment": [2, 3], "label": "jump"},
            {"segment": [2, 3], "label": "jump"},
            {"segment": [8, 12], "label": "run"},
            {"segment": [10, 13], "label": "run"},
            {"segment": [5, 5], "label": "run"},
            {"segment": [6, 5], "label": "run"},
        ],
    },
    "b": {"subset": "Validation", "annotations": [{"segment": [1, 2], "label": "sit"}, {"segment": [4, 6], "label": "run"}]},
    "c": {"subset": "Validation", "annotations": []},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"database": DATABASE}))
    return path


def test_by_hand(file):
    totals = statistics(read_events([str(file)]))
    assert (totals["n_events"], totals["n_videos"], totals["n_classes"]) == (7, 2, 3)
    assert totals["splits"] == {
        "Validation": {"events": 2, "videos": 1, "classes": 2},
        "training": {"events": 5, "videos": 1, "classes": 2},
    }
    assert totals["length_s"] == {"min": 1.0, "median": 2.0, "mean": pytest.approx(16 / 7), "max": 4.0}
    assert totals["events_per_video"] == {"min": 2.0, "median": 3.5, "mean": 3.5, "max": 5.0}
    assert totals["most_events_in"] == "a"
    assert list(totals["classes"]) == ["run", "jump", "sit"]
    assert totals["classes"]["run"] == {
        "events": 4,
        "videos": 2,
        "splits": {"Validation": 1, "training": 3},
        "length_s": {"min": 2.0, "median": 3.5, "mean": 3.25, "max": 4.0},
    }
    assert totals["missing_in_training"] == {"Validation": ["sit"]}
    assert totals["noted"] == {
        "overlap an earlier one": 3,
        "occur again with the same times and label": 1,
        "end after the duration that the file states": 1,
        "begin when the video is over, as the file states": 1,
    }
    assert totals["left_out"] == {"the end is not after the start": 2, "videos without segments": 1}


def test_sources_are_counted_together_and_subsets_are_picked(file, tmp_path):
    rows = "path,label,start,end,split,duration\na.mp4,run,0,2,train,5\nb.mp4,,1,9,val,5\nb.mp4,fly,3,2,val,\nc.mp4,fly,,,val,\n"
    (tmp_path / "m.csv").write_text(rows)
    found = read_events([f"{file}@training", str(tmp_path / "m.csv")])
    totals = statistics(found)
    assert {name: entry["events"] for name, entry in totals["splits"].items()} == {"train": 1, "training": 5, "val": 1}
    assert totals["classes"][UNLABELLED]["events"] == 1
    assert totals["noted"]["end after the duration that the file states"] == 2
    assert totals["left_out"] == {"the end is not after the start": 3, "no times that can be read": 1}
    assert totals["missing_in_training"] == {"training": ["jump"]}
    with pytest.raises(UsageError, match="no videos of subset 'test'"):
        read_events([f"{file}@test"])


def test_classes_are_compared_with_validation_where_nothing_is_called_training(file):
    subsets = {"a": "Validation", "b": "Test"}
    videos = {name: {**entry, "subset": subsets[name]} for name, entry in DATABASE.items() if name in subsets}
    file.write_text(json.dumps({"database": videos}))
    assert statistics(read_events([str(file)]))["missing_in_training"] == {"Test": ["sit"]}


def test_thousands_of_events_in_one_video(file):
    events = [{"segment": [i, i + 1.5], "label": f"c{i % 3}"} for i in range(5000)]
    file.write_text(json.dumps({"database": {"long": {"subset": "training", "annotations": events}}}))
    totals = statistics(read_events([str(file)]))
    assert (totals["events_per_video"]["max"], totals["noted"]) == (5000, {"overlap an earlier one": 4999})


def test_what_is_a_file_of_annotations(file, tmp_path):
    (tmp_path / "m.csv").write_text("path,label,start,end\na.mp4,run,0,1\n")
    (tmp_path / "epic.csv").write_text("video_id,start_timestamp,stop_timestamp,verb_class\nP01,00:00:01,00:00:02,3\n")
    (tmp_path / "v.mp4").write_bytes(b"\x00")
    names = ("events.json", "events.json@training", "epic.csv", "m.csv", "v.mp4", ".", "gone.json")
    assert [are_annotations(str(tmp_path / name)) for name in names] == [True, True, True, False, False, False, False]
    assert list(statistics(read_events([str(tmp_path / "epic.csv")]))["classes"]) == ["3"]


def test_files_without_events(tmp_path):
    (tmp_path / "m.csv").write_text("path,label\na.mp4,run\n")
    (tmp_path / "x.json").write_text("[]")
    for name, message in (
        ("m.csv", "no row has an event"),
        ("x.json", "format of these annotations is not known"),
        ("v.json", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            read_events([str(tmp_path / name)])


@pytest.mark.real
def test_published_files(real_data):
    unav = statistics(read_events([str(real_data / "unav100" / "unav100_annotations.json")]))
    assert {name: count["events"] for name, count in unav["splits"].items()} == {"test": 5900, "train": 18123, "validation": 6036}
    assert (unav["n_classes"], unav["events_per_video"]["max"], unav["missing_in_training"]) == (100, 23, {})
    assert sum(entry["events"] for entry in unav["classes"].values()) == unav["n_events"] == 30059
    thumos = statistics(read_events([str(real_data / "thumos14" / "thumos14.json")]))
    assert (thumos["n_classes"], thumos["most_events_in"], thumos["events_per_video"]["max"]) == (20, "video_test_0000716", 218)
    assert thumos["noted"]["begin when the video is over, as the file states"] == 30
