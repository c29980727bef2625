"""Scores from errors, alignment of frames, fusion, and the stream against the whole."""

import csv
from collections import Counter

import anomaly_toys
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tasks.anomalies.config import AutoencoderConfig, DetectConfig, PretrainConfig
from tasks.anomalies.model import Autoencoder
from tasks.anomalies.score import Calibration, fuse, heat_levels, min_max, omega_1, parts_of, psnr, scored_frames, scored_index
from tasks.anomalies.stream import GRID, Networks, raw_scores, window_errors
from tasks.core.video.open import open_video

KNOWN = {"appearance": Calibration(-30.0, 2.0, -34.0, -26.0), "motion": Calibration(0.2, 0.1, 0.0, 0.4)}


def test_psnr_by_hand():
    assert psnr(np.array([0.01, 1.0])).tolist() == pytest.approx([20.0, 0.0])


def test_omega_1_by_hand():
    """Best reconstructed 0, worst 1, in between by decibels: 0.001, 0.01, 0.1 are 30, 20, 10 dB."""
    assert omega_1(np.array([0.01, 0.001, 0.1])).tolist() == pytest.approx([0.5, 0.0, 1.0])


def test_the_peak_changes_nothing():
    error = np.random.default_rng(0).uniform(0.001, 0.1, 50)
    for peak in (1.0, 2.0, 255.0):
        quality = 10 * np.log10(peak**2 / error)
        assert 1 - min_max(quality) == pytest.approx(omega_1(error), abs=1e-12)


@pytest.mark.parametrize("error", [np.full(5, 0.1), np.zeros(5), np.array([0.3]), np.array([])])
def test_a_constant_video_scores_zero(error):
    assert omega_1(error).tolist() == [0.0] * len(error)
    assert min_max(error).tolist() == [0.0] * len(error)


def test_a_perfect_frame_does_not_divide_by_zero():
    found = omega_1(np.array([0.0, 0.1, 0.2]))
    assert np.isfinite(found).all()
    assert (found[0], found[2]) == (0.0, 1.0)


def test_omega_2_as_printed_and_normalised():
    values = {"motion": np.array([0.1, 0.3, 0.8])}
    assert parts_of(values, "paper", "none", KNOWN)["motion"].tolist() == [0.1, 0.3, 0.8]
    assert parts_of(values, "paper", "per_video_minmax", KNOWN)["motion"] == pytest.approx([0, 2 / 7, 1])
    assert parts_of(values, "paper", "global_minmax", KNOWN)["motion"] == pytest.approx([0.25, 0.75, 2.0])


def test_deviations_above_normal_footage():
    values = {"appearance": np.array([1e-3, 1e-2]), "motion": np.array([0.2, 0.4])}
    found = parts_of(values, "standard", "none", KNOWN)
    assert found["appearance"] == pytest.approx([0.0, 5.0])  # -30 and -20 dB
    assert found["motion"] == pytest.approx([0.0, 2.0])


def test_fusion():
    rng = np.random.default_rng(0)
    parts = {name: rng.random(200) for name in ("appearance", "motion", "semantic")}
    labels = rng.random(200) < 0.3
    weights = {"appearance": 0.65, "motion": 0.25, "semantic": 0.10}
    assert fuse(parts, weights) == pytest.approx(0.65 * parts["appearance"] + 0.25 * parts["motion"] + 0.1 * parts["semantic"])
    without = {name: parts[name] for name in ("appearance", "motion")}
    assert fuse(without, weights) == pytest.approx((0.65 * parts["appearance"] + 0.25 * parts["motion"]) / 0.9)
    zero = {**weights, "semantic": 0.0}
    assert roc_auc_score(labels, fuse(parts, zero)) == pytest.approx(roc_auc_score(labels, fuse(without, weights)), abs=1e-12)
    tripled = {name: 3 * weight for name, weight in weights.items()}
    assert roc_auc_score(labels, fuse(parts, tripled)) == pytest.approx(roc_auc_score(labels, fuse(parts, weights)), abs=1e-12)
    with pytest.raises(ValueError, match="all 0"):
        fuse({"semantic": parts["semantic"]}, zero)


@pytest.mark.parametrize("weights", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0)])
def test_weights_must_sum_to_one(weights):
    for settings in (PretrainConfig, DetectConfig):
        with pytest.raises(ValueError, match="sum to 1"):
            settings(weights=weights)


def test_the_ninth_frame_of_sixteen_is_scored():
    assert scored_index(16) == 8
    assert scored_frames(100) == slice(8, 93)
    assert scored_frames(100, edges="pad") == slice(0, 100)
    for frames in (15, 16, 17, 180):
        part = scored_frames(frames)
        assert part.stop - part.start == max(0, frames - 15)
        assert np.array_equal(np.arange(frames)[part], np.arange(frames)[8 : max(8, frames - 7)])


@pytest.mark.parametrize(("videos", "frames", "evaluated"), [(12, 2010, 1830), (21, 15_324, 15_009), (107, 40_791, 39_186)])
def test_published_numbers_of_evaluated_frames(videos, frames, evaluated):
    """Ped2, Avenue, ShanghaiTech: however the frames are spread over the videos."""
    rng = np.random.default_rng(0)
    spread = 16 + rng.multinomial(frames - 16 * videos, rng.dirichlet(np.ones(videos)))
    assert spread.sum() == frames
    assert sum(len(range(int(n))[scored_frames(int(n))]) for n in spread) == evaluated


@pytest.mark.real
def test_evaluated_frames_of_ped2(real_data):
    with open(real_data / "ped2" / "test_labels.csv", newline="") as file:
        lengths = Counter(row["video"] for row in csv.DictReader(file))
    assert sum(lengths.values()) == 2010
    assert sum(len(range(n)[scored_frames(n)]) for n in lengths.values()) == 1830


def network() -> Autoencoder:
    torch.manual_seed(0)
    made = Autoencoder(AutoencoderConfig(image_size=16, frames=16, width=0.05))
    with torch.no_grad():
        for _ in range(3):
            made(torch.randn(2, 3, 16, 16, 16))  # running statistics
    return made.eval()


def slow_errors(made: Autoencoder, frames: torch.Tensor) -> list[float]:
    """Window by window: index 8 of each."""
    found = []
    for start in range(len(frames) - 15):
        window = frames[start : start + 16].transpose(0, 1)[None]
        found.append(float((made(window) - window)[0, :, 8].double().square().mean()))
    return found


@pytest.mark.parametrize("sizes", [(40,), (7, 7, 7, 7, 7, 5), (16, 1, 23)])
@pytest.mark.parametrize("batch", [1, 5])
@torch.no_grad()
def test_a_stream_gives_what_single_windows_give(sizes, batch):
    made, frames = network(), torch.rand(40, 3, 16, 16) * 2 - 1
    expected = slow_errors(made, frames)
    errors, cells = zip(*window_errors(made, frames.split(sizes), 1, batch, False), strict=True)
    assert torch.cat(errors).tolist() == pytest.approx(expected, rel=1e-4)
    assert torch.cat(cells).shape == (25, GRID, GRID)
    assert torch.cat(cells).mean((1, 2)).tolist() == pytest.approx(expected, rel=1e-4)
    assert max(len(part) for part in errors) <= batch
    padded = torch.cat((frames[:1].expand(8, -1, -1, -1), frames, frames[-1:].expand(7, -1, -1, -1)))
    errors, _ = zip(*window_errors(made, frames.split(sizes), 1, batch, True), strict=True)
    assert torch.cat(errors).tolist() == pytest.approx(slow_errors(made, padded), rel=1e-4)


@pytest.mark.parametrize("stride", [2, 5, 16])
@torch.no_grad()
def test_strides_pick_windows(stride):
    made, frames = network(), torch.rand(50, 3, 16, 16) * 2 - 1
    errors, _ = zip(*window_errors(made, frames.split(9), stride, 3, False), strict=True)
    assert torch.cat(errors).tolist() == pytest.approx(slow_errors(made, frames)[::stride], rel=1e-4)


@torch.no_grad()
def test_a_video_shorter_than_a_window():
    made, frames = network(), torch.rand(5, 3, 16, 16) * 2 - 1
    assert not list(window_errors(made, [frames], 1, 4, False))
    assert sum(len(errors) for errors, _ in window_errors(made, [frames], 1, 4, True)) == 5
    assert not list(window_errors(made, [], 1, 4, True))


def toy_networks() -> Networks:
    torch.manual_seed(0)
    architecture = {"parts": ["appearance", "motion"], "autoencoder": {"image_size": 32, "frames": 8, "width": 0.05}, "semantic": None}
    return Networks({**architecture, "flow": {"clip_px": 5.0, "tvl1": anomaly_toys.TVL1}}).eval()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return anomaly_toys.write_frames(tmp_path_factory.mktemp("video") / "v", anomaly_toys.clip(30, 0))


def scores(video, **changes):
    told: list[int] = []
    with open_video(video) as reader:
        raw = raw_scores(toy_networks(), reader, 0, 30, short_side=None, progress=told.append, **changes)
    assert sum(told) == 30
    return raw


def test_edges_of_a_video(video):
    padded, dropped = scores(video, edges="pad"), scores(video, edges="drop")
    assert padded.frame.tolist() == list(range(30))
    assert dropped.frame.tolist() == list(range(4, 27))
    for part in ("appearance", "motion"):
        assert dropped.values[part] == pytest.approx(padded.values[part][4:27], rel=1e-4)
        assert dropped.cells[part].shape == (23, GRID, GRID)


def test_frames_between_scored_ones_take_the_nearest_score(video):
    every, some = scores(video, edges="pad"), scores(video, edges="pad", stride=4)
    assert some.frame.tolist() == list(range(30))
    nearest = [min(range(0, 30, 4), key=lambda known: (abs(known - frame), known)) for frame in range(30)]
    assert some.values["appearance"] == pytest.approx(every.values["appearance"][nearest], rel=1e-4)


def test_a_faster_camera_is_thinned(video, tmp_path):
    """Every second frame of the video with each frame twice is the video."""
    twice = anomaly_toys.write_frames(tmp_path / "twice", np.repeat(anomaly_toys.clip(30, 0), 2, axis=0))
    with open_video(twice) as reader:
        thinned = raw_scores(toy_networks(), reader, 0, 60, short_side=None, edges="pad", step=2)
    assert thinned.frame.tolist() == list(range(60))
    for part, values in scores(video, edges="pad").values.items():
        assert thinned.values[part][::2] == pytest.approx(values, rel=1e-4)


def test_a_part_of_a_video(video):
    with open_video(video) as reader:
        part = raw_scores(toy_networks(), reader, 5, 25, short_side=None, edges="drop")
    assert part.frame.tolist() == list(range(9, 22))
    assert part.values["appearance"] == pytest.approx(scores(video, edges="drop").values["appearance"][5:18], rel=1e-4)


def test_heat_is_what_is_unusual_for_a_place():
    cells = np.full((9, 4, 4), 0.1)
    cells[:, 0, 0] = 5.0  # always badly reconstructed
    cells[3, 2, 1] = 0.5
    heat = heat_levels(cells)
    assert heat.dtype == np.uint8
    assert heat[3, 2, 1] == 255
    assert np.count_nonzero(heat) == 1
    assert not heat_levels(np.full((3, 2, 2), 0.1)).any()
