import random

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tasks.core.clips import augment_ops as ops
from tasks.core.clips.augment import EvalTransform, Mixer, TrainTransform
from tasks.core.clips.config import AugmentConfig
from tasks.core.errors import InputError

MEAN, STD = torch.tensor(AugmentConfig().mean).view(1, 1, 3, 1, 1), torch.tensor(AugmentConfig().std).view(1, 1, 3, 1, 1)
EVERYTHING = AugmentConfig(
    crop="resized",
    flip=0.5,
    color=0.4,
    color_prob=0.8,
    gray=0.2,
    blur=0.5,
    randaugment=(9, 0.7),
    erasing=0.5,
    time_reverse=0.5,
    mixup=0.8,
    cutmix=1.0,
)


def plain(**changes):
    return AugmentConfig(**({"crop": "none"} | changes))


def make_batch(n=6, frames=4, height=40, width=56, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n * frames, 3, 6, 7), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").view(n, frames, 3, height, width)
    sizes = torch.stack(
        [torch.randint(24, height + 1, (n,), generator=generator), torch.randint(24, width + 1, (n,), generator=generator)], 1
    )
    sizes[0] = torch.tensor([height, width])
    video = (smooth * 255).to(torch.uint8)
    for clip, (h, w) in zip(video, sizes.tolist(), strict=True):
        clip[..., h:, :] = 0
        clip[..., w:] = 0
    return {"video": video, "size": sizes, "seed": torch.arange(n) + 1000 * seed + 7}


def take(batch, rows):
    return {key: value[rows] for key, value in batch.items()}


def unnormalize(out):
    return out * STD + MEAN


def same_box_everywhere(clip):
    return all(torch.equal(clip[0], frame) for frame in clip)


@pytest.mark.parametrize("crop", ["resized", "multiscale", "center", "none"])
def test_shape_dtype_and_range(crop):
    out = TrainTransform(AugmentConfig(crop=crop), 32)(make_batch())
    assert out.shape == (6, 4, 3, 32, 32)
    assert out.dtype == torch.float32
    assert unnormalize(out).min() >= -1e-5
    assert unnormalize(out).max() <= 1 + 1e-5


def test_a_sample_does_not_depend_on_its_batch_or_on_global_random_state():
    batch, transform = make_batch(), TrainTransform(EVERYTHING, 32)
    torch.manual_seed(1)
    whole = transform(batch)
    torch.manual_seed(2)
    np.random.seed(2)
    order = torch.tensor([4, 1, 5, 0, 2, 3])
    torch.testing.assert_close(transform(take(batch, order)), whole[order], rtol=0, atol=0)
    for row in range(6):
        alone = TrainTransform(EVERYTHING, 32)(take(batch, slice(row, row + 1)))
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=0)


def test_padding_beyond_the_valid_size_is_never_seen():
    batch = make_batch()
    noisy = dict(batch, video=batch["video"].clone())
    for clip, (h, w) in zip(noisy["video"], batch["size"].tolist(), strict=True):
        clip[..., h:, :] = 255
        clip[..., w:] = 255
    for transform in (TrainTransform(EVERYTHING, 32), EvalTransform(EVERYTHING, 32, 3)):
        assert torch.equal(transform(batch), transform(noisy))


def test_global_random_state_is_untouched():
    batch = make_batch()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    video = TrainTransform(EVERYTHING, 32)(batch)
    Mixer(EVERYTHING, 5, 0.1)(video, torch.zeros(6, dtype=torch.long), batch["seed"])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


def test_different_seeds_give_different_results():
    batch = make_batch()
    other = dict(batch, seed=batch["seed"] + 100)
    transform = TrainTransform(EVERYTHING, 32)
    first, second = transform(batch), transform(other)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_negative_and_large_seeds_are_accepted():
    assert ops.uniform_draws(np.array([-1, 2**62], dtype=np.int64), 0, 3).shape == (2, 3)


def test_switching_one_augmentation_on_leaves_the_others_draws_alone():
    batch = make_batch(12)
    crops = TrainTransform(AugmentConfig(crop="resized"), 32)(batch)
    flipped = TrainTransform(AugmentConfig(crop="resized", flip=0.5), 32)(batch)
    for a, b in zip(crops, flipped, strict=True):
        assert torch.equal(a, b) or torch.equal(a.flip(-1), b)


def test_empty_batch_passes_through():
    batch = take(make_batch(), slice(0, 0))
    assert TrainTransform(EVERYTHING, 32)(batch).shape == (0, 4, 3, 32, 32)
    assert EvalTransform(EVERYTHING, 32, 3)(batch).shape == (0, 4, 3, 32, 32)
    video, target = Mixer(EVERYTHING, 5)(torch.zeros(0, 4, 3, 32, 32), torch.zeros(0, dtype=torch.long), batch["seed"])
    assert video.shape[0] == 0
    assert target.shape == (0, 5)


def test_no_augmentation_is_resize_and_normalise():
    batch = make_batch(2)
    out = unnormalize(TrainTransform(plain(), 32)(batch))
    h, w = batch["size"][1].tolist()
    expected = F.resize(batch["video"][1, ..., :h, :w], [32, 32], antialias=True).float() / 255
    torch.testing.assert_close(out[1], expected, rtol=0, atol=1e-5)


def test_flip_and_time_reverse():
    batch = make_batch()
    base = TrainTransform(plain(), 32)(batch)
    torch.testing.assert_close(TrainTransform(plain(flip=1.0), 32)(batch), base.flip(-1))
    torch.testing.assert_close(TrainTransform(plain(time_reverse=1.0), 32)(batch), base.flip(1))


@pytest.mark.parametrize(
    "changes", [{"crop": "resized"}, {"crop": "multiscale"}, {"color": 0.8, "gray": 0.3}, {"randaugment": (10, 1.0)}, {"erasing": 1.0}]
)
def test_a_still_clip_stays_still(changes):
    batch = make_batch(24)
    batch["video"] = batch["video"][:, :1].repeat(1, 4, 1, 1, 1)
    out = TrainTransform(plain(**changes), 32)(batch)
    assert all(same_box_everywhere(clip) for clip in out)
    assert not torch.allclose(out, TrainTransform(plain(), 32)(batch))


def test_grey_has_equal_channels():
    out = unnormalize(TrainTransform(plain(gray=1.0), 32)(make_batch()))
    torch.testing.assert_close(out[:, :, 0], out[:, :, 1], rtol=0, atol=1e-5)


def test_erasing_cuts_one_box_of_the_stated_area_and_leaves_the_rest():
    batch = make_batch(64)
    base, out = TrainTransform(plain(), 32)(batch), TrainTransform(plain(erasing=0.5), 32)(batch)
    changed = (base != out).any(2)
    assert 16 < changed.flatten(1).any(1).sum() < 48
    for mask in changed:
        if mask.any():
            rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
            box = mask[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all()
            assert 0.015 < box.numel() / 32**2 < 0.35


def boxes_inside(boxes, size):
    top, left, h, w = boxes.T
    return (
        (boxes[:, :2] >= 0).all() and (h >= 1).all() and (w >= 1).all() and (top + h <= size[:, 0]).all() and (left + w <= size[:, 1]).all()
    )


def test_resized_boxes_keep_area_and_aspect():
    size = np.tile([[240, 320]], (4000, 1))
    boxes = ops.resized_boxes(size, ops.uniform_draws(np.arange(4000), 0, ops.CROP_DRAWS), (0.5, 1.0), (0.75, 4 / 3))
    assert boxes_inside(boxes, size)
    area, aspect = boxes[:, 2] * boxes[:, 3] / (240 * 320), boxes[:, 3] / boxes[:, 2]
    assert 0.49 < area.min() < 0.52
    assert area.max() > 0.95
    assert aspect.min() > 0.74
    assert aspect.max() < 1.35
    assert {0} < set(boxes[:, 0])
    assert np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1] < 0.5


def test_resized_boxes_fall_back_to_the_centre_of_extreme_frames():
    size = np.array([[8, 400], [400, 8]])
    boxes = ops.resized_boxes(size, ops.uniform_draws(np.arange(2), 0, ops.CROP_DRAWS), (0.9, 1.0), (0.75, 4 / 3))
    assert boxes_inside(boxes, size)
    assert boxes.tolist() == [[0, 194, 8, 11], [194, 0, 11, 8]]


def test_multiscale_boxes_take_ten_shapes_and_thirteen_places():
    scales = (1.0, 0.875, 0.75, 0.66)
    size = np.tile([[240, 320]], (4000, 1))
    boxes = ops.multiscale_boxes(size, ops.uniform_draws(np.arange(4000), 0, ops.CROP_DRAWS), scales)
    assert boxes_inside(boxes, size)
    sides = [int(240 * scale) for scale in scales]
    shapes = {(h, w) for _, _, h, w in boxes.tolist()}
    assert shapes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    places = {(top, left) for top, left, h, w in boxes.tolist() if (h, w) == (sides[2], sides[2])}
    step_y, step_x = (240 - sides[2]) // 4, (320 - sides[2]) // 4
    assert len(places) == 13
    assert places >= {(y * step_y, x * step_x) for y in (0, 2, 4) for x in (0, 2, 4)}


@pytest.mark.parametrize("boxes", [ops.resized_boxes, ops.multiscale_boxes])
def test_random_boxes_fit_small_frames(boxes):
    size = np.array([[1, 1], [2, 9], [9, 2], [17, 5]]).repeat(50, 0)
    args = ((0.08, 1.0), (0.75, 4 / 3)) if boxes is ops.resized_boxes else ((1.0, 0.875, 0.75, 0.66),)
    assert boxes_inside(boxes(size, ops.uniform_draws(np.arange(200), 0, ops.CROP_DRAWS), *args), size)


@pytest.mark.parametrize("name", ["brighten", "saturate", "contrast", "shift_hue"])
def test_batched_colour_equals_torchvision(name):
    image = torch.rand((5, 1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    image[0] = 0.3
    amount = torch.tensor([0.4, -0.3, 0.0, 0.17, -0.5])
    reference, factor = {
        "brighten": (F.adjust_brightness, 1 + amount),
        "saturate": (F.adjust_saturation, 1 + amount),
        "contrast": (F.adjust_contrast, 1 + amount),
        "shift_hue": (F.adjust_hue, amount),
    }[name]
    expected = torch.stack([reference(clip, float(f)) for clip, f in zip(image, factor, strict=True)])
    torch.testing.assert_close(getattr(ops, name)(image, factor), expected, rtol=0, atol=1e-5)


def test_batched_blur_equals_torchvision():
    video = torch.rand(3, 2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    sigma = np.array([0.1, 0.8, 2.0])
    expected = torch.stack([F.gaussian_blur(clip, [13, 13], [s, s]) for clip, s in zip(video, sigma.tolist(), strict=True)])
    assert torch.allclose(ops.blur(video, sigma, 6), expected, atol=1e-6)
    assert ops.blur(video[..., :3, :4], sigma, 6).shape == (3, 2, 3, 3, 4)


def test_blur_and_jitter_come_with_their_probabilities():
    batch = make_batch(64, 1)
    batch["video"] = torch.randint(0, 256, (64, 1, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def changed(**changes):
        before, after = (TrainTransform(plain(**each), 96)(batch) for each in ({}, changes))
        return (after - before).abs().amax((1, 2, 3, 4)) > 1e-3

    for always, sometimes in (({"blur": 1.0}, {"blur": 0.5}), ({"color": 0.5}, {"color": 0.5, "color_prob": 0.5})):
        every, some = changed(**always), changed(**sometimes)
        assert every.sum() > 32  # the weakest blurs change nothing
        assert not (some & ~every).any()
        assert 0.3 < some.sum() / every.sum() < 0.7


@pytest.mark.parametrize("name", list(ops.RANDAUGMENT))
def test_randaugment_operations_keep_shape_and_grow_with_magnitude(name):
    clip = make_batch(1)["video"][0, ..., :32, :32].contiguous()
    weak, strong = (ops.RANDAUGMENT[name](clip, strength, [124, 116, 104]) for strength in (0.1, 1.0))
    assert strong.shape == clip.shape
    assert strong.dtype == torch.uint8
    change = [(out.float() - clip.float()).abs().mean() for out in (weak, strong)]
    assert change[1] >= change[0]
    assert (change[1] == 0) == (name == "identity")


def test_randaugment_applies_each_of_two_operations_with_the_probability():
    batch = make_batch(200, frames=1, height=24, width=24)
    base, out = (TrainTransform(plain(randaugment=(9, p)), 24)(batch) for p in (0.0, 0.5))
    unchanged = (base == out).flatten(1).all(1).float().mean()
    assert 0.2 < unchanged < 0.4


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (48, 48)])
def test_eval_crops_lie_along_the_long_side(height, width):
    video = torch.zeros((1, 2, 3, 64, 64), dtype=torch.uint8)
    along = torch.arange(max(height, width), dtype=torch.uint8)
    video[..., :height, :width] = along if height <= width else along[:, None]
    batch = {"video": video, "size": torch.tensor([[height, width]])}
    side = min(height, width)
    views = (unnormalize(EvalTransform(plain(), side, 3)(batch)) * 255).round()
    first = [float(view[0, 0, 0, 0]) for view in views]
    assert views.shape == (3, 2, 3, side, side)
    assert first == [0.0, (max(height, width) - side) // 2, max(height, width) - side]
    assert torch.equal(EvalTransform(plain(), side, 1)(batch)[0], EvalTransform(plain(), side, 3)(batch)[1])


def test_eval_crops_of_one_clip_are_neighbours():
    batch = make_batch()
    three, one = EvalTransform(plain(), 32, 3)(batch), EvalTransform(plain(), 32, 1)(batch)
    assert torch.equal(three[1::3], one)
    with pytest.raises(ValueError, match="1 or 3 or 10"):
        EvalTransform(plain(), 32, 2)
    with pytest.raises(ValueError, match="1 or 3, not 10"):
        EvalTransform(plain(crop="motion"), 32, 10)


@pytest.mark.parametrize(("height", "width", "scaled"), [(40, 60, [32, 48]), (60, 40, [48, 32]), (32, 32, [32, 32])])
def test_ten_crops_are_torchvisions_five_and_their_mirror_images(height, width, scaled):
    """Squares of 28 px: the short side is 32."""
    video = torch.randint(0, 256, (1, 2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = unnormalize(EvalTransform(plain(), 28, 10)({"video": video, "size": torch.tensor([[height, width]])})) * 255
    clip = F.resize(video[0, ..., :height, :width], scaled, antialias=True)
    five = torch.stack(F.five_crop(clip, [28, 28])).float()
    torch.testing.assert_close(views, torch.cat([five, five.flip(-1)]), rtol=0, atol=1e-3)


def mixing_batch(n=64):
    return torch.arange(n).float().view(n, 1, 1, 1, 1).expand(n, 2, 3, 16, 16).clone(), torch.arange(n) % 8, torch.arange(n)


def test_mixup_and_targets_agree():
    video, label, seed = mixing_batch()
    mixed, target = Mixer(AugmentConfig(mixup=0.8), 8)(video, label, seed)
    torch.testing.assert_close(target.sum(1), torch.ones(64))
    for row in range(64):
        share = target[row, label[row]]
        expected = share * row + (1 - share) * (row ^ 1)
        torch.testing.assert_close(mixed[row], torch.full_like(mixed[row], float(expected)), rtol=1e-4, atol=1e-4)
    assert target.max(1).values.std() > 0.05


def test_cutmix_share_is_the_area_left():
    video, label, seed = mixing_batch()
    mixed, target = Mixer(AugmentConfig(cutmix=1.0), 8)(video, label, seed)
    for row in range(64):
        own = (mixed[row] == row).float().mean()
        assert set(mixed[row].unique().tolist()) <= {row, row ^ 1}
        torch.testing.assert_close(target[row, label[row]], own, rtol=0, atol=1e-5)
    assert all(same_box_everywhere(clip) for clip in mixed)


def test_mixing_is_split_by_its_probabilities():
    video, label, seed = mixing_batch(400)
    mixed, _ = Mixer(AugmentConfig(mixup=0.8, cutmix=1.0, mix_prob=0.5, switch_prob=0.5), 8)(video, label, seed)
    two_values = sum(len(clip.unique()) == 2 for clip in mixed)
    untouched = sum(torch.equal(a, b) for a, b in zip(mixed, video, strict=True))
    assert 0.4 < untouched / 400 < 0.62
    assert 0.12 < two_values / 400 < 0.35


def test_two_half_batches_mix_like_the_whole():
    video, label, seed = mixing_batch()
    mixer = Mixer(EVERYTHING, 8, 0.1)
    whole, halves = mixer(video, label, seed), [mixer(video[part], label[part], seed[part]) for part in (slice(0, 32), slice(32, 64))]
    for index in (0, 1):
        assert torch.equal(whole[index], torch.cat([half[index] for half in halves]))


def test_repeated_clips_mix_across_videos_and_a_lone_clip_is_left():
    video, label, seed = mixing_batch(7)
    mixed, _ = Mixer(AugmentConfig(cutmix=1.0), 8, repeats=2)(video, label, seed)
    partner = [2, 3, 0, 1, 6, 5, 4]
    for row in range(7):
        assert set(mixed[row].unique().tolist()) <= {row, partner[row]}
    assert torch.equal(mixed[5], video[5])


def test_smoothing_without_mixing():
    video, label, seed = mixing_batch(4)
    same, target = Mixer(AugmentConfig(), 8, smoothing=0.1)(video, label, seed)
    assert same is video
    assert target[2].tolist() == pytest.approx([0.0125, 0.0125, 0.9125] + [0.0125] * 5)


def test_labels_out_of_range_are_named():
    video, _, seed = mixing_batch(2)
    with pytest.raises(InputError, match=r"-1\.\.3, outside 0\.\.7"):
        Mixer(AugmentConfig(), 8)(video, torch.tensor([-1, 3]), seed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_nothing_but_rounding():
    batch = make_batch(24)
    on_gpu = dict(batch, video=batch["video"].cuda())
    config = AugmentConfig(crop="resized", flip=0.5, color=0.4, gray=0.2, erasing=0.5, time_reverse=0.5, mixup=0.8, cutmix=1.0)
    cpu, gpu = (TrainTransform(config, 32)(each) for each in (batch, on_gpu))
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=0, atol=0.06)
    label = torch.arange(24) % 5
    mixed = [Mixer(config, 5, 0.1)(video, label, batch["seed"]) for video in (cpu, cpu.cuda())]
    for here, there in zip(*mixed, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
