"""`vid eval boundaries` and `vid data import` as a user calls them, and every shape of predictions."""

import json
import pickle
import sys

import pytest

from tasks.boundaries.evaluate import read_predictions, run
from tasks.core.errors import InputError
from tasks.core.metrics.boundaries import gebd_scores
from tasks.core.reporter import Quiet
from vidcli import app


def entry(*raters, duration=10.0, consistency=0.5, **more):
    return {
        "video_duration": duration,
        "fps": 25.0,
        "num_frames": int(duration * 25),
        "f1_consis": [consistency] * len(raters),
        "f1_consis_avg": consistency,
        "substages_timestamps": [list(rater) for rater in raters],
        **more,
    }


TRUTH = {
    "one": entry([2.0, 7.0], [2.1]),
    "two": entry([5.0], path="videos/second.mp4"),
    "abcdefghijk": entry([1.0, 9.0], path_video="class/abcdefghijk_000001_000011.mp4"),
    "vague": entry([5.0], consistency=0.2),
}
FOUND = {"one": [2.2, 6.9], "two": [5.1], "abcdefghijk": [1.0, 3.0]}


def record(video, times, start=None):
    marks = [{"t": time + (start or 0.0), "frame": 0, "score": 0.9} for time in times]
    return {"video": video, "boundaries": marks, "duration_s": 10.0, **({} if start is None else {"start_s": start})}


RECORDS = [
    record("videos/one.mkv", FOUND["one"]),
    record("/data/second.mp4", FOUND["two"], start=1.5),
    record("abcdefghijk_000001_000011.mp4", FOUND["abcdefghijk"], start=-0.25),
]


class Heard(Quiet):
    """Keeps the warnings."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with the truth in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return tmp_path


@pytest.fixture
def vid(monkeypatch, capsys):
    """Runs `vid` here: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["vid"])

    def call(*arguments):
        code = app.main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return call


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("shape", ["mapping", "pickle", "lines", "lines in .json", "list", "folder"])
def test_every_shape_of_predictions_says_the_same(here, shape):
    path = here / "found.json"
    if shape == "mapping":
        write(path, FOUND)
    elif shape == "pickle":
        path = here / "submission.pkl"
        path.write_bytes(pickle.dumps(FOUND))
    elif shape == "lines":
        path = write(here / "found.jsonl", lines(RECORDS) + "\n")
    elif shape == "lines in .json":
        write(path, lines(RECORDS))
    elif shape == "list":
        write(path, RECORDS)
    else:
        path = here / "found"
        for number, one in enumerate(RECORDS):
            write(path / f"{number}.boundaries.json", json.dumps(one, indent=2))
        write(path / "notes.json", "{}")
    found = read_predictions(path, TRUTH)
    assert found == {video: pytest.approx(times) for video, times in FOUND.items()}


def test_one_object_alone(here):
    assert read_predictions(write(here / "a.jsonl", lines(RECORDS[:1])), TRUTH) == {"one": FOUND["one"]}
    assert read_predictions(write(here / "a.json", RECORDS[0]), TRUTH) == {"one": FOUND["one"]}


def test_a_video_that_the_detector_could_not_read_has_no_predictions(here):
    path = write(here / "a.jsonl", lines([RECORDS[0], {"video": "second.mp4", "error": "no frames"}]))
    assert read_predictions(path, TRUTH) == {"one": FOUND["one"]}
    reporter = Heard()
    assert run(path, here / "truth.json", reporter)["n_missing"] == 2
    assert len(reporter.warnings) == 1


def test_names_of_a_mapping_are_taken_as_they_stand_and_unknown_videos_keep_their_stem(here):
    assert read_predictions(write(here / "a.json", {"one.mp4": [1]}), TRUTH) == {"one.mp4": [1.0]}
    assert read_predictions(write(here / "a.jsonl", lines([record("x/new.mp4", [1.0])])), TRUTH) == {"new": [1.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"one": 5.0}, "'one': a list of seconds was expected, got float"),
        ({"one": ["a"]}, "'one': a number was expected, got 'a'"),
        ('{"one": [1.0], "one": [2.0]}', "'one' occurs twice"),
        ('{"one": [NaN]}', "'one': nan is not a finite number"),
        ("5", "these are not predictions"),
        ([{"boundaries": []}], "an object without 'video'"),
        ([{"video": "one.mp4"}], r"one\.mp4 has no list of boundaries"),
        ([{"video": "one.mp4", "boundaries": [1.0]}], r"one\.mp4 has no list of boundaries"),
        ([record("a/one.mp4", []), record("b/one.mp4", [])], r"two predictions for 'one', the second from b/one\.mp4"),
        ('{"video": "one.mp4", "boundaries": []}\n{"video": "two', r"found\.json, line 2: not valid JSON"),
        ("nonsense", "not valid JSON"),
    ],
)
def test_predictions_that_cannot_be_used_are_named(here, content, message):
    with pytest.raises(InputError, match=message):
        read_predictions(write(here / "found.json", content), TRUTH)


def test_absent_predictions(here):
    with pytest.raises(InputError, match="no such file"):
        read_predictions(here / "nowhere.json", TRUTH)
    (here / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*\.boundaries\.json in this folder"):
        read_predictions(here / "empty", TRUTH)


def test_a_stem_that_fits_two_videos_is_an_error(here):
    truth = {"a": entry([1.0], path="x/clip.mp4"), "b": entry([1.0], path="y/clip.mp4")}
    with pytest.raises(InputError, match="'a', 'b'"):
        read_predictions(write(here / "found.json", [record("clip.mp4", [1.0])]), truth)


def test_the_result_is_the_metric_and_says_where_it_comes_from(here):
    reporter = Heard()
    write(here / "found.json", {"one": [2.2], "stranger": [1.0]})
    result = run(here / "found.json", here / "truth.json", reporter)
    expected = gebd_scores({"one": [2.2]}, TRUTH)
    assert {key: result[key] for key in ("f1", "precision", "recall", "avg_f1", "n_videos", "n_dropped", "n_missing")} == {
        key: expected[key] for key in ("f1", "precision", "recall", "avg_f1", "n_videos", "n_dropped", "n_missing")
    }
    assert (result["n_videos"], result["n_dropped"], result["n_missing"], result["n_unknown"]) == (3, 1, 2, 1)
    assert (result["protocol"], result["min_consistency"], len(result["data_hash"])) == ("gebd", 0.3, 16)
    assert len(reporter.warnings) == 2
    assert "2 videos of the ground truth have no predictions: they count as if nothing was found" in reporter.warnings[0]
    assert "'stranger'" in reporter.warnings[1]
    run(write(here / "found.json", FOUND), here / "truth.json", quiet := Heard())
    assert quiet.warnings == []


def test_pickled_truth_is_read_as_data(here):
    (here / "truth.pkl").write_bytes(pickle.dumps(TRUTH))
    write(here / "found.json", FOUND)
    from_pickle, from_json = (run(here / "found.json", here / f"truth.{suffix}", Quiet()) for suffix in ("pkl", "json"))
    assert from_pickle["f1"] == from_json["f1"]


def test_eval_prints_one_object_or_a_table(here, vid):
    write(here / "found.json", FOUND)
    code, out, err = vid(
        "eval", "boundaries", "--predictions", "found.json", "--ground-truth", "truth.json", "--json", "--out", "r/result.json"
    )
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result == json.loads((here / "r" / "result.json").read_text())
    assert list(result["f1"]) == list(result["recall"]) == [f"{number / 20:.2f}" for number in range(1, 11)]
    assert result["f1"]["0.05"] == pytest.approx(gebd_scores(FOUND, TRUTH)["f1"]["0.05"], abs=1e-12)
    code, out, _ = vid("eval", "boundaries", "--predictions", "found.json", "--ground-truth", "truth.json")
    table = [line.split() for line in out.splitlines()]
    assert table[0] == ["distance", "precision", "recall", "f1"]
    assert table[1] == ["0.05", *(f"{result[measure]['0.05']:.4f}" for measure in ("precision", "recall", "f1"))]
    assert table[11][-1] == f"{result['avg_f1']:.4f}"
    assert ["n_dropped", "1"] in table


def test_eval_options_and_exit_codes(here, vid):
    write(here / "found.json", {"one": [2.2]})
    base = ("eval", "boundaries", "--predictions", "found.json", "--ground-truth", "truth.json", "--json", "-q")
    assert json.loads(vid(*base, "--missing", "drop")[1])["n_videos"] == 1
    assert json.loads(vid(*base, "--min-consistency", "0")[1])["n_videos"] == 4
    assert json.loads(vid(*base, "--protocol", "tapos")[1])["n_videos"] == 4
    code, out, err = vid(*base, "--missing", "error")
    assert (code, out) == (3, "")
    assert "2 of 3 videos have no predictions" in err
    assert vid(*base, "--protocol", "coco")[0] == 2
    assert vid("eval", "boundaries", "--predictions", "found.json", "--ground-truth", "gone.json")[0] == 3
    write(here / "found.json", {"stranger": [1.0]})
    code, out, err = vid(*base)
    assert (code, json.loads(out)["n_unknown"]) == (0, 1)
    assert "not in the ground truth" in err


def test_import_writes_a_truth_that_eval_takes(here, vid):
    marks = [{"start_time": 4.0, "end_time": 6.0, "label": "EventChange (Timestamp/Range): Multiple"}]
    about = {
        "fps": 25.0,
        "num_frames": 250,
        "video_duration": 10.0,
        "path_video": "c/vid.mp4",
        "f1_consis": [1.0] * 3,
        "f1_consis_avg": 1.0,
    }
    raw = {"vid": {**about, "substages_timestamps": [marks] * 3}, "few": {**about, "substages_timestamps": [marks]}}
    (here / "k400_val_raw_annotation.pkl").write_bytes(pickle.dumps(raw))
    write(here / "set" / "vid.mp4", "")
    code, out, err = vid("data", "import", "k400_val_raw_annotation.pkl", "--videos", "set", "-o", "new/val.json", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"truth": "new/val.json", "format": "gebd-raw", "videos": 1, "boundaries": 1, "left_out": 1, "with_video": 1, "without_video": 0},
    )
    assert "left out 1: fewer than 3 annotators" in err
    written = json.loads((here / "new" / "val.json").read_text())
    assert written["vid"]["path"] == str(here / "set" / "vid.mp4")
    write(here / "found.json", {"vid": [5.0]})
    assert (
        json.loads(vid("eval", "boundaries", "--predictions", "found.json", "--ground-truth", "new/val.json", "--json")[1])["avg_f1"] == 1.0
    )
    code, _, err = vid("data", "import", "k400_val_raw_annotation.pkl", "-o", "new/val.json")
    assert (code, "--force" in err) == (2, True)


def test_import_says_what_it_lacks_and_keeps_paths_right(here, vid):
    write(here / "videos" / "second.mp4", "")
    code, out, _ = vid("data", "import", "truth.json", "-o", "videos/val.json", "--json", "-q")
    assert (code, json.loads(out)["videos"]) == (0, 4)
    assert json.loads((here / "videos" / "val.json").read_text())["two"]["path"] == "second.mp4"
    code, out, err = vid("data", "import", "truth.json", "--videos", "videos", "-o", "val.json", "--json")
    counts = json.loads(out)
    assert (counts["with_video"], counts["without_video"]) == (1, 3)
    assert json.loads((here / "val.json").read_text())["two"]["path"] == "videos/second.mp4"
    assert "3 of 4 videos are not below videos" in err
    (here / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    code, _, err = vid("data", "import", "evil.pkl", "-o", "never.json")
    assert (code, "os.system" in err, (here / "never.json").exists()) == (2, True, False)
    assert vid("data", "import", "truth.json", "--split", "val", "-o", "never.json")[0] == 2


@pytest.mark.real
def test_perfect_predictions_of_real_truth(real_data):
    path = real_data / "tapos" / "val.json"
    truth = json.loads(path.read_text())
    perfect = {video: entry["substages_timestamps"][0] for video, entry in truth.items()}
    scores = gebd_scores(perfect, truth)
    assert set(scores["f1"].values()) == {1.0}
    assert (scores["n_videos"], scores["n_dropped"]) == (1755, 0)
