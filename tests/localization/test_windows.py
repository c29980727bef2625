import numpy as np
import pytest

from tasks.core.data.features import Features
from tasks.core.data.grid import Grid
from tasks.core.data.streams import resample
from tasks.localization.windows import Held, windows


def blocks(values, sizes):
    first = 0
    while first < len(values):
        size = next(sizes)
        yield values[first : first + size]
        first += size


def sizes(seed):
    draws = np.random.default_rng(seed)
    while True:
        yield int(draws.integers(1, 9))


@pytest.mark.parametrize("n", [1, 5, 16, 17, 24, 40, 61])
@pytest.mark.parametrize(("length", "hop"), [(16, 8), (16, 16), (16, 4), (None, 8)])
def test_windows_are_the_features_of_the_video_and_each_counts_once(n, length, hop):
    draws = np.random.default_rng(n)
    picture = draws.standard_normal((n, 3)).astype(np.float32)
    sound = draws.standard_normal((round(n * 2.2) + 1, 2)).astype(np.float32)
    grids = Grid(0.2, 0.2, 1.0), Grid(0.1, 0.3, 0.9)
    expected = resample(Features(sound, grids[1]), grids[0].centers(n), "linear")[0]
    streams = {"visual": (grids[0], blocks(picture, sizes(1))), "audio": (grids[1], blocks(sound, sizes(2)))}
    counted, found = [], list(windows(streams, length, hop))
    for number, window in enumerate(found):
        part = slice(window.first, window.first + window.length)
        assert window.first == number * hop
        assert np.array_equal(window.streams["visual"], picture[part])
        assert window.streams["audio"] == pytest.approx(expected[part], abs=1e-5)
        assert window.final == (number == len(found) - 1)
        assert length is None or window.length <= length
        counted += range(window.first + window.counted[0], window.first + window.counted[1])
    assert counted == list(range(n))


def test_a_feature_counts_where_it_is_far_from_the_ends():
    values = np.zeros((100, 1), np.float32)
    found = list(windows({"visual": (Grid(1, 1), blocks(values, sizes(0)))}, 32, 16))
    for window in found[1:-1]:
        assert window.counted == (8, 24)


def test_what_is_behind_is_let_go():
    """Of ten thousand features never more are held than a window, the one after it and a block."""
    held = []

    def long():
        for number in range(1250):
            yield np.full((8, 1), number, np.float32)

    stream = {"visual": (Grid(0.2, 0.2), long()), "audio": (Grid(0.2, 0.2), long())}
    original = Held.pull

    def watched(self, stop):
        result = original(self, stop)
        held.append(len(self._values))
        return result

    Held.pull = watched
    try:
        count = sum(1 for _ in windows(stream, 64, 32))
    finally:
        Held.pull = original
    assert count == 312
    assert max(held) <= 64 + 32 + 8 + 4


def test_a_stream_that_ends_early_is_zero_from_there_on():
    picture, sound = np.ones((20, 1), np.float32), np.ones((10, 1), np.float32)
    grid = Grid(0.2, 0.2)
    (window,) = windows({"visual": (grid, iter([picture])), "audio": (grid, iter([sound]))}, None, 1)
    assert window.streams["audio"].ravel().tolist() == [1] * 10 + [0] * 10
