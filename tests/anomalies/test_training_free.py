"""The training-free detector: its statistics by hand, its units, and the real Ped2."""

import csv

import numpy as np
import pytest

from tasks.anomalies import training_free
from tasks.anomalies.training_free import NormalSource, cell_means, centred_mean, learn, rare, row_scale, samples, score_video, squashed
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.anomalies import micro_auc
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader


class Walkers(VideoReader):
    """A textured square that walks to the right over a still, textured ground, (240, 320) px."""

    path, backend, damage, height, width = "walkers", "frames", None, 240, 320

    def __init__(self, seconds, fps, speed_px_s, row=150, start=20.0):
        rng = np.random.default_rng(0)
        self.ground = rng.integers(90, 120, (240, 320), np.uint8)
        self.square = rng.integers(0, 255, (8, 8), np.uint8).repeat(5, 0).repeat(5, 1)
        self.n_frames, self.fps, self.row, self.start, self.speed = round(seconds * fps), fps, row, start, speed_px_s
        self.pts = np.arange(self.n_frames) / fps

    def picture(self, number):
        x = int(self.start + self.speed * self.pts[number]) % 270
        picture = self.ground.copy()
        picture[self.row : self.row + 40, x : x + 40] = self.square
        return np.repeat(picture[..., None], 3, 2)

    def get(self, indices, short_side=None):
        return np.stack([self.picture(i) for i in indices])

    def frames(self, start=0, stop=None, short_side=None):
        for number in range(start, self.n_frames if stop is None else stop):
            yield number, float(self.pts[number]), self.picture(number)

    def close(self):
        pass


def maps_of(reader):
    return np.stack([maps for _, _, maps in samples(reader, 0, reader.n_frames, lambda n: None)])


def model_of(*readers):
    return learn([training_free.windows(maps_of(reader)) for reader in readers])


def test_who_runs_is_found_and_who_walks_is_not():
    model = model_of(*(Walkers(12, 10, speed, start=start) for speed, start in ((18, 20), (20, 80), (25, 40), (22, 10), (18, 60), (25, 0))))
    walks, runs = (score_video(model, Walkers(6, 10, speed)) for speed in (22, 80))
    assert walks.score.max() < 0.5 < runs.score.min()
    assert runs.parts["motion"].min() > 0.5
    row, _ = np.unravel_index(runs.heat[30].argmax(), runs.heat[30].shape)
    assert 150 <= (row + 0.5) * 16 <= 190  # the place of the square


def test_frames_per_second_do_not_matter():
    slow, fast = maps_of(Walkers(6, 10, 20)), maps_of(Walkers(6, 30, 20))
    assert len(slow) == len(fast)
    np.testing.assert_allclose(slow[1:].mean((0, 2, 3)), fast[1:].mean((0, 2, 3)), rtol=0.05)
    scores = score_video(model_of(Walkers(12, 10, 20)), Walkers(6, 30, 80))
    assert len(scores) == 180
    assert np.array_equal(scores.frame, np.arange(180))
    assert (scores.score > 0.5).all()


def test_a_part_and_a_single_frame():
    model = model_of(Walkers(12, 10, 20))
    part = score_video(model, Walkers(6, 10, 20), start=20, stop=40)
    assert part.frame.tolist() == list(range(20, 40))
    alone = score_video(model, Walkers(6, 10, 20), start=5, stop=6)
    assert len(alone) == 1
    assert np.isfinite(alone.score).all()


def test_what_cannot_be_learned_from():
    with pytest.raises(InputError, match="too little"):
        model_of(Walkers(1, 10, 20))
    with pytest.raises(UsageError, match="different shapes"):
        learn([np.zeros((30, 2, 30, 40), np.float32), np.zeros((30, 2, 30, 45), np.float32)])
    other = Walkers(3, 10, 20)
    other.picture = lambda number: np.zeros((240, 400, 3), np.uint8)
    with pytest.raises(InputError, match="another shape"):
        score_video(model_of(Walkers(12, 10, 20)), other)


def test_means_by_hand():
    values = np.random.default_rng(0).random((7, 2)).astype(np.float32)
    naive = [values[max(0, i - 1) : i + 2].mean(0) for i in range(7)]
    np.testing.assert_allclose(centred_mean(values, 0, 3), naive, rtol=1e-6)
    picture = np.arange(17 * 25, dtype=np.float32).reshape(17, 25)
    assert cell_means(picture).shape == (2, 3)
    assert cell_means(picture)[1, 2] == picture[8:16, 16:24].mean()


def test_what_is_usual_is_a_line_over_the_rows():
    rng = np.random.default_rng(0)
    height = np.linspace(1, 3, 20)
    maps = np.full((400, 2, 20, 10), 0.1, np.float32)
    maps[:, :, 5:15] = height[5:15, None] * rng.uniform(0.9, 1.0, (400, 2, 10, 10))  # nothing ever moved in the other rows
    np.testing.assert_allclose(row_scale([maps], 0), height, rtol=0.02)
    still = np.full((400, 2, 20, 10), 0.01, np.float32)
    assert np.allclose(row_scale([still], 0), 0.2)  # noise does not become the measure of things


def test_rare_is_one_in_a_thousand_of_an_exponential_tail():
    values = np.random.default_rng(0).exponential(1.0, 200_000)
    assert rare(values) == pytest.approx(np.log(1000), rel=0.02)
    assert squashed(np.array([0.0, 2.0]), 0.0, 2.0) == pytest.approx([1 / (1 + np.exp(4)), 0.5])


def test_unreadable_footage_is_left_out_and_named(tmp_path, monkeypatch):
    (tmp_path / "bad.mp4").write_text("no video")
    real = training_free.open_video
    monkeypatch.setattr(training_free, "open_video", lambda path, decoder: Walkers(12, 10, 20) if path == "good" else real(path, decoder))
    model = training_free.fit([NormalSource("good"), NormalSource(str(tmp_path / "bad.mp4"))])
    assert model.n_videos == 1
    assert [path for path, _ in model.skipped] == [str(tmp_path / "bad.mp4")]
    with pytest.raises(InputError, match="none of the 1 normal videos"):
        training_free.fit([NormalSource(str(tmp_path / "bad.mp4"))])


@pytest.mark.real
def test_ped2_after_four_normal_videos(real_data):
    folder = real_data / "ped2"
    labels = {}
    with open(folder / "test_labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            labels.setdefault(row["video"], []).append(int(row["label"]))
    model = training_free.fit([NormalSource(str(folder / f"train/{number:02}.mp4")) for number in (1, 5, 9, 13)])
    scores, truth = [], []
    for name in ("test/02.mp4", "test/04.mp4", "test/07.mp4"):
        with open_video(folder / name) as reader:
            scores.append(score_video(model, reader).score)
        truth.append(np.array(labels[name]))
    assert micro_auc(scores, truth) > 0.93
