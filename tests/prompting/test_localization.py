"""`vid finetune` for timed events and `vid detect-events --from-proposals` as a user calls them."""

import csv
import json
import shutil

import numpy as np
import prompting_toys as toys
import pytest
from painted import write_video

from tasks.core.checkpoint import load_config, load_weights
from tasks.core.data.features import FeatureFolder, write_features
from tasks.core.data.grid import Grid
from vidcli.app import main

MODEL = {"frames": 16, "gaps": (1,), "temporal": {"layers": 1, "heads": 4}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Features of videos with events, proposals, videos of the same names, a CLIP model, and a run that has learned the events."""
    folder = toys.write_events(tmp_path_factory.mktemp("world"))
    toys.write_preset(folder, "small.yaml", method="localization", model=MODEL, train={"epochs": 40, "batch_size": 4})
    for number in range(8, 12):
        write_video(folder / f"v{number}.mp4", 40, rate=10)
    words = ("--val", f"{folder}/events.csv@val", "--out", folder / "run", "--set", f"proposals={folder / 'proposals.csv'}")
    assert main(finetune(folder, *words)) == 0
    return folder


def finetune(folder, *words):
    given = ["finetune", "--preset", folder / "small.yaml", "--data", f"{folder}/events.csv@train", *words]
    return [str(word) for word in given]


def detect(folder, *words, model="run", videos=("v8.mp4", "v9.mp4", "v10.mp4", "v11.mp4")):
    given = ["detect-events", *(folder / name for name in videos), "--model", folder / model, *words]
    given += ["--from-proposals", folder / "proposals.csv"] if "--from-proposals" not in words else []
    return [str(word) for word in given]


def with_features(folder, *words, **more):
    return detect(folder, "--features", f"visual={folder / 'features'}", *words, **more)


def test_a_run_learns_to_name_proposals(world):
    result = json.loads((world / "run" / "result.json").read_text())
    assert (result["top1"], result["average_map"], result["map@0.7"]) == (100, 1, 1)
    assert result["zero_shot_average_map"] < 0.9
    saved, weights = load_config(world / "run" / "model"), load_weights(world / "run" / "model")
    assert (saved["method"], saved["labels"]) == ("localization", sorted(toys.LABELS))
    assert {name.split(".")[0] for name in weights} == {"prompts", "temporal"}
    assert len(json.loads((world / "run" / "predictions.json").read_text())["results"]) == 4


def test_detection_gives_what_validation_measured(world, tmp_path, capsys):
    out = tmp_path / "found"
    assert main(with_features(world, "--out", out, "--write", "csv,srt,anet,html", "--json")) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    validated = json.loads((world / "run" / "predictions.json").read_text())["results"]
    for record in records:
        (same,) = (events for video, events in validated.items() if video.endswith(f"/{record['video'].split('/')[-1]}"))
        expected = [(e["label"], *e["segment"], round(e["score"], 6)) for e in same if e["score"] >= 0.001]
        assert [(e["label"], e["start"], e["end"], e["score"]) for e in record["events"]] == expected
    assert sorted(file.name for file in out.glob("v8*")) == [f"v8.events.{end}" for end in ("anet.json", "csv", "html", "json", "srt")]
    assert main(["eval", "events", "--predictions", str(out), "--ground-truth", f"{world}/events.csv", "--subset", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["average_map"] == 1
    assert main(with_features(world, "--out", out, "--write", "csv", "--json")) == 0
    assert all(json.loads(line)["skipped"] for line in capsys.readouterr().out.splitlines())
    assert main(with_features(world, "--out", out, "--classes", "running dog,resting cat", "--json")) == 0
    assert not any(json.loads(line).get("skipped") for line in capsys.readouterr().out.splitlines())


def test_any_names_by_a_clip_model_that_was_never_trained(world, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("red square\n\n blue   circle\n")
    for classes in ("red square, blue circle", str(tmp_path / "names.txt")):
        assert main(detect(world, "--classes", classes, "--json", "--set", "per_proposal=1", model="clip", videos=["v8.mp4"])) == 0
        record = json.loads(capsys.readouterr().out)
        with open(world / "proposals.csv") as file:
            scores = {float(row["start"]): float(row["score"]) for row in csv.DictReader(file) if row["video"] == "v8"}
        assert len(record["events"]) == len(scores) == 5
        assert {event["label"] for event in record["events"]} <= {"red square", "blue circle"}
        for event in record["events"]:
            assert scores[event["start"]] / 2 <= event["score"] <= scores[event["start"]]
        assert record["settings"]["classes"] == {"red square": "red square", "blue circle": "blue circle"}


def test_probabilities_of_names_add_up_to_the_score_of_the_proposal(world, capsys):
    words = ("--classes", "red square,blue circle,a dog", "--set", "per_proposal=null", "--set", "min_score=0", "--json")
    assert main(detect(world, *words, model="clip", videos=["v8.mp4"])) == 0
    total: dict[float, float] = {}
    for event in json.loads(capsys.readouterr().out)["events"]:
        total[event["start"]] = total.get(event["start"], 0) + event["score"]
    assert sorted(total.values()) == pytest.approx([0.5, 0.6, 0.9, 0.9, 0.9], abs=1e-5)


def test_proposals_that_detection_itself_wrote(world, tmp_path, capsys):
    out = tmp_path / "found"
    assert main(with_features(world, "--out", out, "--set", "per_proposal=1", videos=["v8.mp4"])) == 0
    capsys.readouterr()
    assert main(with_features(world, "--from-proposals", out, "--set", "per_proposal=1", "--json", videos=["v8.mp4"])) == 0
    first, second = json.loads((out / "v8.events.json").read_text())["events"], json.loads(capsys.readouterr().out)["events"]
    assert [event["label"] for event in first] == [event["label"] for event in second]


def test_a_video_without_proposals_has_no_events_and_says_so(world, tmp_path, capsys):
    write_video(tmp_path / "other.mp4", 20, rate=10)
    words = detect(world, "--classes", "red square,blue circle", "--json", model="clip", videos=["v8.mp4", tmp_path / "other.mp4"])
    assert main(words) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["events"]
    assert (found[1]["events"], found[1]["notes"]) == ([], [f"{world / 'proposals.csv'} has no proposals for this video"])


@pytest.mark.parametrize("words", [("v8.mp4", "--proposals", "PATH"), ("--proposals", "PATH", "v8.mp4")])
def test_proposals_with_a_path_are_from_proposals(world, tmp_path, capsys, words):
    assert main(detect(world, "--classes", "red square,blue circle", "--json", model="clip", videos=["v8.mp4"])) == 0
    expected = json.loads(capsys.readouterr().out)
    shutil.copy(world / "proposals.csv", tmp_path / "p.csv")
    results = {"results": {"v8": [{"score": 0.9, "segment": [0.5, 1.2]}]}}
    (tmp_path / "p.json").write_text(json.dumps(results))
    for file, n in (("p.csv", len(expected["events"])), ("p.json", 2)):
        given = [str({"PATH": tmp_path / file, "v8.mp4": world / "v8.mp4"}.get(word, word)) for word in words]
        assert main(["detect-events", *given, "--model", str(world / "clip"), "--classes", "red square,blue circle", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["events"]) == n


def test_a_table_for_people(world, capsys):
    assert main(with_features(world, videos=["v8.mp4"])) == 0
    captured = capsys.readouterr()
    assert len([line for line in captured.out.splitlines() if "v8.mp4" in line]) >= 3
    assert "1 of 1 videos" in captured.err


@pytest.mark.parametrize(
    ("words", "model", "code", "said"),
    [
        (("--classes", "dog"), "clip", 2, "one class only, 'dog'"),
        (("--classes", "dog,cat,dog"), "clip", 2, "the class 'dog' is named twice"),
        (("--classes", "red_square,Red square"), "clip", 3, "have the same name"),
        (("--classes", " , "), "clip", 2, "names nothing"),
        ((), "clip", 2, "knows no classes of its own"),
        (("--from-proposals", "nowhere.csv"), "run", 3, "nowhere.csv: no such file"),
        (("--proposals",), "run", 2, "give one of them"),
        (("--features", "audio=x"), "run", 2, "has one stream of features, visual"),
        (("--classes", "a,b"), "small.yaml", 2, "is not a model folder"),
        (("--write", "edl", "--out", "x"), "run", 2, "cannot write 'edl'"),
    ],
)
def test_what_cannot_be_detected_is_one_clear_line(world, tmp_path, monkeypatch, capsys, words, model, code, said):
    monkeypatch.chdir(tmp_path)
    assert main(detect(world, *words, model=model)) == code
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "{run}"), "gives names to events that a detector found, and there are none"),
        (("--model", "{run}", "--proposals"), "read them with --from-proposals"),
        (("--model", "{clip}", "--classes", "a,b"), "--classes gives names to events that a detector found"),
        (("--from-proposals", "x.csv"), "nothing says which model tells the classes"),
    ],
)
def test_what_does_not_go_together(world, capsys, words, said):
    filled = [word.format(run=world / "run", clip=world / "clip") for word in words]
    assert main(["detect-events", str(world / "v8.mp4"), *filled]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_features_of_nan_and_of_another_tower(world, tmp_path, capsys):
    values = np.array(FeatureFolder(world / "features").get("v8").values)
    values[5] = np.nan
    write_features(tmp_path / "nan", "v8", values, Grid(0.1, 0.1), {"reference": "toy", "weights_hash": "f" * 16})
    words = detect(world, "--features", f"visual={tmp_path / 'nan'}", videos=["v8.mp4"])
    assert main(words) == 3
    assert "its features are not all finite" in capsys.readouterr().err
    write_features(tmp_path / "other", "v8", values, Grid(0.1, 0.1), {"reference": "toy", "weights_hash": "e" * 16})
    assert main(detect(world, "--features", f"visual={tmp_path / 'other'}", videos=["v8.mp4"])) == 2
    assert "another encoder" in capsys.readouterr().err
    assert main(detect(world, "--set", f"clip={world / 'clip'}", videos=["v8.mp4"])) == 2
    assert "the image tower" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "proposals=x.csv"), 2, "there are none"),
        (("--set", "trials={kind: way}"), 2, "trials.kind way has no meaning for method: localization"),
        (("--set", "method=recognition", "--set", "proposals=x.csv"), 2, "proposals are classified by method: localization"),
        (("--set", "model.temporal.gap_embedding=true"), 2, "gap_embedding"),
        (("--set", "method=retrieval"), 3, "rows have no text"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(world, tmp_path, capsys, words, code, said):
    assert main(finetune(world, "--out", tmp_path / "run", *words)) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_rows_without_times_are_no_events(world, tmp_path, capsys):
    (tmp_path / "videos.csv").write_text("path,label\nv0.mp4,a\nv1.mp4,b\n")
    words = finetune(world, "--out", tmp_path / "run")
    words[words.index("--data") + 1] = str(tmp_path / "videos.csv")
    assert main(words) == 3
    assert "none of the 2 training rows has a start and an end" in capsys.readouterr().err


def test_videos_in_which_nothing_happens_count(world, tmp_path):
    """Their proposals are false positives; nothing is learned from them."""
    rows = (world / "events.csv").read_text().splitlines()
    kept = [row for row in rows if not row.startswith("v11.mp4")] + ["v11.mp4,,,,val"]
    (tmp_path / "events.csv").write_text("\n".join(kept) + "\n")
    words = finetune(world, "--out", tmp_path / "run", "--max-steps", "2", "--val", f"{tmp_path}/events.csv@val")
    words += ["--set", f"proposals={world / 'proposals.csv'}"]
    assert main(words) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["n"] == 9
    assert len(json.loads((tmp_path / "run" / "predictions.json").read_text())["results"]) == 4


def test_open_set_trials_measure_classes_that_were_not_learned(world, tmp_path, capsys):
    words = ["--val", f"{world}/events.csv@val", "--set", f"proposals={world / 'proposals.csv'}", "--out", str(tmp_path / "run")]
    words += ["--set", "trials={kind: open, trials: 2, held: 0.5}", "--max-steps", "3", "--json"]
    assert main(finetune(world, *words)) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    trials = json.loads((tmp_path / "run" / "trials.json").read_text())
    assert result["average_map"] == pytest.approx(sum(trial["average_map"] for trial in trials) / 2)
    assert "zero_shot_average_map_ci95" in result
    assert all(len(trial["classes"]) == 2 for trial in trials)


@pytest.mark.parametrize("hop", ["null", "0.2"])
def test_from_pixels_in_training_and_in_detection(world, tmp_path, capsys, hop):
    """Frames are as far apart in detection as they were in training, whatever the settings of detection say of CLIP models."""
    lines = ["path,label,start,end", *(f"{world}/v{n}.mp4,{'ab'[n % 2]},{1 + n % 2},{2.5 + n % 2}" for n in (8, 9))]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    words = finetune(world, "--out", tmp_path / "run", "--max-steps", "2", "--set", "data.streams={}", "--set", f"features.hop_s={hop}")
    words[words.index("--data") + 1] = str(tmp_path / "events.csv")
    assert main(words) == 0
    capsys.readouterr()
    given = ["detect-events", str(world / "v8.mp4"), "--model", str(tmp_path / "run"), "--from-proposals", str(world / "proposals.csv")]
    assert main([*given, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["events"]
    assert main([*given, "--features", f"visual={tmp_path / 'run' / 'features' / 'visual'}", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["events"]
    assert len(made) == len(kept) == 10
    for one, other in zip(made, kept, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=2e-3)  # kept features have 16 bits
