"""One offset and drift from the activity of sound and subtitles."""

import numpy as np
import pytest

from tasks.alignment.sync import RATIOS, STEP_S, find_shift, sound_activity
from tasks.core.errors import InputError


def spoken(seed: int = 0, length: float = 300.0) -> list[tuple[float, float]]:
    """Random utterances and pauses."""
    rng, t, found = np.random.default_rng(seed), 3.0, []
    while t < length - 10:
        end = t + rng.uniform(0.5, 4)
        found.append((t, end))
        t = end + rng.uniform(0.3, 6)
    return found


def activity(times: list[tuple[float, float]], length: float = 300.0) -> np.ndarray:
    steps = np.arange(round(length / STEP_S)) * STEP_S
    return np.any([(steps >= a) & (steps < b) for a, b in times], axis=0).astype(float)


@pytest.mark.parametrize("offset", [0.0, 7.25, -12.5])
@pytest.mark.parametrize("ratio", [1.0, RATIOS[0], RATIOS[-1]])
def test_the_shift_is_found(offset, ratio):
    truth = spoken()
    given = [((a - offset) / ratio, (b - offset) / ratio) for a, b in truth if a > offset]
    shift = find_shift(activity(truth), given, 0.0, 60.0)
    assert shift.ratio == pytest.approx(ratio)
    assert shift.offset_s == pytest.approx(offset, abs=0.05)
    assert shift(given[5][0]) == pytest.approx(truth[[t[0] > offset for t in truth].index(True) + 5][0], abs=0.05)
    assert shift.score > 0.9


def test_no_further_than_allowed_and_on_the_clock_of_the_pictures():
    truth = spoken()
    given = [(a - 20, b - 20) for a, b in truth if a > 20]
    assert abs(find_shift(activity(truth), given, 0.0, 5.0).offset_s) <= 5.0
    assert find_shift(activity(truth), given, 1.5, 60.0).offset_s == pytest.approx(21.5, abs=0.05)


def test_missing_and_false_subtitles_do_not_matter():
    truth = spoken()
    given = [(a + 4, b + 4) for a, b in truth[::2]] + [(a + 9.7, b + 9.7) for a, b in truth[5::9]]
    assert find_shift(activity(truth), given, 0.0, 60.0).offset_s == pytest.approx(-4, abs=0.1)


class Tone:
    """A sound that is read at once."""

    path, start_s = "tone.wav", 0.0

    def __init__(self, samples: np.ndarray):
        self.samples = samples

    def read(self) -> np.ndarray:
        return self.samples


def test_what_is_loud_is_active():
    rng = np.random.default_rng(0)
    samples = 0.001 * rng.standard_normal(32000)
    samples[8000:16000] += 0.3 * np.sin(np.arange(8000) / 5)
    found = sound_activity(Tone(samples))
    assert found[50:100].all()
    assert not found[:50].any()
    assert not found[100:].any()


@pytest.mark.parametrize("samples", [np.zeros(16000), 0.1 * np.random.default_rng(0).standard_normal(16000)])
def test_sound_that_says_nothing(samples):
    with pytest.raises(InputError, match="equally loud"):
        sound_activity(Tone(samples))
