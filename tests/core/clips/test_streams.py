"""Two streams of a clip: what is done to the frames is done to their flow."""

import itertools

import numpy as np
import pytest
import torch
from sliding import texture, write_sliding
from torchvision.transforms.v2 import functional as F

from tasks.core.clips import cutting
from tasks.core.clips.augment import EvalTransform, TrainTransform
from tasks.core.clips.config import AugmentConfig, DataConfig
from tasks.core.clips.loader import ClipDataset, Picked, collate, make_eval_loader, make_train_loader
from tasks.core.clips.motion_crop import boxes_around, motion_squares
from tasks.core.clips.prepare import flow_for_model, flow_input, flow_of, modality_of, read_pictures, read_views
from tasks.core.config import build, defaults
from tasks.core.data.inputs import gather
from tasks.core.data.manifest import Row
from tasks.core.errors import UsageError
from tasks.core.flow import precompute
from tasks.core.flow.flow import opencv_flow, to_grey
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.levels import REST, to_levels, to_px
from tasks.core.reporter import Quiet
from tasks.core.shard import Shard
from tasks.core.video.frames_reader import FramesReader
from tasks.core.video.open import open_video
from tasks.registry import schema

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
GEOMETRY = {"scale": (0.2, 1.0), "flip": 0.5, "time_reverse": 0.5, "flip_u": False, **UNIT}
DIS = {"method": "dis", "short_side": 48}


def plain(**changes):
    return AugmentConfig(**({"crop": "none"} | UNIT | changes))


def two_streams(n=8, frames=3, size=(40, 56), flow_size=(40, 56), channels=3, seed=0):
    """Clips with a marker, and flow with the same marker at the same place: a bright square, of another size and place in each clip."""
    rng = np.random.default_rng(seed)
    video = torch.zeros(n, frames, 3, *size, dtype=torch.uint8)
    flow = torch.zeros(n, frames, channels, *flow_size, dtype=torch.uint8)
    for clip, other in zip(video, flow, strict=True):
        top, left = rng.integers(3, 9), rng.integers(4, 16)
        for picture in (clip, other):
            row, column = picture.shape[-2] // 20, picture.shape[-1] // 28
            picture[..., top * row : (top + 6) * row, left * column : (left + 8) * column] = 255
    ends = torch.tensor([size] * n)
    return {
        "video": video,
        "size": ends,
        "flow": flow,
        "flow_size": torch.tensor([flow_size] * n),
        "seed": torch.arange(n) + 7 + 100 * seed,
    }


def centres(pictures):
    """Row and column of the marker in each clip, as shares of the picture; (N, 2)."""
    weight = pictures[:, :, 0].mean(1)
    places = (torch.arange(weight.shape[-1]) + 0.5) / weight.shape[-1]
    total = weight.sum((1, 2)).clamp(min=1e-6)
    return torch.stack(((weight.sum(2) * places).sum(1) / total, (weight.sum(1) * places).sum(1) / total), 1)


@pytest.mark.parametrize("crop", ["resized", "multiscale", "center", "none"])
def test_the_same_picture_in_both_streams_stays_the_same(crop):
    """Crop, resize, flip and erasing bit for bit; every clip has draws of its own."""
    batch = two_streams()
    batch["flow"] = batch["video"].clone()
    out = TrainTransform(AugmentConfig(crop=crop, erasing=0.5, **(GEOMETRY | {"time_reverse": 0.0})), 32).streams(batch)
    assert torch.equal(out["video"], out["flow"])
    assert out["flow"].shape == (8, 3, 3, 32, 32)
    assert not all(torch.equal(clip, out["video"][0]) for clip in out["video"])


@pytest.mark.parametrize("flow_size", [(20, 28), (40, 56), (60, 84)])
def test_a_marker_moves_alike_in_flow_of_another_size(flow_size):
    batch = two_streams(24, flow_size=flow_size)
    out = TrainTransform(AugmentConfig(crop="resized", **(GEOMETRY | {"time_reverse": 0.0})), 64).streams(batch)
    seen = out["video"][:, :, 0].mean((1, 2, 3)) > 0.03
    assert seen.sum() > 15
    assert (centres(out["video"]) - centres(out["flow"]))[seen].abs().max() < 0.02
    assert centres(out["video"])[seen].std(0).min() > 0.05  # and it does move
    whole = EvalTransform(plain(), 64, 3).streams(batch)
    assert (centres(whole["video"]) - centres(whole["flow"])).abs().max() < 0.02


def test_padding_of_flow_is_never_seen():
    """Clips of different sizes in one batch, frames and flow padded each in its way."""
    batch = two_streams(2, size=(40, 56), flow_size=(20, 28))
    batch["size"][1], batch["flow_size"][1] = torch.tensor([30, 40]), torch.tensor([15, 20])
    transform = TrainTransform(plain(), 32)
    before = transform.streams(batch)
    batch["flow"][1, :, :, 15:], batch["flow"][1, ..., 20:], batch["video"][1, :, :, 30:] = 77, 77, 77
    for name, pictures in transform.streams(batch).items():
        assert torch.equal(pictures, before[name])


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("flip_u", [True, False])
def test_a_mirrored_clip_moves_the_other_way(flip_u, channels):
    batch = two_streams(channels=channels)
    batch["flow"][:] = torch.randint(0, 256, batch["flow"].shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    base, mirrored = (TrainTransform(plain(flip=p, flip_u=flip_u), 40).streams(batch) for p in (0.0, 1.0))
    assert base["flow"].shape == (8, 3, channels, 40, 40)
    wanted = base["flow"].flip(-1)
    if flip_u:
        wanted[:, :, 0] = 1 - wanted[:, :, 0]
    torch.testing.assert_close(mirrored["flow"], wanted, rtol=0, atol=2e-6)
    torch.testing.assert_close(mirrored["video"], base["video"].flip(-1))


def test_a_clip_played_backwards_moves_backwards():
    batch = two_streams(frames=4)
    batch["flow"][:] = torch.arange(4).view(1, 4, 1, 1, 1) * 10 + 100
    base, back = (TrainTransform(plain(time_reverse=p), 40).streams(batch) for p in (0.0, 1.0))
    assert torch.equal(back["video"], base["video"].flip(1))
    torch.testing.assert_close(back["flow"][:, :, :2], 1 - base["flow"].flip(1)[:, :, :2], rtol=0, atol=2e-6)
    assert torch.equal(back["flow"][:, :, 2], base["flow"].flip(1)[:, :, 2])


@pytest.mark.parametrize("change", [{"flip": 1.0}, {"time_reverse": 1.0}, {"flip": 1.0, "time_reverse": 1.0}])
def test_flow_that_is_changed_is_the_flow_of_frames_that_are_changed(change):
    """Of a texture that slides evenly to the right and down, so that every flow is alike."""
    clip = np.stack([np.roll(texture(64, 64), (t, 2 * t), (0, 1)) for t in range(4)])

    def levels(frames):
        grey = to_grey(torch.from_numpy(frames))
        flow = to_levels(opencv_flow(grey[:-1], grey[1:], "dis"), 20.0)
        flow = torch.cat((flow, torch.full_like(flow[:, :1], REST)), 1)
        return torch.cat((flow, flow[-1:]))

    batch = {"video": torch.from_numpy(clip).permute(0, 3, 1, 2)[None], "size": torch.tensor([[64, 64]]), "seed": torch.tensor([3])}
    out = TrainTransform(plain(**change), 64).streams({**batch, "flow": levels(clip)[None], "flow_size": batch["size"]})
    seen = (out["video"][0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    medians = [to_px(pictures[:, :2].float(), 20.0).flatten(2).median(2).values for pictures in (out["flow"][0] * 255, levels(seen))]
    torch.testing.assert_close(*medians, rtol=0, atol=0.25)
    assert medians[0].abs().min() > 0.7


def test_switching_flow_on_changes_no_frame():
    batch = two_streams()
    transform = TrainTransform(AugmentConfig(crop="resized", flip=0.5, color=0.4, gray=0.2, blur=0.5, erasing=0.5), 32)
    alone = {name: value for name, value in batch.items() if not name.startswith("flow")}
    assert torch.equal(transform(alone), transform.streams(batch)["video"])
    assert set(transform.streams(alone)) == {"video"}


COLORS = {"color": 0.5, "gray": 0.3, "blur": 0.5}


def coloured(n=6, frames=5, seed=0):
    """Clips that stand still."""
    still = torch.randint(0, 256, (n, 1, 3, 12, 14), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    video = torch.nn.functional.interpolate(still[:, 0].float(), (36, 42), mode="bilinear").to(torch.uint8)[:, None]
    video = video.expand(-1, frames, -1, -1, -1).contiguous()
    return {"video": video, "size": torch.tensor([[36, 42]] * n), "seed": torch.arange(n) + 40}


def test_colours_of_a_clip_change_together_or_frame_by_frame():
    batch = coloured()
    together, each = (TrainTransform(plain(color_per=per, **COLORS), 32)(batch) for per in ("clip", "frame"))
    for clip in together:
        assert all(torch.equal(frame, clip[0]) for frame in clip)
    for clip in each:
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(clip, 2))
    # geometry is still that of the clip, whatever happens to colours
    moved = {"crop": "resized", "scale": (0.2, 1.0), "flip": 0.5}
    shapes, seen = (TrainTransform(plain(color_per="frame", **moved, **colors), 32)(batch) for colors in ({}, {"gray": 1.0}))
    assert all(torch.equal(frame, clip[0]) for clip in shapes for frame in clip)
    assert all(torch.equal(frame, clip[0]) for clip in seen for frame in clip)


def test_frames_are_grey_one_by_one():
    out = TrainTransform(plain(gray=0.4, color_per="frame"), 32)(coloured(20))
    grey = ((out[:, :, 0] - out[:, :, 1]).abs().amax((-1, -2)) < 1e-6).float()
    assert 0.2 < grey.mean() < 0.6
    assert ((grey.mean(1) > 0) & (grey.mean(1) < 1)).sum() > 12


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_frame_by_frame_a_sample_does_not_depend_on_its_batch(chunk, monkeypatch):
    monkeypatch.setattr(cutting, "_CHUNK_ELEMENTS", {"cpu": chunk})
    batch, transform = coloured(), TrainTransform(AugmentConfig(crop="resized", color_per="frame", erasing=0.5, **COLORS), 32)
    full = transform(batch)
    for row in range(6):
        alone = transform({name: value[row : row + 1] for name, value in batch.items()})
        torch.testing.assert_close(alone[0], full[row], rtol=0, atol=0)
    empty = transform({name: value[:0] for name, value in batch.items()})
    assert empty.shape == (0, 5, 3, 32, 32)


@pytest.mark.parametrize("per", ["clip", "frame"])
def test_flow_keeps_its_colours_unless_asked(per):
    batch = coloured()
    batch |= {"flow": batch["video"].clone(), "flow_size": batch["size"]}
    untouched = TrainTransform(plain(), 32).streams(batch)["flow"]
    settings = {"color_per": per, **COLORS}
    kept, jittered = (TrainTransform(plain(color_flow=flag, **settings), 32).streams(batch) for flag in (False, True))
    assert torch.equal(kept["flow"], untouched)
    assert torch.equal(jittered["flow"], jittered["video"])
    assert torch.equal(jittered["video"], kept["video"])
    assert not torch.equal(jittered["flow"], untouched)


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        (two_streams(), {"flow": "dis"}, "makes flow of colours"),
        (two_streams(), {"randaugment": (9, 0.5)}, "turns and shears pictures"),
        (two_streams(channels=2), {"color_flow": True, "gray": 0.1}, "three channels"),
        ({**two_streams(), "modality": "flow"}, {"crop": "motion"}, "which are not read"),
    ],
)
def test_settings_that_do_not_go_with_flow(batch, settings, message):
    for transform in (TrainTransform(plain(**settings), 32), EvalTransform(plain(**settings), 32)):
        with pytest.raises(UsageError, match=message):
            transform.streams(batch)


def test_the_square_around_motion_is_that_of_the_frames():
    batch = two_streams(2, 6)
    batch["video"].zero_()
    for t in range(6):
        batch["video"][:, t, :, 14:26, 10 + 3 * t : 22 + 3 * t] = 200
    batch["flow"] = batch["video"].clone()
    for transform in (EvalTransform(plain(crop="motion"), 32, 3), TrainTransform(plain(crop="motion"), 32)):
        out = transform.streams(batch)
        assert torch.equal(out["video"], out["flow"])
    batch["flow"] = (torch.arange(40).view(-1, 1) + torch.arange(56)).to(torch.uint8).expand(2, 6, 3, 40, 56)  # in which nothing moves
    box = boxes_around(motion_squares(batch["video"], batch["size"]), batch["size"], 0.5)[0].tolist()
    top, left, height, width = box
    wanted = F.resize(batch["flow"][0, :, :, top : top + height, left : left + width], [32, 32], antialias=True) / 255
    assert height < 40
    torch.testing.assert_close(EvalTransform(plain(crop="motion", motion_margin=0.5), 32).streams(batch)["flow"][0], wanted)


SHIFTS = [2, 3, -2, 4, -3, 2, 1, -1, 3, 2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sliding")
    return [Row(str(write_sliding(folder / f"v{i}", SHIFTS[i:], seed=i)), "ab"[i % 2]) for i in range(5)]


@pytest.fixture(scope="module")
def flow_folder(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("flow") / "flow"
    work = precompute.Job(out, FlowSettings(**DIS), torch.device("cpu"))
    assert not any("error" in record for record in precompute.run(work, gather([row.path for row in rows]), Shard(), 0, Quiet()))
    return str(out)


def data(**settings):
    return DataConfig(**{"clip": {"frames": 4, "stride_frames": 2}, "workers": 0, "short_side": 48, **settings})


def take(loader, n):
    return list(itertools.islice(iter(loader), n))


def same(first, second):
    assert first.keys() == second.keys()
    for key in first.keys() - {"read_s"}:
        assert torch.equal(first[key], second[key]) if isinstance(first[key], torch.Tensor) else first[key] == second[key], key


def test_frames_and_flow_are_of_the_same_moments(rows, flow_folder):
    """The flow of frame i of v0 is SHIFTS[i], at 48 of 64 px; the last frame repeats the last."""
    (batch,) = take(make_eval_loader(rows[:1], data(clip={"frames": 11, "stride_frames": 1}, flow={"folder": flow_folder}), None, 1), 1)
    assert batch["video"].shape == (1, 11, 3, 48, 72)
    assert batch["flow"].shape == (1, 11, 3, 48, 72)
    assert batch["flow"].dtype == torch.uint8
    assert batch["flow_size"].tolist() == [[48, 72]]
    assert batch["modality"] == "rgb"
    u, v, _ = to_px(batch["flow"][0], 20.0).flatten(2).median(2).values.T
    wanted = torch.tensor([*SHIFTS, SHIFTS[-1]]) * 48 / 64
    torch.testing.assert_close(u, wanted.float(), rtol=0, atol=0.3)
    torch.testing.assert_close(v, torch.zeros(11), rtol=0, atol=0.3)
    assert (batch["flow"][0, :, 2] == REST).all()


class TwoClips:
    """A picker of two clips with a frame in common."""

    def __call__(self, pts, rng, row):
        return Picked(np.array([[0, 3, 4], [4, 2, 10]]))


@pytest.mark.parametrize("frames", [True, False])
def test_each_clip_has_the_flow_of_its_own_frames(rows, flow_folder, frames):
    settings = data(flow={"folder": flow_folder, "frames": frames})
    (batch,) = take(make_train_loader(rows[:1], settings, None, 1, picker=TwoClips()), 1)
    u = to_px(batch["flow" if frames else "video"][:, :, 0], 20.0).flatten(2).median(2).values
    wanted = torch.tensor([[SHIFTS[0], SHIFTS[3], SHIFTS[4]], [SHIFTS[4], SHIFTS[2], SHIFTS[9]]]) * 48 / 64
    torch.testing.assert_close(u, wanted, rtol=0, atol=0.3)


@pytest.mark.parametrize("channels", [2, 3])
def test_flow_from_a_folder_is_flow_computed_on_the_way(rows, flow_folder, channels):
    for repeats in (1, 2):
        stored, computed = (
            take(make_train_loader(rows, data(repeats=repeats, flow={**source, "channels": channels}), ["a", "b"], 2), 3)
            for source in ({"folder": flow_folder}, {"compute": DIS})
        )
        for one, other in zip(stored, computed, strict=True):
            same(one, other)
            assert one["flow"].shape == (2 * repeats, 4, channels, 48, 72)


@pytest.mark.parametrize("frames", [True, False])
def test_workers_preloading_and_processes_change_no_sample(rows, flow_folder, frames):
    settings = {"flow": {"folder": flow_folder, "frames": frames}}
    alone = take(make_train_loader(rows, data(**settings), ["a", "b"], 4), 3)
    computed = {"flow": {"compute": DIS, "frames": frames}, "workers": 1}
    others = [{"workers": 2}, {"preload": True}] if frames else [computed]
    for changes in others:
        for one, other in zip(alone, take(make_train_loader(rows, data(**(settings | changes)), ["a", "b"], 4), 3), strict=True):
            same(one, other)
    parts = [take(make_train_loader(rows, data(**settings), ["a", "b"], 2, rank, 2), 3) for rank in range(2)]
    for one, left, right in zip(alone, *parts, strict=True):
        for key in ("video", "uid", "seed", *(["flow", "flow_size"] if frames else [])):
            assert torch.equal(one[key], torch.cat([left[key], right[key]]))


def test_flow_alone_is_the_video_and_no_frame_is_read(rows, flow_folder, monkeypatch):
    (both,) = take(make_train_loader(rows, data(flow={"folder": flow_folder}), None, 3), 1)
    monkeypatch.setattr(FramesReader, "get", lambda *_: pytest.fail("frames were read"))
    (batch,) = take(make_train_loader(rows, data(flow={"folder": flow_folder, "frames": False}), None, 3), 1)
    assert batch["modality"] == "flow"
    assert "flow" not in batch
    assert torch.equal(batch["video"], both["flow"])
    # augmented as the flow of two streams is: mirrored with its sign, and its colours left alone
    for changes in ({}, {"color": 0.5, "flip": 1.0}, {"time_reverse": 1.0}):
        transform = TrainTransform(plain(**changes), 32)
        assert torch.equal(transform(batch), transform.streams(both)["flow"])
    assert torch.equal(EvalTransform(plain(), 32)(batch), EvalTransform(plain(), 32).streams(both)["flow"])


def test_videos_without_flow_are_skipped_with_the_reason(rows, flow_folder, tmp_path):
    other = Row(str(write_sliding(tmp_path / "new", SHIFTS)))
    for frames in (True, False):
        (batch,) = take(make_eval_loader([other, rows[0]], data(flow={"folder": flow_folder, "frames": frames}), None, 2), 1)
        assert batch["uid"].tolist() == [1]
        assert batch["skipped"] == [(other.path, f"no flow of it in {flow_folder}")]
        assert batch["modality"] == ("rgb" if frames else "flow")
    nothing = collate([ClipDataset([other], data(flow={"folder": flow_folder}), None)[(0, 0)]])
    assert len(nothing["video"]) == 0
    assert "flow" not in nothing
    lost = ClipDataset([other], data(flow={"folder": flow_folder, "frames": False}), None).refused((0, 0), "its decoder crashed")
    assert collate([lost])["modality"] == "flow"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": {}}, "give folder"),
        ({"flow": {"folder": "x", "compute": {}}}, "give folder"),
        ({"flow": {"compute": DIS}, "preload": True}, "preload keeps frames"),
        ({"flow": {"folder": "x", "frames": False}, "preload": True}, "preload keeps frames"),
    ],
)
def test_contradictions_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        data(**settings)


@pytest.mark.parametrize(
    ("task", "verb", "flow", "message"),
    [
        ("masked", "pretrain", {"folder": "x"}, "sees one stream"),
        ("classify", "finetune", {"folder": "x"}, "sees one stream"),
        ("boundaries", "pretrain", {"folder": "x", "frames": False}, "sees colours"),
        ("anomalies", "pretrain", {"folder": "x", "frames": False}, "sees colours"),
    ],
)
def test_methods_refuse_the_stream_that_they_would_not_look_at(task, verb, flow, message):
    known = schema(task, verb)
    given = defaults(known)
    given["data"]["flow"] = flow
    with pytest.raises(UsageError, match=message):
        build(known, given)
    given["data"]["flow"] = None
    build(known, given)


def test_a_folder_that_is_not_there_is_told_before_anything_is_read(rows):
    with pytest.raises(UsageError, match="nowhere is not a folder of optical flow"):
        make_train_loader(rows, data(flow={"folder": "nowhere"}), None, 2)


@pytest.mark.parametrize("frames", [True, False])
def test_a_model_is_shown_what_it_was_trained_on(rows, flow_folder, frames):
    """From what its folder says: without the folder of flow, the flow is computed as it was."""
    config = data(flow={"folder": flow_folder, "frames": frames, "channels": 3})
    told = {"image_size": 32, "frames": 4, "sampling": "dense", "stride_frames": 2, "stride_s": None, "crop": "center"}
    told |= {"short_side": 48, "motion_margin": 1.4, "flow_input": flow_input(config.flow), **UNIT}
    assert flow_of(told).compute == FlowSettings(**DIS)
    assert modality_of(told) == ("rgb" if frames else "flow")
    (batch,) = take(make_eval_loader(rows[1:2], config, None, 1, n_clips=2), 1)
    wanted = EvalTransform(plain(), 32, 3)(batch)
    assert torch.equal(read_views(rows[1].path, told, 2, 3), wanted)
    with open_video(rows[1].path) as reader:
        pictures = read_pictures(reader, [3, 4], told)
    clip = data(clip={"frames": 10, "stride_frames": 1}, flow=config.flow.model_dump())
    (every,) = take(make_eval_loader(rows[1:2], clip, None, 1), 1)
    assert np.array_equal(pictures, every["video"][0, 3:5].permute(0, 2, 3, 1).numpy())
    assert flow_for_model(config.flow, told) == config.flow
    assert flow_for_model(None, told) == flow_of(told)
    assert flow_for_model(None, {}) is None
    with pytest.raises(UsageError, match="frames alone"):
        flow_for_model(config.flow, {})
    with pytest.raises(UsageError, match="bound_px 5"):
        flow_for_model(data(flow={"compute": {**DIS, "bound_px": 5.0}}).flow, told)
