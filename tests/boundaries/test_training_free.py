"""The training-free detector on made scenes and on the real sequences."""

import json

import numpy as np
import pytest

from tasks.boundaries.novelty import FLOOR, Novelty, around, top_mean
from tasks.boundaries.result import Scores
from tasks.boundaries.training_free import (
    DISSOLVE,
    EVENT,
    Step,
    change_evidence,
    colour_histogram,
    jumps,
    pick,
    score_video,
    steps_evidence,
)
from tasks.core.metrics.boundaries import gebd_scores
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader


class Made(VideoReader):
    """Pictures made in memory, as a reader."""

    path, backend, damage = "made", "frames", None

    def __init__(self, pictures, pts):
        self.pictures, self.pts = pictures, np.asarray(pts, np.float64)
        self.n_frames, self.height, self.width = len(pictures), *pictures[0].shape[:2]
        self.fps = 25.0

    def get(self, indices, short_side=None):
        return np.stack([self.pictures[i] for i in indices])

    def frames(self, start=0, stop=None, short_side=None):
        for i in range(start, self.n_frames if stop is None else stop):
            yield i, float(self.pts[i]), self.pictures[i]

    def close(self):
        pass


BACKGROUND = (np.random.default_rng(1).random((8, 10, 3)).repeat(5, 0).repeat(5, 1) * 200 + 20).astype(np.uint8)


def scene(x, y, background=BACKGROUND):
    """A dark square at (x, y) in front of a background of 40 x 50 px, its edges as a camera would show them."""
    rows, columns = (np.clip(np.minimum(np.arange(n) + 1, at + 12) - np.maximum(np.arange(n), at), 0, 1) for n, at in ((40, y), (50, x)))
    share = (rows[:, None] * columns)[..., None]
    return np.rint(background * (1 - share) + 10 * share).astype(np.uint8)


def walk(n, x, y, dx, dy):
    return [scene(5 + x + dx * t, 2 + y + dy * t) for t in range(n)]


def found(pictures, pts=None, threshold=0.5):
    pts = np.arange(len(pictures)) / 15 if pts is None else pts
    return pick(score_video(Made(pictures, pts)), threshold, 0.5)


def test_a_jump_of_the_person_is_found_at_its_frame():
    pictures = walk(30, 0, 5, 0.3, 0) + walk(30, 14, 12, 0, 0.3)
    assert [b.frame for b in found(pictures)] == [30]


def test_what_moves_evenly_has_no_boundary():
    assert found([scene(5 + 0.4 * t, 10) for t in range(60)]) == []
    assert found([scene(5, 10)] * 60) == []


def test_a_cut_is_found_however_much_moves():
    rng = np.random.default_rng(0)
    other = (255 - BACKGROUND // 3).astype(np.uint8)
    wild = lambda back: [scene(rng.uniform(0, 35), rng.uniform(0, 25), back) for _ in range(40)]  # noqa: E731
    assert [(b.frame, b.kind) for b in found(wild(BACKGROUND) + wild(other))] == [(40, "cut")]


def test_a_flash_is_no_boundary():
    pictures = walk(60, 0, 5, 0.3, 0)
    pictures[30] = np.full_like(pictures[30], 250)
    assert found(pictures) == []


def test_a_dissolve_is_one_boundary_near_its_middle():
    other = BACKGROUND[::-1, ::-1]
    share = np.clip((np.arange(120) - 50) / 20, 0, 1)
    pictures = [(scene(5, 10) * (1 - s) + scene(30, 20, other) * s).astype(np.uint8) for s in share]
    boundaries = found(pictures)
    assert [b.kind for b in boundaries] == ["dissolve"]
    assert 54 <= boundaries[0].frame <= 66


def test_what_moves_to_another_place_and_stays_there_is_an_event():
    walls = [scene(5, 4)] * 40 + [scene(5 + 2.5 * t, 4) for t in range(10)] + [scene(30, 4)] * 40
    boundaries = found(walls)
    assert {b.kind for b in boundaries} == {"event"}  # it begins to move, and stops
    assert all(39 <= b.frame <= 51 for b in boundaries)


def test_a_camera_that_begins_to_pan_is_an_event():
    rng = np.random.default_rng(3)
    wall = (rng.random((8, 60, 3)).repeat(5, 0).repeat(5, 1) * 200 + 20).astype(np.uint8)
    x = np.concatenate([np.zeros(45), np.arange(45) * 2]).astype(int)
    boundaries = found([wall[:, at : at + 50] for at in x])
    assert [b.kind for b in boundaries] == ["event"]
    assert 42 <= boundaries[0].frame <= 49


def test_exposure_that_changes_is_no_boundary():
    gain = 1 - 0.3 * np.clip((np.arange(90) - 40) / 10, 0, 1)
    assert found([np.rint(scene(5, 10) * g + 5).astype(np.uint8) for g in gain]) == []


def test_small_steps_of_the_whole_picture_have_to_be_stronger():
    lasting = np.ones(12)
    plain = [Step(10.0, 6.0, 0.0, False)] * 12
    real = [*plain[:6], Step(25.0, 14.0, 0.0, False), *plain[7:]]
    pumped = [*plain[:6], Step(25.0, 14.0, 0.0, True), *plain[7:]]
    assert steps_evidence(real, lasting)[0][6] - steps_evidence(pumped, lasting)[0][6] == pytest.approx(0.4)
    local = [*plain[:6], Step(60.0, 0.0, 0.0, False), *plain[7:]]
    assert steps_evidence(local, lasting)[1][6] == EVENT


def test_lasting_changes_are_measured_by_what_is_usual_around_them():
    share = np.full(100, 0.02)
    share[:17] = share[-17:] = np.nan
    share[50] = 0.2
    evidence, kind = change_evidence(share, np.full(100, 0.1), 37)
    assert kind[50] == DISSOLVE
    assert evidence[50] == pytest.approx(0.85 + min(np.log(0.21 / 0.03) - 0.55, np.log(0.2 / 0.012)))
    assert np.isneginf(evidence[[0, 99]]).all()
    assert (evidence[20:45] < 0.85).all()  # no more than usual


def test_times_are_presentation_times_and_frames_are_exact_at_any_rate():
    pictures = walk(80, 0, 5, 0.1, 0) + walk(80, 14, 12, 0, 0.1)
    even = np.arange(160) / 60 + 7.25
    uneven = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04], 160)) + 3
    for pts in (even, uneven):
        (boundary,) = found(pictures, pts)
        assert boundary.frame == 80  # not the nearest sampled one
        assert boundary.t == pts[80]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_very_short_videos(n):
    assert found([scene(5, 10)] * n) == []
    scores = score_video(Made([scene(5, 10)] * n, np.arange(n) / 15))
    assert len(scores) == n
    assert np.isfinite(scores.score).all()


def test_scores_of_a_part_are_those_of_that_part_alone():
    pictures = walk(30, 0, 5, 0.3, 0) + walk(30, 14, 12, 0, 0.3) + walk(30, 0, 5, 0.3, 0)
    pts = np.arange(90) / 15
    part = score_video(Made(pictures, pts), start=20, stop=50)
    alone = score_video(Made(pictures[20:50], pts[20:50]))
    assert np.array_equal(part.score, alone.score)
    assert np.array_equal(part.frame, alone.frame + 20)


def naive_novelty(samples, half):
    """Novelty by its definition, pair by pair."""
    n, out = len(samples), np.full(len(samples), -np.inf)
    distance = lambda i, j: float(top_mean(np.abs(samples[i] - samples[j]).sum(-1)[None].astype(np.float64))[0])  # noqa: E731
    for t in range(n):
        left, right = range(max(0, t - half), t), range(t, min(n, t + half))
        within = [distance(i, j) for side in (left, right) for i in side for j in side if i < j]
        cross = [distance(i, j) for i in left for j in right]
        if len(left) >= (half + 1) // 2 and len(right) >= (half + 1) // 2 and within:
            out[t] = np.log((np.mean(cross) + FLOOR) / (np.mean(within) + FLOOR))
    return out


def test_novelty_in_blocks_is_novelty_by_definition(monkeypatch):
    monkeypatch.setattr("tasks.boundaries.novelty.BLOCK", 16)
    samples = np.random.default_rng(0).normal(0, 20, (90, 20, 3)).astype(np.float32).cumsum(0)
    novelty = Novelty([3, 7])
    for sample in samples:
        novelty.add(sample)
        assert len(novelty._kept) <= 16 + 2 * 7 + 7  # memory is bounded
    for curve, half in zip(novelty.finish(), (3, 7), strict=True):
        np.testing.assert_allclose(curve, naive_novelty(samples, half), rtol=1e-4, atol=1e-4)


def test_jumps_by_hand():
    steps = np.array([9.0, 2.0, 2.0, 20.0, 2.0, 2.0, 2.0])
    found = jumps(steps, 1.0)
    assert found[3] == pytest.approx(np.log(21 / 3))
    assert found[2] == pytest.approx(np.log(3 / 3))  # the median does not see one neighbour that jumps
    assert np.isneginf(found[0])
    assert np.isneginf(jumps(np.array([0.0, 5.0]), 1.0)).all()


def test_peaks_and_histogram_and_pick():
    assert around(np.array([1.0, 3.0, 2.0, 5.0, 0.0]), 1).tolist() == [3.0, 3.0, 5.0, 5.0, 5.0]
    flat = colour_histogram(np.zeros((4, 6, 3), np.float32))
    assert flat.sum() == pytest.approx(1)
    assert flat.max() == 1
    scores = Scores(np.array([0.0, 0.3, 0.6, 1.2]), np.arange(4), np.array([0.6, 0.9, 0.7, 0.5], np.float32))
    assert [b.frame for b in pick(scores, 0.5, 0.5)] == [1, 3]
    assert [b.frame for b in pick(scores, 0.5, 0.0)] == [0, 1, 2, 3]
    assert pick(scores, 0.95, 0.5) == []


@pytest.mark.real
def test_boundaries_between_actions_of_one_person_in_one_place(real_data):
    folder = real_data / "sequences"
    truth = json.loads((folder / "boundaries.json").read_text())
    predictions = {}
    for name, entry in truth.items():
        with open_video(folder / entry["path"]) as reader:
            predictions[name] = [b.t - reader.pts[0] for b in pick(score_video(reader), 0.5, 0.5)]
    assert gebd_scores(predictions, truth)["f1"]["0.05"] > 0.9  # PySceneDetect at its best: 0.49


@pytest.mark.real
def test_boundaries_where_one_gesture_dissolves_into_another(real_data):
    folder = real_data / "smooth"
    truth = dict(list(json.loads((folder / "boundaries.json").read_text()).items())[:14])
    predictions, dissolves = {}, {}
    for name in truth:
        with open_video(folder / f"{name}.mp4") as reader:
            found = pick(score_video(reader), 0.5, 0.5)
        predictions[name] = [b.t - reader.pts[0] for b in found]
        dissolves[name] = [b.t - reader.pts[0] for b in found if b.kind == "dissolve"]
    assert gebd_scores(predictions, truth)["f1"]["0.05"] > 0.75  # five even guesses: 0.61
    assert gebd_scores(dissolves, truth)["precision"]["0.05"] > 0.9
