import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.core.config import build
from tasks.core.data import memory
from tasks.core.data.feature_config import BATCH_KEYS, FeatureConfig
from tasks.core.data.feature_loader import FeatureDataset, collate, make_eval_loader, make_train_loader
from tasks.core.data.features import Grid, write_features
from tasks.core.data.rows import Row
from tasks.core.data.streams import open_streams
from tasks.core.errors import UsageError

GRID = Grid(0.5, 1.0, 0.25)
ENCODER = {"reference": "x", "weights_hash": "0"}
LENGTHS = {f"v{i}": 5 + 3 * i for i in range(7)}
LABELS = ["even", "odd"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders `visual` (npy) and `audio` (npz, another grid): the first channel is the number of the feature, the second of the video."""
    folder = tmp_path_factory.mktemp("features")
    for number, (name, n) in enumerate(LENGTHS.items()):
        values = np.stack([np.arange(n), np.full(n, number), np.zeros(n)], 1).astype(np.float16)
        write_features(folder / "visual", name, values, GRID, ENCODER, "npy")
        audio = Grid(0.25, 0.25, 0.1)
        write_features(folder / "audio", name, audio.centers(2 * n)[:, None].astype(np.float32), audio, ENCODER)
    return folder


@pytest.fixture(scope="module")
def rows():
    return [Row(f"/videos/{name}.mp4", LABELS[i % 2]) for i, name in enumerate(LENGTHS)]


def data(place, streams=("visual",), **settings):
    found = {name: {"folder": str(place / name)} for name in streams}
    return build(FeatureConfig, {"streams": found, "workers": 0, **settings})


def train(place, items, settings, *args, **named):
    return make_train_loader(items, settings, open_streams(settings), LABELS, *args, **named)


def take(loader, n):
    return list(itertools.islice(iter(loader), n))


def same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if key == "read_s":
            continue
        if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
            assert all(torch.equal(a, b) for a, b in zip(value, second[key], strict=True))
        else:
            assert torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key], key


def test_what_a_batch_holds(place, rows):
    (batch,) = take(train(place, rows, data(place, max_length=8, repeats=2), 7), 1)
    assert set(batch) == set(BATCH_KEYS)
    assert batch[batch["main"]] is batch["features"]
    assert batch["features"].shape == (14, 8, 3)
    assert batch["features"].dtype == torch.float32
    assert (batch["mask"].dtype, batch["times"].dtype) == (torch.bool, torch.float32)
    assert batch["length"].tolist() == [min(8, LENGTHS[f"v{uid}"]) for uid in batch["uid"].tolist()]
    assert batch["mask"].sum(1).tolist() == batch["length"].tolist()
    assert batch["label"].tolist() == [uid % 2 for uid in batch["uid"].tolist()]
    assert batch["path"] == [rows[uid].path for uid in batch["uid"].tolist()]
    assert batch["clip"].tolist() == [0, 1] * 7
    assert len(set(batch["seed"].tolist())) == 14
    for values, mask, times, first, uid in zip(*(batch[key] for key in ("features", "mask", "times", "first", "uid")), strict=True):
        n = int(mask.sum())
        assert mask[:n].all()
        np.testing.assert_array_equal(values[:n, 0], np.arange(int(first), int(first) + n))
        assert (values[:n, 1] == uid).all()
        np.testing.assert_allclose(times[:n], GRID.times(int(first) + n)[int(first) :], rtol=1e-6)
        assert not values[n:].any()
        assert not times[n:].any()


def test_crops_are_random_and_reach_both_ends(place, rows):
    settings = data(place, max_length=8)
    dataset = FeatureDataset(rows, settings, open_streams(settings), LABELS)
    firsts = {dataset[(3, epoch)].pieces[0].first for epoch in range(60)}  # 14 features
    assert firsts == set(range(7))
    assert {dataset[(0, epoch)].pieces[0].first for epoch in range(5)} == {0}
    assert FeatureDataset(rows, settings, open_streams(settings), LABELS, seed=1)[(6, 0)].seeds != dataset[(6, 0)].seeds


def test_two_processes_see_what_one_with_the_double_batch_sees(place, rows):
    settings = data(place, ("visual", "audio"), align="nearest", max_length=6, pad="max_length")
    whole = take(train(place, rows, settings, 4, seed=3), 5)
    parts = [take(train(place, rows, settings, 2, rank, 2, seed=3), 5) for rank in range(2)]
    for one, left, right in zip(whole, *parts, strict=True):
        for key in ("features", "mask", "times", "audio", "first", "uid", "seed", "label"):
            assert torch.equal(one[key], torch.cat([left[key], right[key]]))


def test_a_resumed_loader_goes_on_where_the_other_stopped(place, rows):
    settings = data(place, max_length=6)
    for one, other in zip(
        take(train(place, rows, settings, 2, seed=1), 9)[6:], take(train(place, rows, settings, 2, seed=1, start_step=6), 3), strict=True
    ):
        same(one, other)


def test_workers_and_preloading_do_not_change_samples(place, rows):
    settings = {"streams": ("visual", "audio"), "align": "linear", "max_length": 6}
    plain = take(train(place, rows, data(place, **settings), 3), 4)
    for how in ({"workers": 2}, {"workers": 1, "preload": True}):
        for one, other in zip(plain, take(train(place, rows, data(place, **settings, **how), 3), 4), strict=True):
            same(one, other)


@pytest.mark.parametrize(
    ("settings", "length"),
    [({}, 23), ({"multiple_of": 8}, 24), ({"max_length": 32, "pad": "max_length"}, 32), ({"max_length": 32, "multiple_of": 5}, 25)],
)
def test_padding(place, rows, settings, length):
    (batch,) = make_eval_loader(rows, (settings := data(place, **settings)), open_streams(settings), LABELS, 7)
    assert batch["features"].shape == (7, length, 3)
    assert batch["length"].tolist() == list(LENGTHS.values())


def test_testing_sees_every_feature_whole_or_in_windows(place, rows):
    settings = data(place, max_length=8)
    whole = list(make_eval_loader(rows, settings, open_streams(settings), LABELS, 2))
    assert [n for batch in whole for n in batch["length"].tolist()] == list(LENGTHS.values())
    settings = data(place, max_length=8, test="windows")
    (batch,) = make_eval_loader(rows, settings, open_streams(settings), LABELS, 7)
    starts = {uid: batch["first"][batch["uid"] == uid].tolist() for uid in range(7)}
    assert starts[0] == [0]
    assert starts[1] == [0]
    assert starts[2] == [0, 3]
    assert starts[5] == [0, 4, 8, 12]
    assert starts[6] == [0, 4, 8, 12, 15]
    assert batch["clip"][batch["uid"] == 6].tolist() == [0, 1, 2, 3, 4]
    assert batch["length"].tolist()[:2] == [5, 8]
    settings = data(place, max_length=8, test="windows", overlap=0)
    (batch,) = make_eval_loader(rows, settings, open_streams(settings), LABELS, 7)
    assert batch["first"][batch["uid"] == 6].tolist() == [0, 8, 15]


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_sees_every_item_once_in_order(place, rows, world):
    settings, seen = data(place), []
    for rank in range(world):
        for batch in make_eval_loader(rows, settings, open_streams(settings), LABELS, 2, rank, world):
            seen += batch["uid"].tolist()
    assert seen == list(range(7))


def test_start_and_end_of_a_row_restrict_what_is_read(place):
    """Middles are at 0.75, 1.25, 1.75 ... s."""
    timed = [
        Row("/videos/v6.mp4", start_s=1.0, end_s=2.5),
        Row("/videos/v6.mp4", start_s=11.0),
        Row("/videos/v6.mp4", start_s=1.8, end_s=2),
    ]
    settings = data(place, max_length=8)
    (batch,) = make_eval_loader(timed, settings, open_streams(settings), None, 3)
    assert [row[mask].tolist() for row, mask in zip(batch["features"][..., 0], batch["mask"], strict=True)] == [[1, 2, 3], [21, 22], [2]]
    assert batch["label"].tolist() == [-1] * 3
    (late,) = make_eval_loader([Row("/videos/v6.mp4", start_s=99)], settings, open_streams(settings), None, 1)
    assert late["skipped"] == [("/videos/v6.mp4", "its part begins at 99 s, after the last feature, which ends at 12.25 s")]


class Groups(list):
    """As `Rows.grouped` gives them."""


def test_videos_with_their_timed_things(place):
    groups = Groups(
        [
            ("/videos/v5.mp4", [Row("/videos/v5.mp4", "odd", 1.0, 2.5), Row("/videos/v5.mp4", "even", 2.0, None)]),
            ("/videos/v0.mp4", [Row("/videos/v0.mp4", "other", None, 1.0)]),
        ]
    )
    settings = data(place, max_length=10)
    (batch,) = take(make_train_loader(groups, settings, open_streams(settings), LABELS, 2, shuffle=False), 1)
    assert batch["path"] == ["/videos/v5.mp4", "/videos/v0.mp4"]
    assert batch["length"].tolist() == [10, 5]
    assert batch["segments"][0].tolist() == [[1.0, 2.5], [2.0, 10.75]]
    assert batch["segments"][1].tolist() == [[0.25, 1.0]]
    assert [labels.tolist() for labels in batch["segment_label"]] == [[1, 0], [-1]]
    assert batch["segments"][0].dtype == torch.float32
    assert batch["label"].tolist() == [-1, -1]


def at_the_first_segment(times, length, rng, rows):
    return min(int(np.searchsorted(times[:, 0], rows[0].start_s)), len(times) - length)


def test_a_method_may_choose_its_crops(place):
    groups = [("/videos/v5.mp4", [Row("/videos/v5.mp4", "odd", 2.25, 3.0)])]
    settings = data(place, max_length=10)
    loader = make_train_loader(groups, settings, open_streams(settings), LABELS, 1, crop=at_the_first_segment)
    assert next(iter(loader))["first"].tolist() == [4]


def test_further_streams_come_to_the_grid_of_the_first(place, rows):
    """The audio is the time of its own middle, 0.225 to 0.1 + n / 2 - 0.125 s; middles of the first stream are at 0.75, 1.25, ..."""
    settings = data(place, ("visual", "audio"), align="linear", max_length=8)
    (batch,) = take(make_train_loader(rows, settings, open_streams(settings), LABELS, 7, shuffle=False), 1)
    assert batch["features"].shape == (7, 8, 3)
    assert batch["audio"].shape == (7, 8, 1)
    middles = batch["times"].mean(-1)
    ends = torch.tensor([0.1 + n / 2 for n in LENGTHS.values()])
    np.testing.assert_array_equal(batch["audio_mask"], batch["mask"] & (middles <= ends[:, None] + 1e-5))
    inside = batch["audio_mask"] & (middles <= ends[:, None] - 0.125)
    np.testing.assert_allclose(batch["audio"][..., 0][inside], middles[inside], atol=1e-5)
    assert not batch["audio"][~batch["audio_mask"]].any()
    assert not batch["audio_mask"].all()


def test_what_cannot_be_read_is_dropped_and_named(place, rows, tmp_path):
    for file in (place / "visual").iterdir():
        target = tmp_path / "visual" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    (tmp_path / "visual" / "v1.features.npy").write_bytes(b"torn")
    broken = np.load(tmp_path / "visual" / "v2.features.npy")
    broken[3] = np.nan
    np.save(tmp_path / "visual" / "v2.features.npy", broken)
    mixed = [*rows, Row("/videos/missing.mp4")]
    for settings in (data(tmp_path), data(tmp_path, preload=True)):
        batches = list(make_eval_loader(mixed, settings, open_streams(settings), LABELS, 2))
        assert [uid for batch in batches for uid in batch["uid"].tolist()] == [0, 3, 4, 5, 6]
        skipped = dict(item for batch in batches for item in batch["skipped"])
        assert f"{tmp_path / 'visual' / 'v1.features.npy'}: cannot be read" in skipped[rows[1].path]
        assert "not all finite" in skipped[rows[2].path]
        assert "neither missing nor missing-" in skipped["/videos/missing.mp4"]
    settings = data(tmp_path)
    nothing = collate([FeatureDataset(mixed, settings, open_streams(settings))[(7, 0)]])
    assert nothing["features"].shape[0] == 0
    assert all(len(nothing[key]) == 0 for key in ("mask", "times", "length", "first", "label", "uid", "seed", "clip", "path"))
    assert collate([])["features"].shape[0] == 0


def test_a_set_without_any_features_is_refused_before_training(place):
    settings = data(place)
    with pytest.raises(UsageError) as raised:
        FeatureDataset([Row("/videos/w0.mp4"), Row("/videos/w1.mp4")], settings, open_streams(settings))
    assert "none of 2 has features in the stream visual; /videos/w0.mp4: no features in" in raised.value.message
    assert "(there are 7, the first is v0)" in raised.value.message
    with pytest.raises(UsageError, match=r"/a/v0.mp4 and /b/v0.mp4 would both get the features v0"):
        FeatureDataset([Row("/a/v0.mp4"), Row("/b/v0.mp4")], settings, open_streams(settings))
    assert len(FeatureDataset([Row("/a/v0.mp4", start_s=0), Row("/a/v0.mp4", start_s=1)], settings, open_streams(settings))) == 2


def test_preloading_says_what_it_costs_and_refuses_what_does_not_fit(place, rows, monkeypatch):
    settings = data(place, preload=True)
    dataset = FeatureDataset(rows[:2], settings, open_streams(settings))
    assert dataset.stores["visual"].memory_bytes() == (5 + 8) * 3 * 2
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 1)
    with pytest.raises(UsageError, match=r"preloading needs .* GiB"):
        FeatureDataset(rows, data(place, preload=True), open_streams(settings))


def test_a_row_finds_the_features_of_a_part(tmp_path):
    write_features(tmp_path / "visual", "a-2-4", np.arange(4, dtype=np.float32)[:, None], Grid(0.5, 0.5, 2.0), ENCODER)
    settings = data(tmp_path)
    (batch,) = make_eval_loader([Row("/x/a.mp4", start_s=2.0, end_s=4.0)], settings, open_streams(settings), None, 1)
    assert batch["features"][0, :, 0].tolist() == [0, 1, 2, 3]
    assert batch["times"][0, 0].tolist() == [2.0, 2.5]


def test_nothing_here_needs_a_video(place, rows):
    assert not any(Path(row.path).exists() for row in rows)
