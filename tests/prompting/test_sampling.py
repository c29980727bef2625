"""Which features make a clip."""

import numpy as np
import pytest

from tasks.prompting.sampling import draw_clip, draws_of

GAPS = (1, 2, 3, 4, 5, 6, 10, 15)


@pytest.mark.parametrize("n", [1, 5, 15, 16, 17, 40, 226, 400])
def test_clips_fit(n):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        places, number = draw_clip(n, 16, GAPS, rng)
        seen.add(number)
        assert len(places) == 16
        assert places.min() >= 0
        assert places.max() < n
        steps = set(np.diff(places).tolist())
        assert steps == {GAPS[number]} if n >= 16 else steps <= {0, 1}
    fitting = max(1, sum(15 * gap < n for gap in GAPS))
    assert seen == set(range(fitting))


def test_a_short_video_is_whole_and_ends_in_its_last_feature():
    places, _ = draw_clip(5, 8, (1, 2), np.random.default_rng(0))
    assert places.tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


def test_clips_of_a_test_are_those_of_the_video():
    first, again, other = draws_of("/a/v.mp4", 0), draws_of("/b/v.mp4", 0), draws_of("/a/w.mp4", 0)
    drawn = [tuple(rng.integers(1000, size=4)) for rng in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert tuple(draws_of("/a/v.mp4", 1).integers(1000, size=4)) != drawn[0]
