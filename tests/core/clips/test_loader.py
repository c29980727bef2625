import itertools
import os
import signal

import numpy as np
import pytest
import torch
from painted import read_number, write_video

from tasks.core.clips import store
from tasks.core.clips.config import DataConfig
from tasks.core.clips.loader import ClipDataset, Picked, StepSampler, collate, make_eval_loader, make_train_loader
from tasks.core.data.feed import data_loader, default_workers
from tasks.core.data.manifest import Row
from tasks.core.data.sampler import EvalBatches
from tasks.core.errors import InputError, UsageError

LABELS = ["even", "odd"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made = [write_video(folder / f"{i}.mp4", n=20 + 4 * i, gop_size=10) for i in range(9)]
    return [Row(str(path), LABELS[i % 2]) for i, path in enumerate(made)]


def data(**settings):
    return DataConfig(**{"clip": {"frames": 4, "stride_frames": 2}, "workers": 0, **settings})


def take(loader, n):
    return list(itertools.islice(iter(loader), n))


def same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if key == "read_s":  # how long it took
            continue
        assert torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key], key


def numbers(batch):
    return [[read_number(frame.permute(1, 2, 0).numpy()) for frame in clip] for clip in batch["video"]]


def test_what_a_batch_holds(rows):
    (batch,) = take(make_train_loader(rows, data(repeats=2), LABELS, 3), 1)
    assert batch["video"].shape == (6, 4, 3, 64, 96)
    assert batch["video"].dtype == torch.uint8
    assert batch["size"].tolist() == [[64, 96]] * 6
    assert batch["clip"].tolist() == [0, 1] * 3
    assert batch["uid"].tolist() == [uid for uid in batch["uid"][::2].tolist() for _ in range(2)]
    assert batch["label"].tolist() == [uid % 2 for uid in batch["uid"].tolist()]
    assert batch["path"] == [rows[uid].path for uid in batch["uid"].tolist()]
    assert len(set(batch["seed"].tolist())) == 6
    assert all(np.diff(clip).tolist() == [2, 2, 2] for clip in numbers(batch))
    assert batch["skipped"] == []


def test_two_processes_see_what_one_with_the_double_batch_sees(rows):
    whole = take(make_train_loader(rows, data(), LABELS, 4, seed=3), 5)
    parts = [take(make_train_loader(rows, data(), LABELS, 2, rank, 2, seed=3), 5) for rank in range(2)]
    for one, left, right in zip(whole, *parts, strict=True):
        for key in ("video", "uid", "seed", "label"):
            assert torch.equal(one[key], torch.cat([left[key], right[key]]))


def test_a_resumed_loader_goes_on_where_the_other_stopped(rows):
    for one, other in zip(
        take(make_train_loader(rows, data(), LABELS, 2, seed=1), 9)[6:],
        take(make_train_loader(rows, data(), LABELS, 2, seed=1, start_step=6), 3),
        strict=True,
    ):
        same(one, other)


def test_workers_and_preloading_do_not_change_samples_nor_global_randomness(rows):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    plain = take(make_train_loader(rows, data(short_side=32), LABELS, 4), 4)
    for settings in ({"workers": 2}, {"preload": True}, {"workers": 1, "preload": True}):
        for one, other in zip(plain, take(make_train_loader(rows, data(short_side=32, **settings), LABELS, 4), 4), strict=True):
            same(one, other)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_workers_are_deaf_to_signals(rows):
    loader = make_train_loader(rows, data(workers=1), LABELS, 2)
    batches = iter(loader)
    next(batches)
    (worker,) = loader._iterator._workers
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(worker.pid, number)
    assert len(list(itertools.islice(batches, 6))) == 6
    assert worker.is_alive()


def test_epochs_differ_and_each_visits_every_row_once():
    sampler = StepSampler(10, 2, seed=5)
    assert sampler.steps_per_epoch == 5
    batches = list(itertools.islice(iter(sampler), 10))
    first, second = ([key for batch in half for key in batch] for half in (batches[:5], batches[5:]))
    assert sorted(i for i, _ in first) == sorted(i for i, _ in second) == list(range(10))
    assert [i for i, _ in first] != [i for i, _ in second]
    assert {epoch for _, epoch in first} == {0}
    assert {epoch for _, epoch in second} == {1}
    assert [i for batch in itertools.islice(iter(StepSampler(4, 2, shuffle=False)), 2) for i, _ in batch] == [0, 1, 2, 3]


def test_fewer_rows_than_a_batch_are_repeated_with_other_clips():
    sampler = StepSampler(3, 4, rank=1, world=2)
    other = StepSampler(3, 8)
    assert sampler.steps_per_epoch == 1
    batches = list(itertools.islice(iter(other), 2))
    assert [len(set(batch)) for batch in batches] == [8, 8]
    assert not set(batches[0]) & set(batches[1])
    assert next(iter(sampler)) == batches[0][4:]
    with pytest.raises(InputError):
        StepSampler(0, 1)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_row_once_in_order(rows, world):
    seen = []
    for rank in range(world):
        for batch in make_eval_loader(rows, data(), LABELS, 2, rank, world, n_clips=3):
            seen += list(zip(batch["uid"].tolist(), batch["clip"].tolist(), strict=True))
    assert seen == [(uid, clip) for uid in range(len(rows)) for clip in range(3)]


def test_evaluation_clips_are_spread_evenly(rows):
    (batch, *_) = make_eval_loader(rows[:1], data(), LABELS, 1, n_clips=3)
    assert [clip[0] for clip in numbers(batch)] == [0, 6, 13]


@pytest.mark.parametrize("preload", [False, True])
def test_unreadable_rows_are_dropped_and_named(rows, tmp_path, preload):
    broken, missing = tmp_path / "broken.mp4", tmp_path / "missing.mp4"
    broken.write_text("no video")
    mixed = [rows[0], Row(str(broken)), Row(str(missing), "odd"), Row(rows[1].path, "odd", start_s=50.0), rows[2]]
    batches = list(make_eval_loader(mixed, data(preload=preload), LABELS, 2))
    assert [uid for batch in batches for uid in batch["uid"].tolist()] == [0, 4]
    skipped = dict(item for batch in batches for item in batch["skipped"])
    assert skipped[str(missing)] == "no such file"
    assert "not a readable video" in skipped[str(broken)]
    assert "begins at 50 s" in skipped[rows[1].path]
    nothing = batches[1]
    assert nothing["video"].shape[0] == 0
    assert all(len(nothing[key]) == 0 for key in ("size", "label", "uid", "seed", "clip", "path"))


class Unusable(ClipDataset):
    def __getitem__(self, key):
        raise UsageError("this cannot be", "do something else")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_for_a_person_keeps_its_words_on_the_way_out_of_a_process(rows, workers):
    settings = data(workers=workers)
    loader = data_loader(Unusable(rows, settings, None), EvalBatches(len(rows), 2), settings, collate)
    with pytest.raises(UsageError) as raised:
        next(iter(loader))
    assert (raised.value.message, raised.value.hint) == ("this cannot be", "do something else")


def test_a_part_of_a_video(rows):
    part = Row(rows[8].path, "even", 0.5, 1.0)
    (batch,) = make_eval_loader([part], data(), ["odd"], 1, n_clips=4)
    assert all(15 <= number < 30 for clip in numbers(batch) for number in clip)
    assert batch["label"].tolist() == [-1] * 4


def test_pictures_of_several_sizes_are_padded(rows, tmp_path):
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (120, 40), (200, 100, 50)).save(folder / f"{number}.png")
    (batch,) = make_eval_loader([rows[0], Row(str(folder))], data(), None, 2)
    assert batch["video"].shape == (2, 4, 3, 64, 120)
    assert batch["size"].tolist() == [[64, 96], [40, 120]]
    assert not batch["video"][0, ..., 96:].any()
    assert not batch["video"][1, ..., 40:, :].any()
    assert batch["video"][1, 0, :, 0, 0].tolist() == [200, 100, 50]
    assert batch["label"].tolist() == [-1, -1]


def test_preloading_says_what_it_costs_and_refuses_what_does_not_fit(rows, monkeypatch):
    dataset = ClipDataset(rows[:2], data(preload=True, short_side=16), LABELS)
    assert dataset.store.memory_bytes() == (20 + 24) * 16 * 24 * 3
    monkeypatch.setattr(store.os, "sysconf", lambda name: 1)
    with pytest.raises(UsageError, match=r"preloading needs .* GiB"):
        ClipDataset(rows[:2], data(preload=True), LABELS)


def test_default_workers(monkeypatch):
    monkeypatch.setenv("VID_WORKERS", "3")
    assert default_workers(DataConfig()) == 3
    assert default_workers(DataConfig(workers=1)) == 1
    monkeypatch.delenv("VID_WORKERS")
    assert 1 <= default_workers(DataConfig()) <= 8


def test_an_empty_batch_collates():
    batch = collate([])
    assert batch["video"].shape[0] == 0
    assert batch["size"].shape == (0, 2)


@pytest.mark.real
def test_real_gestures(real_data):
    from tasks.core.data.manifest import label_names, read_sources

    found = read_sources([str(real_data / "gestures")], "val")[:6]
    (batch,) = make_eval_loader(found, data(short_side=64), label_names(found), 6, n_clips=2)
    assert batch["video"].shape == (12, 4, 3, 64, 85)
    assert batch["skipped"] == []


def pick_last_frames(pts, rng, row):
    return Picked(np.array([[len(pts) - 1] * 3, [0, 1, 2]]), {"drawn": rng.random(2), "end": np.array([pts[-1], 0.0])})


def test_a_picker_chooses_the_frames_and_tells_about_them(rows, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    videos = [*rows[:3], Row(str(damaged))]
    (batch,) = take(make_train_loader(videos, data(), None, 4, shuffle=False, picker=pick_last_frames), 1)
    assert numbers(batch) == [[19, 19, 19], [0, 1, 2], [23, 23, 23], [0, 1, 2], [27, 27, 27], [0, 1, 2]]
    assert batch["drawn"].shape == (6,)
    assert (batch["end"][1::2] == 0).all()
    assert (batch["end"][::2] > 0.5).all()
    assert [path for path, _ in batch["skipped"]] == [str(damaged)]
    (again,) = take(make_train_loader(videos, data(workers=1), None, 4, shuffle=False, picker=pick_last_frames), 1)
    same(batch, again)
    (none,) = take(make_train_loader(videos[3:], data(), None, 1, picker=pick_last_frames), 1)
    assert len(none["video"]) == 0
