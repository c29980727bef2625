"""`vid data import` of segments, and what other data commands make of the manifests, as a user calls them."""

import csv
import json

import pytest

from tasks.boundaries.annotations import FORMATS as BOUNDARY_FORMATS
from tasks.core.data.segments.epic import LABELS
from tasks.core.data.segments.formats import FORMATS
from vidcli.commands import data_import

DATABASE = {
    "database": {
        "a": {
            "subset": "training",
            "duration": 1.0,
            "annotations": [{"segment": [0.1, 0.4], "label": "run"}, {"segment": [0.3, 0.3], "label": "run"}],
        },
        "b": {"subset": "training", "annotations": [{"segment": [0.0, 0.2], "label": "jump"}, {"segment": [0.1, 9.0], "label": "run"}]},
        "gone": {"annotations": [{"segment": [0.0, 0.2], "label": "jump"}]},
    }
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with annotations and two of their three videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    synthetic = pytest.importorskip("tasks.core.data.synthetic")
    synthetic.render_motion_set(tmp_path / "set", 1, seed=0, frames=8, size=32, splits={"train": 1.0})
    (tmp_path / "videos").mkdir()
    for file, name in zip(sorted((tmp_path / "set").rglob("*.mp4")), ("a.mp4", "v_b.mp4"), strict=False):
        file.rename(tmp_path / "videos" / name)
    (tmp_path / "some.json").write_text(json.dumps(DATABASE))
    return tmp_path


def table(file):
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_command_knows_every_format_and_label():
    assert {each.value for each in data_import.Format} == {*FORMATS, *BOUNDARY_FORMATS}
    assert {each.value for each in data_import.Label} == set(LABELS)


def test_segments_with_and_without_their_videos(folder, vid):
    code, out, err = vid("data", "import", "some.json", "--videos", "videos", "-o", "all.csv", "--json")
    assert code == 0
    assert json.loads(out) == {
        "manifest": "all.csv",
        "format": "activitynet",
        "videos": 2,
        "segments": 3,
        "classes": 2,
        "texts": 0,
        "splits": ["training"],
        "noted": {"overlap an earlier one": 1, "have no subset": 1},
        "left_out": 2,
        "reasons": {"the end is not after the start": 1, "segments of videos that are not there": 1},
        "with_video": 2,
        "without_video": 1,
    }
    assert "1 of 3 videos are not below videos, the first is 'gone'" in err
    assert "1 of 4 segments overlap an earlier one; kept as they are" in err
    assert [(row["path"], row["label"], row["start"], row["end"], row["split"]) for row in table("all.csv")] == [
        ("videos/a.mp4", "run", "0.1", "0.4", "training"),
        ("videos/v_b.mp4", "jump", "0.0", "0.2", "training"),
        ("videos/v_b.mp4", "run", "0.1", "9.0", "training"),
    ]
    code, out, err = vid("data", "import", "some.json", "-o", "names.jsonl", "--format", "activitynet", "--json")
    assert (code, json.loads(out)["segments"], "with_video" in json.loads(out)) == (0, 4, False)
    assert [json.loads(line)["path"] for line in (folder / "names.jsonl").read_text().splitlines()] == ["a", "b", "b", "gone"]
    assert "paths are names of videos" in err


def test_check_and_index_keep_what_was_imported(folder, vid):
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nA\n")
    rows = "path,start,end,text,subtitles\nvideos/a.mp4,0,0.2,said,a.srt\nvideos/v_b.mp4,0.2,0.1,,b.srt\nvideos/a.mp4,0,9,said,\n"
    (folder / "said.csv").write_text(rows)
    code, out, _ = vid("data", "check", "said.csv", "--json", "--no-seek", "-q")
    first, second, third = (json.loads(line)["problems"] for line in out.splitlines())
    assert (code, first) == (0, [])
    assert second[0] == "its part ends at 0.1 s and begins at 0.2 s"
    assert any("b.srt: cannot be read" in problem for problem in second)
    assert "no text" in second
    assert third[0].startswith("its part ends at 9 s, the video is")
    code, _, err = vid("data", "index", "said.csv", "-o", "sub.csv")
    assert (code, "line 3: end 0.1 is not after start 0.2" in err) == (2, True)
    (folder / "said.csv").write_text(rows.replace("0.2,0.1", "0.1,0.2"))
    for name in ("again.csv", "again.jsonl", "final.csv"):
        assert vid("data", "index", "said.csv" if name == "again.csv" else "again.csv", "-o", name, "-q")[0] == 0
    assert table("final.csv") == [
        {"path": "videos/a.mp4", "start": "0.0", "end": "0.2", "text": "said", "subtitles": "a.srt"},
        {"path": "videos/v_b.mp4", "start": "0.1", "end": "0.2", "text": "", "subtitles": "b.srt"},
        {"path": "videos/a.mp4", "start": "0.0", "end": "9.0", "text": "said", "subtitles": ""},
    ]


def test_check_counts_annotated_events_without_their_videos(folder, vid):
    code, out, err = vid("data", "check", "some.json")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["class", "events", "videos", "min", "s", "median", "s", "max", "s"],
        ["jump", "2", "2", "0.2", "0.2", "0.2"],
        ["run", "2", "2", "0.3", "4.6", "8.9"],
        ["2", "classes", "4", "3", "0.2", "0.25", "8.9"],
    ]
    assert "1 of 4 events overlap an earlier one" in err
    assert "1 cannot be used: the end is not after the start" in err
    assert vid("data", "import", "some.json", "-o", "all.csv", "-q")[0] == 0
    code, out, _ = vid("data", "check", "all.csv", "--events", "--json")
    totals = json.loads(out)
    assert (code, totals["sources"], totals["n_events"], totals["splits"]["training"]["events"]) == (0, ["all.csv"], 4, 3)
    names = {"a": "train", "b": "validation", "gone": "test"}
    splits = json.loads(json.dumps(DATABASE["database"]).replace("jump", "jump" * 9))
    splits = {name: {**videos, "subset": names[name]} for name, videos in splits.items()}
    (folder / "wide.json").write_text(json.dumps(splits))
    code, out, err = vid("data", "check", "wide.json")
    assert out.splitlines()[0].split() == ["class", "test", "train", "val", "videos", "min", "s", "median", "s", "max", "s"]
    assert max(map(len, out.splitlines())) <= 80
    assert f"classes of 'test' that training lacks: {'jump' * 9}" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["some.json", "-o", "x.json"], 2, "name it .csv or .jsonl"),
        (["some.json", "-o", "x.csv", "--label", "verb"], 2, "label 'verb' is not one of format activitynet"),
        (["some.json", "-o", "x.csv", "--split", "train"], 2, "subsets there: training"),
        (["some.json", "-o", "x.csv", "--format", "htm-align"], 3, "no lists of [flag, start, end, text]"),
        (["some.json", "-o", "x.csv", "--format", "epic100"], 3, "not a table of EPIC-KITCHENS-100"),
        (["some.json", "-o", "x.csv", "--format", "gebd"], 2, "name it .json"),
        (["some.json", "-o", "x.csv", "--videos", "set"], 3, "none of the 3 videos is below set"),
        (["other.json", "-o", "x.csv"], 3, "known formats: thumos14, activitynet, epic100, htm-align, oops, gebd, gebd-raw, tapos"),
        (["table.csv", "-o", "x.csv"], 3, "the format of these annotations is not known"),
        (["gone.json", "-o", "x.csv"], 3, "gone.json: no such file"),
    ],
)
def test_wrong_input(folder, vid, words, code, said):
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "table.csv").write_text("path,label\na.mp4,run\n")
    found, _, err = vid("data", "import", *words)
    assert (found, said in err) == (code, True), err
    assert not (folder / "x.csv").exists()
