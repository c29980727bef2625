"""Training windows: balance, determinism, resuming, two processes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from switching import FPS, SECONDS, switching_set

from tasks.boundaries.config import FinetuneConfig, LabelConfig, WindowConfig
from tasks.boundaries.truth import read_truth
from tasks.boundaries.windows import WindowPicker, micro_batches, trainable, window_loader
from tasks.core.data.manifest import Row

WINDOW = WindowConfig(before=2, stride_frames=3)
PTS = np.arange(200) / 25


def config(truth: Path | str, **changes) -> FinetuneConfig:
    data = {"train": [str(truth)], "workers": 0, "repeats": 4, "clip": {"frames": 10}, **changes.pop("data", {})}
    return FinetuneConfig(window=WINDOW, data=data, train={"batch_size": 4, **changes.pop("train", {})}, **changes)


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    return switching_set(tmp_path_factory.mktemp("switching"), 6)


def take(truth: Path, n: int, start: int = 0, rank: int = 0, world: int = 1, **changes) -> list[dict]:
    settings = config(truth, **changes)
    return list(itertools.islice(window_loader(read_truth([str(truth)], "train"), settings, start, rank, world), n))


def test_a_batch_is_half_boundaries_and_half_background(truth):
    for batch in take(truth, 5):
        assert batch["video"].shape == (16, 4, 3, 48, 48)
        assert batch["boundary"].sum() == 8
        assert torch.equal(batch["target"], batch["boundary"].float())
        for video in batch["uid"].unique():
            assert batch["boundary"][batch["uid"] == video].sum() == 2


def test_soft_targets_keep_the_balance_of_the_hard_labels(truth):
    for batch in take(truth, 3, label={"kind": "soft", "sigma": 1.0}):
        assert batch["boundary"].sum() == 8
        assert batch["target"][batch["boundary"]].min() > batch["target"][~batch["boundary"]].mean()
        assert ((batch["target"] > 0) & (batch["target"] < 1)).any()


def test_labels_belong_to_their_windows():
    """Every drawn window is the one of a candidate with that label, and both kinds vary from visit to visit."""
    picker = WindowPicker(WINDOW, LabelConfig(), 6)
    seen = set()
    for visit in range(40):
        picked = picker(PTS, np.random.default_rng(visit), Row("v.mp4", label="2.0 5.0"))
        whole = (picked.frames[:, 0] > 0) & (picked.frames[:, -1] < 199)  # not clamped: the candidate can be read off
        frames, boundary = picked.frames[whole], picked.values["boundary"][whole]
        inside = frames[:, 1] + 3
        assert (frames == inside[:, None] + np.array([-6, -3, 3, 6])).all()
        assert (np.abs(inside[:, None] - np.array([50, 125])).min(1) <= 3.75).tolist() == boundary.tolist()
        assert picked.values["boundary"].tolist() == [True] * 3 + [False] * 3
        assert len(set((inside % 3).tolist())) == 1  # one grid a visit
        seen |= set(inside[boundary].tolist())
    assert seen == {*range(47, 54), *range(122, 129)}


def test_a_kind_that_the_grid_lacks_is_drawn_from_all_frames():
    picker = WindowPicker(WindowConfig(before=2, stride_frames=50), LabelConfig(), 4)
    for visit in range(10):
        picked = picker(PTS, np.random.default_rng(visit), Row("v.mp4", label="2.0"))
        assert picked.values["boundary"].tolist() == [True, True, False, False]


def test_a_video_with_no_boundary_inside_gives_background_only():
    picked = WindowPicker(WINDOW, LabelConfig(), 4)(PTS, np.random.default_rng(0), Row("v.mp4", label="99.0"))
    assert not picked.values["boundary"].any()
    assert len(picked.frames) == 4


def test_windows_of_a_part_stay_in_it():
    picker = WindowPicker(WINDOW, LabelConfig(), 8)
    for visit in range(10):
        picked = picker(PTS, np.random.default_rng(visit), Row("v.mp4", label="0.6", start_s=2.0, end_s=4.0))
        assert picked.frames.min() >= 50
        assert picked.frames.max() <= 99
        assert picked.values["boundary"].tolist() == [True] * 4 + [False] * 4


def test_unbalanced_windows_follow_the_share_of_boundaries():
    picker = WindowPicker(WINDOW, LabelConfig(), 8, balanced=False)
    row = Row("v.mp4", label="4.0")
    share = np.mean([picker(PTS, np.random.default_rng(v), row).values["boundary"].mean() for v in range(300)])
    assert share == pytest.approx(7 / 200, abs=0.015)


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in ("video", "target", "boundary", "uid", "seed"))


def test_batches_repeat_themselves_and_start_anywhere(truth):
    straight = take(truth, 6)
    assert all(same(a, b) for a, b in zip(straight, take(truth, 6), strict=True))
    assert all(same(a, b) for a, b in zip(straight[4:], take(truth, 2, start=4), strict=True))
    assert not same(straight[0], straight[1])
    assert all(same(a, b) for a, b in zip(straight, take(truth, 6, data={"preload": True}), strict=True))
    assert all(same(a, b) for a, b in zip(straight[:2], take(truth, 2, data={"workers": 1}), strict=True))


def test_two_processes_share_what_one_has(truth):
    alone = take(truth, 3)
    parts = [take(truth, 3, rank=rank, world=2, train={"batch_size": 2}) for rank in range(2)]
    for one, *halves in zip(alone, *parts, strict=True):
        for key in ("video", "target", "boundary", "seed"):
            assert torch.equal(one[key], torch.cat([half[key] for half in halves]))


def test_an_epoch_is_so_many_visits_to_every_video(truth):
    settings = config(truth, visits=3)
    assert micro_batches(12, settings) == 9
    assert micro_batches(12, settings, world=3) == 3
    batches = take(truth, 9, train={"batch_size": 2}, visits=3)
    counts = torch.cat([batch["uid"] for batch in batches]).bincount()
    assert counts.tolist() == [3 * 4] * 6


def test_videos_without_boundaries_are_left_out_of_balanced_training(tmp_path):
    (tmp_path / "m.csv").write_text("path,boundaries\na.mp4,1\nb.mp4,\n")
    videos = read_truth([str(tmp_path / "m.csv")], "train")
    assert [v.id for v in trainable(videos, balanced=True)] == ["a"]
    assert len(trainable(videos, balanced=False)) == 2


def test_settings_that_cannot_be_balanced_are_refused():
    with pytest.raises(ValueError, match="must be even"):
        config("t.json", data={"repeats": 3})
    config("t.json", data={"repeats": 3}, balanced=False)


def test_the_synthetic_set_is_what_it_says(truth):
    video = read_truth([str(truth)], "val")[0]
    assert video.duration_s == SECONDS
    assert all(abs(t * FPS - round(t * FPS)) < 1e-9 for t in video.boundaries)


@pytest.mark.real
def test_real_sequences_are_found_and_balanced(real_data):
    truth = real_data / "sequences" / "boundaries.json"
    assert len(read_truth([str(truth)], "train")) == 21
    for batch in take(truth, 2):
        assert not batch["skipped"]
        assert batch["boundary"].sum() == 8
