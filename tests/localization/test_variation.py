import numpy as np
import pytest
import torch

from tasks.core.towers.config import MotionConfig
from tasks.core.towers.motion_parts import mirrored
from tasks.localization.variation import Layout, Piece, Variation, dub, stretched
from tasks.localization.variation_config import VariationConfig

MOTION = MotionConfig(columns=2, cells=2, directions=4, side_px=80)
LAYOUTS = {"visual": Layout(2, mirrored(MOTION)), "audio": Layout(mels=8, spectra=1)}


def piece(n=40, seed=0, segments=((5, 15), (20, 30)), labels=(0, 1)):
    draws = torch.Generator().manual_seed(seed)
    streams = {"visual": torch.rand(MOTION.dim, n, generator=draws), "audio": torch.rand(16, n, generator=draws)}
    return Piece(streams, np.array(segments, np.float64).reshape(-1, 2), np.array(labels, np.int64))


def vary(pieces, seed=0, longest=64, **settings):
    changed = Variation(VariationConfig(**settings), LAYOUTS)
    return changed(pieces, [np.random.default_rng([seed, number]) for number in range(len(pieces))], longest)


def same(first, second):
    return all(torch.equal(first.streams[name], second.streams[name]) for name in first.streams)


def test_by_default_nothing_changes():
    given = [piece(seed=1), piece(seed=2)]
    for before, after in zip(given, vary(given), strict=True):
        assert same(before, after)
        assert np.array_equal(before.segments, after.segments)


def test_the_same_draws_give_the_same_and_what_is_given_stays():
    settings = {
        "swap": 0.5,
        "mirror": 0.5,
        "stretch": 1.3,
        "gain_db": 6,
        "mel_shift": 2,
        "mel_masks": 1,
        "mel_mask": 3,
        "gaps": 1,
        "gap": 4,
        "dub": 0.8,
    }
    given, untouched = [piece(seed=1), piece(seed=2)], [piece(seed=1), piece(seed=2)]
    first, again, other = (vary(given, seed, **settings) for seed in (3, 3, 4))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not all(a.length == b.length and same(a, b) for a, b in zip(first, other, strict=True))
    assert all(same(a, b) for a, b in zip(given, untouched, strict=True))


def test_columns_change_places_and_mirroring_twice_is_nothing():
    given, half = piece(), MOTION.dim // 2
    found = [vary([given], seed, swap=1.0)[0].streams["visual"] for seed in range(8)]
    turned = torch.cat(given.streams["visual"].chunk(2)[::-1])
    assert any(torch.equal(x, turned) for x in found)
    once = vary([given], mirror=1.0)[0]
    order = torch.from_numpy(mirrored(MOTION)[:half])
    assert torch.equal(once.streams["visual"][:half], given.streams["visual"][:half][order])
    assert same(vary([once], mirror=1.0)[0], given)


def test_gain_moves_the_spectrum_and_not_the_deviations():
    given = piece()
    found = vary([given], gain_db=10)[0].streams["audio"] - given.streams["audio"]
    assert found[:8].std() < 1e-6
    assert 0 < abs(float(found[0, 0])) <= 10 * np.log(10) / 20
    assert torch.equal(found[8:], torch.zeros(8, 40))


def test_masks_silence_channels_and_times():
    given = piece()
    masked = vary([given], seed=2, mel_masks=1, mel_mask=8)[0].streams["audio"].unflatten(0, (2, 8))
    changed = (masked != given.streams["audio"].unflatten(0, (2, 8))).any(-1).any(0)
    assert 0 < int(changed.sum()) <= 8
    assert all(masked[:, k].std(-1).max() < 1e-7 for k in changed.nonzero()[:, 0].tolist())


def test_stretching_takes_events_along():
    """A feature that is 1 inside of an event only stays so."""
    given = piece(n=40, segments=[(10, 20)], labels=[0])
    given.streams["visual"] = torch.zeros(1, 40)
    given.streams["visual"][0, 10:21] = 1.0
    for factor in (0.5, 1.5, 2.0):
        found = stretched(given, factor, 100)
        inside = found.streams["visual"][0] > 0.5
        places = inside.nonzero()[:, 0]
        start, end = found.segments[0]
        assert found.length == round(40 * factor)
        assert start - 1.01 <= places.min() <= start + 1.01
        assert end - 1.01 <= places.max() <= end + 1.01
    assert stretched(given, 2.0, 50).length == 50


def test_dubbing_cuts_events_where_the_sound_is_another_one():
    own, other = piece(segments=[(5, 15), (20, 30)], labels=[0, 1]), piece(seed=1, segments=[(2, 9)], labels=[2])
    found = dub(own, other, 10, 25, 8)
    assert torch.equal(found.streams["audio"][:, 10:25], other.streams["audio"][:, 2:17])
    assert torch.equal(found.streams["audio"][:, :10], own.streams["audio"][:, :10])
    assert torch.equal(found.streams["visual"], own.streams["visual"])
    assert found.segments.tolist() == [[5, 9.5], [24.5, 30]]
    assert found.labels.tolist() == [0, 1]


def test_dubbing_makes_events_where_those_of_one_class_coincide():
    own, other = piece(segments=[(5, 25)], labels=[1]), piece(seed=1, segments=[(2, 9), (3, 12)], labels=[1, 0])
    found = dub(own, other, 8, 20, 8)  # its events lie at (10, 17) and (11, 20) now
    assert sorted(map(tuple, found.segments.tolist())) == [(5, 7.5), (10, 17), (19.5, 25)]
    assert found.labels.tolist() == [1, 1, 1]


def test_short_rests_are_left_out():
    own, other = piece(segments=[(5, 15)], labels=[0]), piece(seed=1, segments=[], labels=[])
    assert dub(own, other, 7, 15, 0).segments.tolist() == []  # 1.5 features before, half a one after
    assert dub(own, other, 38, 60, 0).streams["audio"].equal(torch.cat([own.streams["audio"][:, :38], other.streams["audio"][:, 38:]], 1))


def test_dubbed_events_get_the_sound_of_their_class_or_of_any():
    given = [piece(seed=k, segments=[(5, 15)], labels=[k % 2]) for k in range(4)]
    kept = [vary(given, seed, dub=1.0, dub_same=1.0) for seed in range(5)]
    assert all(list(p.labels) == [k % 2] for batch in kept for k, p in enumerate(batch))
    lost = [len(p.labels) for seed in range(10) for p in vary(given, seed, dub=1.0, dub_same=0.0)]
    assert 0.2 < np.mean(lost) < 0.8


def test_without_a_picture_or_a_sound_nothing_is_dubbed():
    alone = Piece({"audio": piece().streams["audio"]}, piece().segments, piece().labels)
    assert same(vary([alone, alone], dub=1.0)[0], alone)


@pytest.mark.parametrize("settings", [{"mel_shift": 3}, {"tilt_db": 6}, {"gaps": 2, "gap": 50}, {"fade": 0.5}])
def test_everything_keeps_its_shape(settings):
    given = piece(n=12, segments=[(2, 8)], labels=[0])
    found = vary([given], **settings)[0]
    assert {name: x.shape for name, x in found.streams.items()} == {name: x.shape for name, x in given.streams.items()}
    assert all(torch.isfinite(x).all() for x in found.streams.values())
