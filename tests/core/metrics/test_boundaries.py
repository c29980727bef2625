"""F1 of boundaries against a slow reading of the rules, one video and one annotator at a time, and by hand."""

import random

import numpy as np
import pytest

from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.boundaries import PROTOCOLS, THRESHOLDS, VideoTruth, gebd_scores


def entry(*raters, duration=10.0, consistency=0.5):
    return {
        "video_duration": duration,
        "fps": 25.0,
        "num_frames": int(duration * 25),
        "f1_consis": [consistency] * len(raters),
        "f1_consis_avg": consistency,
        "substages_timestamps": [list(rater) for rater in raters],
    }


def f_measure(matched, marked, found):
    precision = matched / found if found else 0.0
    recall = matched / marked if marked else 1.0
    return precision, recall, 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def by_the_rules(predictions, truth, share):
    """(precision, recall, F1) of rules 1 to 4 of the module, word by word."""
    matched_in_all = marked_in_all = found_in_all = 0
    for video, about in truth.items():
        if about["f1_consis_avg"] < 0.3:
            continue
        raters, duration = about["substages_timestamps"], about["video_duration"]
        found = [time for time in predictions.get(video, []) if 0 <= time <= duration]
        if not found:
            marked_in_all += len(raters[0])
            continue
        outcomes = []
        for rater in raters:
            free = list(found)
            for mark in rater:
                if free:
                    nearest = min(free, key=lambda time, mark=mark: abs(mark - time))
                    if abs(mark - nearest) <= share * duration:
                        free.remove(nearest)
            matched = len(found) - len(free)
            outcomes.append((f_measure(matched, len(rater), len(found))[2], matched, len(rater)))
        _, matched, marked = max(outcomes, key=lambda outcome: outcome[0])
        matched_in_all, marked_in_all, found_in_all = matched_in_all + matched, marked_in_all + marked, found_in_all + len(found)
    return f_measure(matched_in_all, marked_in_all, found_in_all)


def random_times(rng, n, duration, grid):
    times = [rng.uniform(-0.1, 1.1) * duration for _ in range(n)]
    times = [round(time / grid) * grid for time in times] if grid else times
    return times + times[:1] if rng.random() < 0.2 else sorted(times) if rng.random() < 0.5 else times


def random_case(seed):
    """Ties, duplicates, unsorted and outside times, empty and missing predictions, annotators without boundaries."""
    rng = random.Random(seed)
    predictions, truth = {}, {}
    for number in range(rng.choice((0, 1, 2, 6))):
        duration, grid = rng.choice(((10, 0), (10.0, 0.5), (10.0, 1.0), (7.3, 0), (0.0, 0), (300.0, 15.0)))
        raters = [random_times(rng, rng.choice((0, 1, 2, 3, 6)), duration, grid) for _ in range(rng.choice((1, 3, 5)))]
        truth[f"v{number}"] = entry(*raters, duration=duration, consistency=rng.choice((0.1, 0.29999, 0.3, 0.6, 1.0)))
        times = random_times(rng, rng.choice((0, 1, 2, 4, 9)), duration, grid)
        near = [time + rng.gauss(0, 0.04 * duration) for time in rng.choice(raters)]
        if rng.random() < 0.85:
            predictions[f"v{number}"] = rng.choice((times, near))
    return predictions, truth


@pytest.mark.parametrize("seed", range(250))
def test_agrees_with_the_rules_read_slowly(seed):
    predictions, truth = random_case(seed)
    scores = gebd_scores(predictions, truth)
    for share in THRESHOLDS:
        expected = by_the_rules(predictions, truth, share)
        name = f"{share:.2f}"
        assert (scores["precision"][name], scores["recall"][name], scores["f1"][name]) == pytest.approx(expected, abs=1e-12)
    assert scores["avg_f1"] == pytest.approx(np.mean(list(scores["f1"].values())))


def test_keys_are_those_of_the_report():
    scores = gebd_scores({"a": [5.0]}, {"a": entry([5.0])})
    assert list(scores["f1"]) == ["0.05", "0.10", "0.15", "0.20", "0.25", "0.30", "0.35", "0.40", "0.45", "0.50"]
    assert set(scores["f1"].values()) == {1.0}
    assert (scores["avg_f1"], scores["n_videos"], scores["n_dropped"], scores["n_missing"], scores["n_unknown"]) == (1, 1, 0, 0, 0)


def test_greedy_in_the_order_of_the_truth_not_the_best_assignment():
    # 5.0 takes 5.2, the nearest, and leaves 4.6 to 5.3, too far at 0.05; the best assignment would match both
    scores = gebd_scores({"a": [4.6, 5.2]}, {"a": entry([5.0, 5.3])})
    assert scores["f1"]["0.05"] == 0.5
    assert scores["f1"]["0.10"] == 1.0
    assert gebd_scores({"a": [4.6, 5.2]}, {"a": entry([5.3, 5.0])})["f1"]["0.05"] == 1.0


def test_the_first_listed_of_equally_near_detections_is_taken():
    truth = {"a": entry([5.0, 5.75])}
    assert gebd_scores({"a": [4.5, 5.5]}, truth)["f1"]["0.05"] == 1.0
    assert gebd_scores({"a": [5.5, 4.5]}, truth)["f1"]["0.05"] == 0.5


def test_a_distance_equal_to_the_threshold_counts():
    assert gebd_scores({"a": [5.5]}, {"a": entry([5.0])})["f1"]["0.05"] == 1.0
    assert gebd_scores({"a": [5.500001]}, {"a": entry([5.0])})["f1"]["0.05"] == 0.0


def test_the_best_annotator_counts_and_the_first_of_equals():
    scores = gebd_scores({"a": [2.0, 8.0]}, {"a": entry([5.0], [2.0, 8.0], [2.0])})
    assert (scores["precision"]["0.05"], scores["recall"]["0.05"]) == (1.0, 1.0)
    # nobody is hit: all have F1 0, and the first annotator's three boundaries are the positives
    positives = {"a": entry([1.0, 2.0, 3.0], [1.0]), "b": entry([5.0])}
    assert gebd_scores({"a": [9.0], "b": [5.0]}, positives)["recall"]["0.05"] == 1 / 4


def test_missing_and_empty_and_outside_predictions_count_the_first_annotator():
    truth = {"hit": entry([5.0]), "other": entry([1.0, 2.0, 3.0], [1.0])}
    for predicted in ({}, {"other": []}, {"other": [-0.1, 10.1]}):
        scores = gebd_scores({"hit": [5.0], **predicted}, truth)
        assert (scores["precision"]["0.05"], scores["recall"]["0.05"]) == (1.0, 0.25)
        assert scores["n_videos"] == 2
        assert scores["n_missing"] == (0 if predicted else 1)


def test_missing_videos_can_be_dropped_or_refused():
    truth = {"hit": entry([5.0]), "other": entry([1.0])}
    scores = gebd_scores({"hit": [5.0]}, truth, missing="drop")
    assert (scores["recall"]["0.05"], scores["n_videos"], scores["n_missing"], scores["n_dropped"]) == (1.0, 1, 1, 0)
    with pytest.raises(InputError, match="1 of 2 videos have no predictions, the first is 'other'"):
        gebd_scores({"hit": [5.0]}, truth, missing="error")
    assert gebd_scores({"hit": [5.0], "other": []}, truth, missing="error")["n_missing"] == 0


def test_consistency_below_the_limit_drops_and_exactly_the_limit_stays():
    truth = {"low": entry([1.0], consistency=0.299999), "edge": entry([2.0], consistency=0.3), "high": entry([3.0])}
    predictions = {"edge": [2.0], "high": [3.0], "low": [9.0], "unheard of": [1.0]}
    scores = gebd_scores(predictions, truth)
    assert (scores["n_videos"], scores["n_dropped"], scores["n_unknown"], scores["avg_f1"]) == (2, 1, 1, 1.0)
    assert gebd_scores(predictions, truth, min_consistency=0.0)["n_dropped"] == 0
    assert gebd_scores(predictions, truth, min_consistency=0.4)["n_videos"] == 1


def test_a_dropped_video_is_not_looked_at():
    truth = {"low": entry(consistency=0.1), "high": entry([3.0])}
    assert gebd_scores({"high": [3.0]}, truth)["avg_f1"] == 1.0


def test_nothing_to_find_and_nothing_found():
    scores = gebd_scores({}, {})
    assert (scores["precision"]["0.05"], scores["recall"]["0.05"], scores["avg_f1"], scores["n_videos"]) == (0.0, 1.0, 0.0, 0)
    scores = gebd_scores({"a": [4.0]}, {"a": entry([])})
    assert (scores["precision"]["0.05"], scores["recall"]["0.05"], scores["avg_f1"]) == (0.0, 1.0, 0.0)


def test_tapos_leaves_out_instances_without_a_boundary_and_knows_no_consistency():
    truth = {"plain": entry([], consistency=1.0), "split": entry([4.0], consistency=0.0)}
    predictions = {"plain": [1.0, 2.0], "split": [4.0]}
    scores = gebd_scores(predictions, truth, protocol="tapos")
    assert (scores["avg_f1"], scores["n_videos"], scores["n_dropped"], scores["protocol"]) == (1.0, 1, 1, "tapos")
    assert gebd_scores(predictions, truth)["precision"]["0.05"] == 0.0
    with pytest.raises(UsageError, match="unknown protocol 'map'"):
        gebd_scores({}, {}, protocol="map")


def test_scores_never_fall_with_the_distance_for_one_video():
    rng = random.Random(3)
    truth = {"a": entry(sorted(rng.uniform(0, 10) for _ in range(4)))}
    scores = list(gebd_scores({"a": [rng.uniform(0, 10) for _ in range(4)]}, truth)["f1"].values())
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_many_detections_in_some_videos_do_not_change_the_others():
    rng = np.random.default_rng(0)
    truth, predictions = {}, {}
    for number in range(60):
        n = 400 if number % 20 == 0 else 3
        truth[f"v{number}"] = entry(rng.uniform(0, 10, n).tolist(), rng.uniform(0, 10, 2).tolist())
        predictions[f"v{number}"] = rng.uniform(0, 10, n)
    scores = gebd_scores(predictions, truth)
    assert scores["f1"]["0.05"] == pytest.approx(by_the_rules({k: v.tolist() for k, v in predictions.items()}, truth, 0.05)[2])


def test_objects_and_official_entries_are_the_same():
    official = entry([1.0, 2], [3.0])
    truth = VideoTruth.from_entry("a", official)
    assert truth == VideoTruth(10.0, ((1.0, 2.0), (3.0,)), 0.5, 25.0, 250)
    predictions = {"a": [1.2, 8.0]}
    assert gebd_scores(predictions, {"a": truth}) == gebd_scores(predictions, {"a": official})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_duration": -1.0}, "video_duration is negative"),
        ({"video_duration": float("nan")}, "video_duration: nan is not a finite number"),
        ({"video_duration": "10"}, "video_duration: a number was expected, got '10'"),
        ({"f1_consis_avg": None}, "f1_consis_avg: a number was expected, got null"),
        ({"f1_consis_avg": True}, "f1_consis_avg: a number was expected, got bool"),
        ({"substages_timestamps": []}, "has no annotator"),
        ({"substages_timestamps": [1.0, 2.0]}, "a list of seconds was expected, got float"),
        ({"substages_timestamps": [["1.0"]]}, "a number was expected, got '1.0'"),
        ({"substages_timestamps": [[float("inf")]]}, "inf is not a finite number"),
        ({"substages_timestamps": {"a": 1}}, "one list of seconds per annotator"),
    ],
)
def test_truth_that_cannot_be_used_is_named(change, message):
    with pytest.raises(InputError, match=message) as caught:
        gebd_scores({"clip": [1.0]}, {"clip": {**entry([5.0]), **change}})
    assert "'clip'" in caught.value.message


def test_incomplete_truth_and_unusable_predictions_are_named():
    incomplete = {k: v for k, v in entry([1.0]).items() if k != "f1_consis_avg"}
    with pytest.raises(InputError, match="truth of 'clip' has no f1_consis_avg"):
        gebd_scores({}, {"clip": incomplete})
    with pytest.raises(InputError, match="an object was expected, got list"):
        gebd_scores({}, {"clip": [1.0]})
    for times in ("5.0", 5.0, [None], [float("nan")], [10**400], {"t": 1.0}):
        with pytest.raises(InputError, match="predictions of 'clip'"):
            gebd_scores({"clip": times}, {"clip": entry([5.0])})


def test_protocols_are_those_of_the_command():
    from vidcli.commands.eval_boundaries import Protocol

    assert [protocol.value for protocol in Protocol] == list(PROTOCOLS)
