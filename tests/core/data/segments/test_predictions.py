"""Every shape of predicted events, read and written."""

import json
import math

import pytest

from tasks.core.data.segments.names import AnnotatedVideos
from tasks.core.data.segments.predictions import (
    NO_EVENT,
    NO_PROPOSAL,
    NOT_READ,
    Event,
    are_predictions,
    event_dicts,
    read_predictions,
    write_results,
)
from tasks.core.errors import InputError

FOUND = {
    "a": [Event("dog", 1.5, 3.25, 0.9), Event("cat", 0.0, 0.0, 0.25)],
    "b": [],
    "c": [Event("dog", 2.0, 4.0, 0.5)],
}


def rows(found):
    """(video, label, start, end, score) of what was read."""
    events = found.events
    return [
        (v, name, *times, s) for v, name, times, s in zip(events.video, events.label, events.segment.tolist(), events.score, strict=True)
    ]


def expected(found):
    return [(video, *event) for video, events in found.items() for event in events]


def record(video, events):
    return {"video": video, "method": "m", "settings": {}, "duration_s": 5.0, "events": event_dicts(events)}


def test_results_of_activitynet_are_read_as_they_were_written(tmp_path):
    write_results(tmp_path / "r.json", FOUND)
    written = json.loads((tmp_path / "r.json").read_text())
    assert set(written) == {"version", "results", "external_data"}
    assert written["results"]["a"][0] == {"label": "dog", "score": 0.9, "segment": [1.5, 3.25]}
    found = read_predictions(tmp_path / "r.json")
    assert rows(found) == expected(FOUND)
    assert found.videos == ["a", "b", "c"]
    assert not found.left_out


def test_our_own_records_in_a_folder_in_one_file_and_as_lines(tmp_path):
    records = [record(f"videos/{video}.mp4", events) for video, events in FOUND.items()]
    (tmp_path / "out").mkdir()
    for each in records:
        (tmp_path / "out" / f"{each['video'][7]}.events.json").write_text(json.dumps(each))
    (tmp_path / "out" / "a.other.json").write_text("{}")
    (tmp_path / "one.events.json").write_text(json.dumps(records[0]))
    (tmp_path / "list.json").write_text(json.dumps(records))
    for name in ("lines.jsonl", "lines.txt"):
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in records))
    for name in ("out", "list.json", "lines.jsonl", "lines.txt"):
        found = read_predictions(tmp_path / name, ["a", "v_b", "/data/c.webm", "d"])
        assert found.videos == ["a", "v_b", "/data/c.webm"]
        assert rows(found) == expected({"a": FOUND["a"], "/data/c.webm": FOUND["c"]})
    assert rows(read_predictions(tmp_path / "one.events.json")) == expected({"videos/a.mp4": FOUND["a"]})


@pytest.mark.parametrize("given", ["run", "run/predictions"])
def test_of_a_run_the_last_validation_counts(tmp_path, given):
    (tmp_path / "run/predictions").mkdir(parents=True)
    for step, video in ((9, "c"), (80, "a")):
        results = {video: [{"label": "x", "score": 0.5, "segment": [0, step]}]}
        (tmp_path / f"run/predictions/step-{step:08d}.json").write_text(json.dumps({"results": results}))
    assert rows(read_predictions(tmp_path / given, ["a", "c"])) == [("a", "x", 0.0, 80.0, 0.5)]


def test_a_video_that_could_not_be_read_is_counted(tmp_path):
    lines = [record("a.mp4", FOUND["a"]), {"video": "b.mp4", "error": "not a video"}]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    found = read_predictions(tmp_path / "lines.jsonl", ["a", "b"])
    assert (found.videos, dict(found.left_out)) == (["a"], {NOT_READ: 1})


def test_entries_that_cannot_be_used_are_counted_and_odd_ones_are_read(tmp_path):
    good = {"label": 7, "score": "0.5", "segment": ["1", 2]}
    bad = [
        {"score": 0.5, "segment": [1, 2]},
        {**good, "segment": [1]},
        {**good, "score": None},
        "x",
        {**good, "label": ""},
        {**good, "segment": 5},
        {**good, "label": ["x"]},
        {**good, "label": True},
    ]
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": [*bad, good, {**good, "score": math.nan}]}}))
    found = read_predictions(tmp_path / "r.json")
    assert rows(found)[0] == ("a", "7", 1.0, 2.0, 0.5)
    assert math.isnan(rows(found)[1][-1])
    assert dict(found.left_out) == {NO_EVENT: 8}


def test_submissions_of_epic_have_a_verb_a_noun_and_an_action(tmp_path):
    entry = {"verb": 3, "noun": 12, "action": "3,12", "segment": [1, 2], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps({"results": {"P01_01": [entry]}}))
    for label, name in (("verb", "3"), ("noun", "12"), ("action", "3-12")):
        assert read_predictions(tmp_path / "r.json", label=label).events.label == [name]


def test_proposals_need_no_label(tmp_path):
    proposals = {"a": [Event("", 1.5, 3.25, 0.9), Event("", 0.0, 1e-07, 0.25)], "c": [Event("", 2.0, 4.0, 1 / 3)]}
    write_results(tmp_path / "p.json", proposals)
    lines = [f"{video},{e.start},{e.end},{e.score}" for video, events in proposals.items() for e in events]
    (tmp_path / "p.csv").write_text("\n".join(["video,start,end,score", *lines]) + "\n")
    assert "label" not in (tmp_path / "p.json").read_text()
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(record(video, events)) + "\n" for video, events in proposals.items()))
    for name in ("p.json", "p.csv", "own.jsonl"):
        assert rows(read_predictions(tmp_path / name, proposals=True)) == expected(proposals)
        with pytest.raises(InputError, match="none of its 3 entries has a label"):
            read_predictions(tmp_path / name)
    (tmp_path / "bad.json").write_text(json.dumps({"results": {"a": [{"segment": [0, 1]}, {"segment": [0, 1], "score": 1}]}}))
    assert read_predictions(tmp_path / "bad.json", proposals=True).left_out == {NO_PROPOSAL: 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"database": {"a": {"annotations": []}}}, "these are annotations, not predictions"),
        ({"a": [1.0, 2.0]}, "these are no predicted events"),
        ([1], "these are no predicted events"),
        ({"video": "a.mp4", "boundaries": []}, "these are no predicted events"),
        ({"results": {"a": {"label": "x"}}}, "'a' has no list of events"),
        ({"results": {"a": [{"start": 1}]}}, "none of its 1 entries has a label, a score and two times"),
        ([record("x/a.mp4", []), record("y/a.mp4", [])], "two results for 'a', from x/a.mp4 and y/a.mp4"),
        ([{"start": "1", "end": "2", "score": "3"}], "no column 'video'"),
    ],
)
def test_what_is_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "p.json", ["a"])


def test_nothing_found_is_no_error(tmp_path):
    for number, content in enumerate(([], {"results": {}}, {"video": "a.mp4", "events": []})):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
        assert rows(read_predictions(tmp_path / f"{number}.json")) == []


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jsonl").write_text('{"video": "a", "events": []}\n{"video"')
    (tmp_path / "bytes.bin").write_bytes(b"\x00\x01")
    for name, message in (
        ("bytes.bin", "these are no predicted events"),
        ("empty", "no .*events.json in this folder"),
        ("gone.json", "no such file"),
        ("broken.jsonl", "line 2"),
    ):
        with pytest.raises(InputError, match=message):
            read_predictions(tmp_path / name)


def test_names_of_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    videos = AnnotatedVideos(["v_abc", "x", "one/y", "two/y", str(tmp_path / "m" / "z.mp4"), "/else/z.mp4"])
    found = {name: videos.find(name, "f") for name in ("v_abc", "abc", "a/abc.mp4", "x.webm", "one/y", "m/z.mp4", "new/w.mp4")}
    assert found == {
        "v_abc": "v_abc",
        "abc": "v_abc",
        "a/abc.mp4": "v_abc",
        "x.webm": "x",
        "one/y": "one/y",
        "m/z.mp4": str(tmp_path / "m" / "z.mp4"),
        "new/w.mp4": "new/w.mp4",
    }
    with pytest.raises(InputError, match="may be any of 'one/y', 'two/y'"):
        videos.find("three/y.mp4", "f")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.json", '{"results": {}}', True),
        ("r.csv", "video,start,end,score\nv,0,1,0.5\n", True),
        ("r.csv", "\ufeffvideo, start, end, score, label\n", True),
        ("r.jsonl", '{"video": "v.mp4", "events": []}\n', True),
        ("m.csv", "path,label,start,end\nv.mp4,a,0,1\n", False),
        ("m.jsonl", '{"path": "v.mp4", "video": "x"}\n', False),
        ("m.txt", "v.mp4 0\n", False),
        ("v.mp4", "anything", False),
        ("found/v.events.json", "{}", True),
        ("videos/v.mp4", "", False),
    ],
)
def test_predictions_are_told_from_videos_and_manifests(tmp_path, name, content, expected):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8")
    given = file.parent if file.parent != tmp_path else file
    assert are_predictions(given) == expected
    assert not are_predictions(tmp_path / "nowhere.json")
