import csv
import json

import numpy as np
import pytest
from found_anomalies import detection, scores_of
from sklearn.metrics import roc_auc_score

from tasks.anomalies.evaluate import Protocol, paired, run
from tasks.anomalies.evaluation_page import _thinned
from tasks.anomalies.result import as_record
from tasks.anomalies.writers import write_csv
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.output import write_record
from tasks.core.metrics.anomalies import normalized, roc, smoothed
from tasks.core.reporter import Quiet

LENGTHS = {"test/01.mp4": 60, "test/02.mp4": 45, "test/03.mp4": 30}


class Heard(Quiet):
    """Remembers what it is told."""

    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    warn = info


def made(seed=0):
    """Scores and labels of three videos; the third is wholly anomalous."""
    rng = np.random.default_rng(seed)
    labels = {video: (rng.random(n) < 0.4).astype(int) for video, n in LENGTHS.items()}
    labels["test/03.mp4"][:] = 1
    return {video: (rng.random(len(y)) + 0.5 * y).astype(np.float32) / 2 for video, y in labels.items()}, labels


def write(path, values, column):
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "frame", column])
        table.writerows((video, i, v) for video, column_ in values.items() for i, v in enumerate(column_.tolist()))
    return path


def test_micro_auc_is_that_of_scikit_learn(tmp_path):
    scores, labels = made()
    result = run(write(tmp_path / "p.csv", scores, "score"), write(tmp_path / "g.csv", labels, "label"), Quiet())
    s, y = np.concatenate(list(scores.values())), np.concatenate(list(labels.values()))
    assert result["auc"] == pytest.approx(roc_auc_score(y, s), abs=1e-9)
    assert (result["n_frames"], result["n_videos"], result["n_one_class"], result["n_anomalous"]) == (135, 3, 1, int(y.sum()))
    assert (result["n_unscored"], result["n_unlabelled"], result["protocol"], result["smoothing"]) == (0, 0, "micro-auc", None)
    assert result["videos"]["test/01.mp4"]["auc"] == pytest.approx(roc_auc_score(labels["test/01.mp4"], scores["test/01.mp4"]))
    assert result["videos"]["test/03.mp4"] == {"auc": None, "n_frames": 30, "n_anomalous": 30}
    json.dumps(result)


def test_macro_auc_says_what_it_does_with_one_class_videos(tmp_path):
    scores, labels = made()
    files = write(tmp_path / "p.csv", scores, "score"), write(tmp_path / "g.csv", labels, "label")
    own = [roc_auc_score(labels[v], scores[v]) for v in list(LENGTHS)[:2]]
    skipped = run(*files, Quiet(), Protocol("macro-auc", one_class="skip"))
    assert skipped["auc"] == pytest.approx(np.mean(own), abs=1e-9)
    reporter = Heard()
    padded = run(*files, reporter, Protocol("macro-auc"))
    assert padded["auc"] > skipped["auc"]
    assert (padded["one_class"], skipped["one_class"]) == ("pad", "skip")
    assert any("1 of 3 videos have frames of one class only" in line for line in reporter.lines)


@pytest.mark.parametrize("form", ["csv", "json", "both", "lines"])
def test_own_output_in_every_form_gives_the_same(tmp_path, form):
    scores, labels = made()
    folder, lines = tmp_path / "found", []
    folder.mkdir()
    for video, score in scores.items():
        found = detection(scores=scores_of(score), path=f"/somewhere/ped2/{video}")
        if form in ("csv", "both"):
            write_csv(folder / f"{video[-6:-4]}.anomalies.csv", found)
        if form in ("json", "both"):
            write_record(folder / f"{video[-6:-4]}.anomalies.json", as_record(found))
        lines.append(json.dumps(as_record(found)))
    lines.append(json.dumps({"video": "broken.mp4", "error": "no such file"}))
    (tmp_path / "found.jsonl").write_text("\n".join(lines))
    predictions = tmp_path / "found.jsonl" if form == "lines" else folder
    result = run(predictions, write(tmp_path / "g.csv", labels, "label"), Quiet())
    s, y = np.concatenate(list(scores.values())), np.concatenate(list(labels.values()))
    assert result["auc"] == pytest.approx(roc_auc_score(y, s), abs=1e-9)
    assert result["parts"] == {"motion": result["auc"], "change": result["auc"]}  # halves and quarters of the score


def test_indicators_are_measured_alone(tmp_path):
    (tmp_path / "p.csv").write_text("video,frame,score,good,bad,comment\na,0,0.5,0,1,x\na,1,0.5,1,0,y\n")
    (tmp_path / "g.csv").write_text("video,frame,label\na,0,0\na,1,1\n")
    assert run(tmp_path / "p.csv", tmp_path / "g.csv", Quiet())["parts"] == {"good": 1.0, "bad": 0.0}


def test_frames_of_one_side_only_are_counted(tmp_path):
    (tmp_path / "p.csv").write_text("video,frame,score\na,1,0.1\na,2,0.9\na,7,0.9\nb,0,0.4\n")
    (tmp_path / "g.csv").write_text("video,frame,label\na,0,0\na,1,0\na,2,1\nc,0,1\n")
    with pytest.raises(InputError, match="2 labelled frames have no score, the first is frame 0 of 'a'") as caught:
        run(tmp_path / "p.csv", tmp_path / "g.csv", Quiet())
    assert "--missing drop" in caught.value.hint
    reporter = Heard()
    result = run(tmp_path / "p.csv", tmp_path / "g.csv", reporter, Protocol(missing="drop"))
    assert (result["auc"], result["n_frames"], result["n_unscored"], result["n_unlabelled"]) == (1.0, 2, 2, 2)
    assert any("2 labelled frames" in line for line in reporter.lines)
    (tmp_path / "other.csv").write_text("video,frame,label\nc,0,1\n")
    with pytest.raises(InputError, match="no labelled frame has a score"):
        run(tmp_path / "p.csv", tmp_path / "other.csv", Quiet(), Protocol(missing="drop"))


def test_smoothing_and_normalisation_are_named_and_done_per_video_in_this_order(tmp_path):
    scores, labels = made()
    files = write(tmp_path / "p.csv", scores, "score"), write(tmp_path / "g.csv", labels, "label")
    result = run(*files, Quiet(), Protocol(smooth=(3.0, "frames"), normalize="per_video_minmax"))
    changed = [normalized(smoothed(s, np.arange(len(s)), 3.0), "per_video_minmax") for s in scores.values()]
    assert result["auc"] == pytest.approx(roc_auc_score(np.concatenate(list(labels.values())), np.concatenate(changed)), abs=1e-9)
    assert result["smoothing"] == {"kind": "gaussian", "sigma": 3.0, "unit": "frames"}
    assert result["normalization"] == "per_video_minmax"
    with pytest.raises(InputError, match="seconds needs the times"):
        run(*files, Quiet(), Protocol(smooth=(0.5, "s")))
    write_record(tmp_path / "own.json", as_record(detection(scores=scores_of(scores["test/01.mp4"]), path="test/01.mp4")))
    in_seconds = run(tmp_path / "own.json", files[1], Quiet(), Protocol(smooth=(0.5, "s"), missing="drop"))
    in_frames = run(tmp_path / "own.json", files[1], Quiet(), Protocol(smooth=(5.0, "frames"), missing="drop"))
    assert in_seconds["auc"] == in_frames["auc"]  # 10 frames a second


def test_trim_leaves_what_windows_of_16_frames_score(tmp_path):
    """L frames -> L - 15, labels [8 : L - 7], with or without scores there."""
    scores, labels = made()
    truth = write(tmp_path / "g.csv", labels, "label")
    s = np.concatenate([v[8:-7] for v in scores.values()])
    y = np.concatenate([v[8:-7] for v in labels.values()])
    result = run(write(tmp_path / "p.csv", scores, "score"), truth, Quiet(), Protocol(trim=(8, 7)))
    assert result["auc"] == pytest.approx(roc_auc_score(y, s), abs=1e-9)
    assert result["n_frames"] == sum(LENGTHS.values()) - 3 * 15
    assert (result["trim"], result["n_unlabelled"]) == ([8, 7], 0)


@pytest.mark.real
def test_the_frames_of_ped2_that_papers_evaluate(tmp_path, real_data):
    with open(real_data / "ped2" / "test_labels.csv") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "p.csv").write_text("video,frame,score\n" + "".join(f"{r['video']},{r['frame']},{r['label']}\n" for r in rows))
    whole = run(tmp_path / "p.csv", real_data / "ped2" / "test_labels.csv", Quiet())
    trimmed = run(tmp_path / "p.csv", real_data / "ped2" / "test_labels.csv", Quiet(), Protocol(trim=(8, 7)))
    assert (whole["n_frames"], whole["n_anomalous"], whole["n_videos"], whole["n_one_class"]) == (2010, 1648, 12, 4)
    assert (trimmed["n_frames"], trimmed["auc"]) == (1830, 1.0)


def test_labels_of_all_videos_in_one_array(tmp_path):
    scores, labels = made()
    folder = tmp_path / "found"
    folder.mkdir()
    for video in reversed(LENGTHS):  # the order of the names counts
        found = detection(scores=scores_of(scores[video]), path=video)
        write_record(folder / f"{9 - int(video[-5])}.anomalies.json", as_record(found))
    np.save(tmp_path / "g.npy", np.concatenate(list(labels.values()))[None].astype(np.int8))
    result = run(folder, tmp_path / "g.npy", Quiet())
    s, y = np.concatenate(list(scores.values())), np.concatenate(list(labels.values()))
    assert result["auc"] == pytest.approx(roc_auc_score(y, s), abs=1e-9)
    np.save(tmp_path / "short.npy", np.zeros((1, 100)))
    with pytest.raises(InputError, match="labels 100 frames, the 3 predicted videos have 135"):
        run(folder, tmp_path / "short.npy", Quiet())
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="no labels"):
        run(folder, tmp_path / "pickled.npy", Quiet())


def test_tracks_of_ubnormal_and_arrays_per_video(tmp_path):
    """Tracks of id, first, last frame, both included; videos named normal_* have none."""
    lengths = {"Scene1/abnormal_scene_1_scenario_1.mp4": 20, "Scene1/normal_scene_1_scenario_2.mp4": 10, "Scene1/other.mp4": 5}
    scores = {video: np.random.default_rng(1).random(n) for video, n in lengths.items()}
    predictions = write(tmp_path / "p.csv", scores, "score")
    truth = tmp_path / "UBnormal" / "Scene1" / "abnormal_scene_1_scenario_1_annotations"
    truth.mkdir(parents=True)
    (truth / "abnormal_scene_1_scenario_1_tracks.txt").write_text("1.0,3.0,5.0\n2.0,5.0,9.0\n")
    result = run(predictions, tmp_path / "UBnormal", Quiet())
    y = np.zeros(30)
    y[3:10] = 1
    assert result["auc"] == pytest.approx(roc_auc_score(y, np.concatenate(list(scores.values())[:2])), abs=1e-9)
    assert (result["n_videos"], result["n_unlabelled"]) == (2, 5)
    masks = tmp_path / "test_frame_mask"
    masks.mkdir()
    np.save(masks / "abnormal_scene_1_scenario_1.npy", y[:20].astype(np.uint8))
    np.save(masks / "normal_scene_1_scenario_2.npy", y[20:].astype(np.uint8))
    assert run(predictions, masks, Quiet())["auc"] == result["auc"]


@pytest.mark.parametrize(
    ("labelled", "predicted", "expected"),
    [
        (["test/01.mp4"], ["test/01.mp4", "train/01.mp4"], {"test/01.mp4": "test/01.mp4"}),
        (["test/01.mp4"], ["/data/ped2/test/01.avi", "/data/ped2/train/01.avi"], {"test/01.mp4": "/data/ped2/test/01.avi"}),
        (["01", "02"], ["a/02.mp4", "a/01.mp4", "a/03.mp4"], {"01": "a/01.mp4", "02": "a/02.mp4"}),
        (["data/test/x.y"], ["test\\x.y"], {"data/test/x.y": "test\\x.y"}),
        (["here/01.mp4"], ["there/01.mp4"], {"here/01.mp4": "there/01.mp4"}),
        (["test/01.mp4", "train/01.mp4"], ["test/01.mp4"], {"test/01.mp4": "test/01.mp4"}),
        (["a"], ["b"], {}),
    ],
)
def test_videos_are_paired(labelled, predicted, expected):
    assert paired(labelled, predicted, Quiet()) == expected


@pytest.mark.parametrize(
    ("labelled", "predicted", "words"),
    [
        (["01.mp4"], ["train/01.mp4", "test/01.mp4"], "'01.mp4' of the labels may be any of 'train/01.mp4', 'test/01.mp4'"),
        (["test/01.mp4"], ["a/test/01.mp4", "b/test/01.mp4"], "may be any of"),
        (["x/01.mp4", "y/01.mp4"], ["01.mp4"], "predicted '01.mp4' may be 'x/01.mp4' or 'y/01.mp4'"),
        (["x/01.mp4"], ["y/01.mp4", "z/01.mp4"], "may be any of"),
    ],
)
def test_doubtful_names_are_errors(labelled, predicted, words):
    with pytest.raises(InputError, match=words):
        paired(labelled, predicted, Quiet())


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ("video,score\na,1\n", "no column frame"),
        ("video,frame,score\na,0,high\n", "line 2: 'high' is not a finite number"),
        ("video,frame,score\na,0,nan\n", "not a finite number"),
        ("video,frame,score\na,0.5,1\n", "not a whole number"),
        ("video,frame,score\na,1,1\na,1,1\n", "frame 1 of 'a' occurs twice"),
        ("video,frame,score\na,-1,1\n", "frame -1"),
        ("video,frame,score\n", "no scores"),
    ],
)
def test_unusable_predictions(tmp_path, predictions, words):
    (tmp_path / "p.csv").write_text(predictions)
    (tmp_path / "g.csv").write_text("video,frame,label\na,0,0\na,1,1\n")
    with pytest.raises(InputError, match=words):
        run(tmp_path / "p.csv", tmp_path / "g.csv", Quiet())


def test_unusable_labels_and_protocols(tmp_path):
    (tmp_path / "p.csv").write_text("video,frame,score\na,0,0\na,1,1\n")
    for text, words in (("a,0,2\n", "line 2: label 2"), ("a,0,\n", "not a whole number"), ("a,0,0\na,0,1\n", "twice")):
        (tmp_path / "g.csv").write_text("video,frame,label\n" + text)
        with pytest.raises(InputError, match=words):
            run(tmp_path / "p.csv", tmp_path / "g.csv", Quiet())
    with pytest.raises(UsageError, match="unknown protocol"):
        run(tmp_path / "p.csv", tmp_path / "g.csv", Quiet(), Protocol("auc"))
    with pytest.raises(InputError, match=r"no \*.npy"):
        run(tmp_path / "p.csv", tmp_path, Quiet())
    with pytest.raises(InputError, match="No such file"):
        run(tmp_path / "none.csv", tmp_path / "g.csv", Quiet())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*.anomalies.json"):
        run(tmp_path / "empty", tmp_path / "g.csv", Quiet())
    (tmp_path / "p.json").write_text('{"video": "a", "boundaries": []}')
    with pytest.raises(InputError, match="no scores of frames"):
        run(tmp_path / "p.json", tmp_path / "g.csv", Quiet())


def test_one_class_altogether_has_no_auc(tmp_path):
    (tmp_path / "p.csv").write_text("video,frame,score\na,0,0\na,1,1\n")
    (tmp_path / "g.csv").write_text("video,frame,label\na,0,1\na,1,1\n")
    reporter = Heard()
    assert run(tmp_path / "p.csv", tmp_path / "g.csv", reporter)["auc"] is None
    assert any("one class" in line for line in reporter.lines)


def test_the_page_draws_the_curve_whose_area_is_told(tmp_path):
    scores, labels = made()
    files = write(tmp_path / "p.csv", scores, "score"), write(tmp_path / "g.csv", labels, "label")
    result = run(*files, Quiet(), page=tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count("data:image/svg") == 2
    assert f"{result['auc']:.4g}" in html
    assert all(video in html for video in LENGTHS)
    flat = np.concatenate(list(scores.values())), np.concatenate(list(labels.values()))
    xs, ys = roc(*flat)
    assert (xs[0], ys[0], xs[-1], ys[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(ys, xs) == pytest.approx(roc_auc_score(flat[1], flat[0]))
    thin = _thinned(*(np.linspace(0, 1, 5000) ** power for power in (1, 0.2)))
    assert len(thin[0]) <= 400
    assert np.trapezoid(thin[1], thin[0]) == pytest.approx(1 / 1.2, abs=2e-3)


def test_frames_of_one_class_have_a_histogram_and_no_curve(tmp_path):
    scores = {"a": np.linspace(0, 1, 20)}
    files = write(tmp_path / "p.csv", scores, "score"), write(tmp_path / "g.csv", {"a": np.zeros(20, int)}, "label")
    run(*files, Quiet(), page=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("data:image/svg") == 1
