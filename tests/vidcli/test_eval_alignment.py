"""`vid eval alignment` as a user calls it."""

import json

import numpy as np
import pytest

from tasks.core.metrics.alignment_files import DECODINGS, PROTOCOLS
from vidcli.commands import eval_alignment

TRUTH = {"a": [[1, 2.5, 3.5, "add salt"], [0, 4, 5, "hello"]], "b": [[1, 8, 9, "stir it"], [0, 1, 2, "welcome back"]]}
CALL = ("eval", "alignment", "--predictions", "found", "--ground-truth", "truth.json")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with annotations."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return tmp_path


def test_the_command_knows_every_protocol_and_decoding():
    assert {each.value for each in eval_alignment.Name} == set(PROTOCOLS)
    assert {each.value for each in eval_alignment.Decode} == set(DECODINGS)


def test_pairs_of_second_and_score(here, vid):
    (here / "found").write_text(json.dumps({"a": [[4, 0.9], [0, 0.1]], "b": [[7, 0.5], [0, 0.6]]}))
    code, out, _ = vid(*CALL, "--json")
    result = json.loads(out)
    assert code == 0
    wanted = {"r_at_1": 0.5, "auc": 0.75, "n_sentences": 4, "n_alignable": 2, "n_missing": 0, "protocol": "htm-align"}
    assert {key: result[key] for key in wanted} == wanted


def test_a_video_without_predictions_is_missed(here, vid):
    (here / "found").write_text(json.dumps({"videos/b.mp4": [[8, 0.5], [0, 0.4]]}))
    code, out, err = vid(*CALL, "--json")
    result = json.loads(out)
    assert (code, result["r_at_1"], result["n_missing"]) == (0, 0.5, 1)
    assert result["auc"] == pytest.approx((2 + 1 / 2) / 4)
    assert "1 of 2 videos have no predictions, the first is 'a'" in err


def test_records_of_vid_align(here, vid):
    (here / "found").mkdir()
    for video, times in (("a", (3.0, 0.0)), ("b", (8.5, 0.0))):
        sentences = [{"text": item[3], "t": t, "score": float(item[0])} for item, t in zip(TRUTH[video], times, strict=True)]
        (here / "found" / f"{video}.alignment.json").write_text(json.dumps({"video": f"x/{video}.mp4", "sentences": sentences}))
    code, out, _ = vid(*CALL, "--json")
    assert (code, json.loads(out)["r_at_1"], json.loads(out)["auc"]) == (0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": [[4, 0.9]], "b": [[7, 0.5], [0, 0.6]]}, "'a' has 1 sentences, the ground truth 2"),
        ({"c": [[4, 0.9]]}, "have no video in common"),
        ({"a": [[4, "x"], [1, 2]]}, "'a' is not a list of [second, score]"),
        ({"a": [[4, float("nan")], [1, 2]]}, "'a' is not a list of [second, score]"),
        ([1], "not a JSON object of videos"),
    ],
)
def test_what_does_not_fit_is_told(here, vid, content, told):
    (here / "found").write_text(json.dumps(content))
    code, _, err = vid(*CALL)
    assert code == 3
    assert told in err


def test_breakfast_from_similarities_and_from_times(here, vid):
    labels = here / "labels"
    labels.mkdir()
    (labels / "P03_milk.txt").write_text("1-30 SIL  \n31-75 take_cup  \n76-150 SIL  \n")
    similarity = np.repeat(np.eye(3), [2, 3, 5], axis=1)
    (here / "found").write_text(json.dumps({"P03_milk": {"similarity": similarity.tolist()}}))
    call = ("eval", "alignment", "--predictions", "found", "--ground-truth", "labels", "--protocol", "breakfast", "--json")
    for decode in DECODINGS:
        result = json.loads(vid(*call, "--decode", decode)[1])
        assert [result[name] for name in ("f_acc", "iou", "iod", "decoding")] == [1, 1, 1, decode]
    (here / "found").write_text(json.dumps({"P03_milk": [[0, 2], [2, 4], [4, 10]]}))
    result = json.loads(vid(*call)[1])
    assert (result["f_acc"], result["decoding"]) == (pytest.approx(0.9), None)
    (here / "found").write_text(json.dumps({"P03_milk": [[0, 3], [2, 4], [4, 10]]}))
    code, _, err = vid(*call)
    assert code == 3
    assert "segments overlap" in err


def test_retrieval_of_features(here, vid):
    """Without their means every sentence finds its own segment, with them none but the first does."""
    rng = np.random.default_rng(0)
    text = np.eye(4)
    np.savez(here / "found.npz", text=text + 0.01 * rng.standard_normal((4, 4)), video=text + np.array([9, 0, 0, 0]))
    (here / "truth.json").write_text(json.dumps(["a", "b", "c", "d"]))
    call = ("eval", "alignment", "--predictions", "found.npz", "--ground-truth", "truth.json", "--protocol", "youcook2", "--json")
    result = json.loads(vid(*call)[1])
    assert result["centered"] == {"r_at_1": 1.0, "r_at_5": 1.0, "r_at_10": 1.0, "median_rank": 1.0}
    assert result["n_sentences"] == 4
    similarity = np.array([[3, 1, 2.0], [5, 1, 2], [0, 1, 2]])
    (here / "s.json").write_text(json.dumps({"similarity": similarity.tolist()}))
    (here / "truth.json").write_text(json.dumps({"1": "a", "2": "b", "3": "c"}))
    result = json.loads(vid(*call[:3], "s.json", *call[4:])[1])
    assert (result["r_at_1"], result["r_at_5"], result["median_rank"]) == (pytest.approx(2 / 3), 1.0, 1.0)
