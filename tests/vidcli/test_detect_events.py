"""`vid finetune` with towers and `vid detect-events` as a user calls them."""

import csv
import json

import pytest
from clip_toys import clip_folder
from clips_with_sound import write_clip

from tasks.core.data.features import FeatureFolder
from vidcli import app

EVENTS = {
    "a": [(1.0, 2.6, "low"), (3.4, 5.0, "high")],
    "b": [(0.6, 2.0, "high")],
    "c": [(2.0, 4.4, "low"), (3.0, 5.4, "high")],
    "d": [],
}
SMALL = (
    "model={width: 16, heads: 2, stem: 1, columns: 1, standardize: true, layer_scale: null, ranges: [[0, 4], [4, 8], [8, 10000]], "
    "alignment: {layers: 1, heads: 2, pair_width: 8}, neck: {blocks: 1}, head: {width: 16, layers: 2}}",
    "towers.visual={kind: motion, hop_s: 0.2, columns: 1, context_s: null, short_side: 64, side_px: 64}",
    "data.max_length=64",
    "data.workers=0",
)


def manifest(folder, names, file):
    lines = ["path,label,start,end"]
    for name in names:
        lines += [f"{name}.mp4,{kind},{start},{end}" for start, end, kind in EVENTS[name]] or [f"{name}.mp4,,,"]
    (folder / file).write_text("\n".join(lines) + "\n")


def sets(*more):
    return [part for value in (*SMALL, *more) for part in ("--set", value)]


def finetune(*more):
    arguments = ["finetune", "--preset", "localization/av-events", "--data", "train.csv", "--max-steps", "3", "-q"]
    return app.main([*arguments, *sets(), *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with videos, their events, and a run that has learned next to nothing from them."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("events")
    patch.chdir(folder)
    patch.setenv("VID_CACHE", str(folder / "cache"))
    patch.setenv("VID_WORKERS", "0")
    patch.setattr("sys.argv", ["vid"])
    for name, events in EVENTS.items():
        write_clip(folder / f"{name}.mp4", events)
    manifest(folder, "abcd", "train.csv")
    assert finetune("--out", "run") == 0
    yield folder
    patch.undo()


def detect(vid, *arguments):
    code, out, err = vid("detect-events", *arguments, "--json", "-q")
    return code, [json.loads(line) for line in out.splitlines()], err


def test_a_run_keeps_the_features_it_made_and_takes_them_again(trained, vid):
    visual, audio = (FeatureFolder(trained / "run" / "features" / name) for name in ("visual", "audio"))
    assert visual.names == audio.names == ["a", "b", "c", "d"]
    assert (visual.get("a").values.shape, audio.get("a").values.shape) == ((30, 131), (30, 128))
    before = {file: file.stat().st_mtime_ns for file in (trained / "run" / "features").rglob("*.npz")}
    assert finetune("--out", "again", "--set", "towers.folder=run/features") == 0
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_features_of_other_settings_are_made_anew(trained, vid):
    folder = ("--set", "towers.folder=shared")
    assert finetune("--out", "first", *folder) == 0
    assert finetune("--out", "second", *folder, "--set", "towers.visual.cells=2") == 0
    assert FeatureFolder(trained / "shared" / "visual").dim == 2 * 2 * 8 + 3


def test_all_kinds_of_files(trained, vid, tmp_path):
    code, found, _ = detect(vid, "a.mp4", "--model", "run", "--out", tmp_path, "--write", "csv,srt,anet,html")
    assert code == 0
    (record,) = found
    assert record["video"] == "a.mp4"
    assert record["has_sound"] is True
    assert record["duration_s"] == pytest.approx(6.0)
    assert {event["label"] for event in record["events"]} <= {"low", "high"}
    assert all(0 <= event["start"] < event["end"] <= 6.0 and 0 < event["score"] < 1 for event in record["events"])
    scores = [event["score"] for event in record["events"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.events.{end}" for end in ("anet.json", "csv", "html", "json", "srt")]
    with (tmp_path / "a.events.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(record["events"])


def test_what_is_there_is_not_done_again_unless_something_changed(trained, vid, tmp_path):
    common = ("a.mp4", "b.mp4", "--model", "run", "--out", tmp_path)
    assert [record.get("skipped") for record in detect(vid, *common)[1]] == [None, None]
    assert [record.get("skipped") for record in detect(vid, *common)[1]] == [True, True]
    assert [record.get("skipped") for record in detect(vid, *common, "--min-score", "0.5")[1]] == [None, None]


def test_fewer_events_are_the_best_ones(trained, vid):
    everything = detect(vid, "c.mp4", "--model", "run")[1][0]["events"]
    assert detect(vid, "c.mp4", "--model", "run", "--top", 3)[1][0]["events"] == everything[:3]
    scores = [event["score"] for event in everything]  # rounded: a bound lies where they are far apart
    n = max(range(1, len(scores)), key=lambda i: scores[i - 1] - scores[i])
    least = (scores[n - 1] + scores[n]) / 2
    assert detect(vid, "c.mp4", "--model", "run", "--min-score", least)[1][0]["events"] == everything[:n]


def test_proposals_have_no_class_and_overlap_less(trained, vid):
    found = detect(vid, "c.mp4", "--model", "run", "--proposals")[1][0]["events"]
    assert found
    assert all("label" not in event for event in found)


def test_what_a_localiser_proposes_gets_classes_by_any_names(trained, vid):
    clip_folder(trained / "clip")
    proposed = detect(vid, "c.mp4", "--model", "run", "--proposals", "--out", "proposals", "--overwrite")[1][0]["events"]
    words = ("--model", "clip", "--classes", "a dog runs,a cat rests", "--set", "per_proposal=1", "--set", "min_score=0")
    named = detect(vid, "c.mp4", *words, "--from-proposals", "proposals")[1][0]["events"]
    times = sorted((event["start"], event["end"]) for event in proposed)
    assert sorted((event["start"], event["end"]) for event in named) == times
    assert {event["label"] for event in named} <= {"a dog runs", "a cat rests"}


def test_features_made_before_give_the_same_events(trained, vid):
    made = detect(vid, "a.mp4", "--model", "run")[1][0]["events"]
    given = ("--features", "visual=run/features/visual", "--features", "audio=run/features/audio")
    assert detect(vid, "a.mp4", "--model", "run", *given)[1][0]["events"] == made
    code, found, _ = detect(vid, "a.mp4", "nowhere.mp4", "--model", "run", *given)
    assert (code, "error" in found[1]) == (4, True)


def test_features_of_another_kind_are_refused(trained, vid):
    assert vid("extract-features", "a.mp4", "--audio", "logmel", "--hop", "0.4", "--out", "other")[0] == 0
    code, _, err = vid("detect-events", "a.mp4", "--model", "run", "--features", "audio=other")
    assert code == 2
    assert "the model learned from logmel" in err
    code, _, err = vid("detect-events", "a.mp4", "--model", "run", "--features", "sound=other")
    assert (code, "has no stream 'sound'" in err) == (2, True)
    code, _, err = vid("detect-events", "a.mp4", "--model", "run", "--features", "other")
    assert (code, "visual=FOLDER" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mute", {"sound": False}, "no sound"),
        ("late", {"late_s": 2.0}, "begins 1.9 s after the picture"),
        ("short", {"sound_s": 3.0}, "ends 3.0 s before the picture"),
    ],
)
def test_sound_that_is_not_there_is_silence_and_said(trained, vid, name, settings, said):
    write_clip(trained / f"{name}.mp4", EVENTS["a"], **settings)
    code, (record,), _ = detect(vid, f"{name}.mp4", "--model", "run")
    assert code == 0
    assert any(said in note for note in record["notes"])
    assert record["has_sound"] is (name != "mute")


@pytest.mark.parametrize("settings", [{"rate": 8000}, {"rate": 48_000, "layout": "5.1"}, {"rate": 44_100, "layout": "stereo"}])
def test_sound_of_any_rate_and_layout_is_heard_alike(trained, vid, settings):
    write_clip(trained / "odd.mp4", EVENTS["b"], **settings)
    plain, odd = (detect(vid, name, "--model", "run")[1][0] for name in ("b.mp4", "odd.mp4"))
    assert odd["notes"] == []
    assert odd["events"][0]["label"] == plain["events"][0]["label"]
    assert odd["events"][0]["score"] == pytest.approx(plain["events"][0]["score"], abs=0.1)


def test_a_variable_frame_rate_keeps_its_times(trained, vid):
    ticks = (
        [100 * number for number in range(20)]
        + [2000 + 50 * number for number in range(40)]
        + [4000 + 200 * number for number in range(10)]
    )
    write_clip(trained / "vfr.mkv", EVENTS["a"], ticks=ticks)
    code, (record,), _ = detect(vid, "vfr.mkv", "--model", "run")
    assert code == 0
    assert record["duration_s"] == pytest.approx(6.0, abs=0.2)


def test_a_part_of_a_video_has_its_events_on_the_clock_of_the_whole(trained, vid):
    (trained / "parts.csv").write_text("path,start,end\na.mp4,2,5\n")
    code, (record,), _ = detect(vid, "parts.csv", "--model", "run")
    assert code == 0
    assert record["start_s"] == 2.0
    assert record["events"]
    assert all(2 <= event["start"] < event["end"] <= 5 for event in record["events"])


def test_a_table_for_people(trained, vid):
    code, out, err = vid("detect-events", "a.mp4", "--model", "run", "--min-score", "0.001")
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == ["video", "event", "start", "end", "score"]
    assert lines
    assert f"{len(lines)} events" in err


def test_without_a_model_the_reason_is_said(trained, vid):
    code, out, err = vid("detect-events", "a.mp4")
    assert (code, out) == (2, "")
    assert "only a trained model knows" in err
    assert "vid finetune --preset localization/av-events" in err


def test_a_model_of_another_kind_is_refused(trained, vid, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    config = json.loads((trained / "run" / "model" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "task": "classify"}))
    (folder / "model.safetensors").write_bytes((trained / "run" / "model" / "model.safetensors").read_bytes())
    code, _, err = vid("detect-events", "a.mp4", "--model", folder)
    assert (code, "is not a localiser of events" in err) == (2, True)


def test_towers_and_folders_exclude_each_other(trained, vid):
    code, _, err = vid(
        "finetune", "--preset", "localization/av-events", "--data", "train.csv", "--out", "x", "--set", "data.streams.visual.folder=y"
    )
    assert (code, "not from both" in err) == (2, True)


def test_a_video_that_cannot_be_read_is_left_out_and_said(trained, vid):
    (trained / "broken.mp4").write_bytes(b"nothing")
    (trained / "mixed.csv").write_text((trained / "train.csv").read_text() + "broken.mp4,low,1,2\n")
    assert finetune("--data", "mixed.csv", "--out", "mixed") == 0
    assert "broken.mp4" in (trained / "mixed" / "skipped.csv").read_text()


@pytest.mark.real
@pytest.mark.parametrize(("name", "heard"), [("dog_barking.mp4", True), ("yoga.mp4", False)])
def test_real_files_run_through(trained, vid, tmp_path, real_data, name, heard):
    code, (record,), _ = detect(vid, real_data / "clips" / name, "--model", "run", "--out", tmp_path, "--write", "html,srt")
    assert code == 0
    assert record["has_sound"] is heard
    assert bool(record["notes"]) is not heard
    assert record["events"]
    assert all(0 <= event["start"] < event["end"] <= record["duration_s"] + record["start_s"] + 1e-3 for event in record["events"])
