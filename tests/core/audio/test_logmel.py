"""Log-mel spectrograms against slow float64 sums, and against torchaudio's."""

import math

import numpy as np
import pytest
import torch

from tasks.core.audio.config import VGGISH, LogMelConfig
from tasks.core.audio.logmel import LogMel, mel_filters, stack_patches, to_hertz, to_mel
from tasks.core.config import build
from tasks.core.errors import UsageError

LIBROSA = {
    "mel_scale": "slaney",
    "triangles": "hz",
    "norm": "slaney",
    "power": 2,
    "log": "db",
    "log_offset": 0.0,
    "f_min": 0,
    "f_max": 8000,
}
SETTINGS = {
    "vggish": VGGISH,
    "librosa": LogMelConfig(**LIBROSA, n_mels=40, n_fft=1024, window_s=0.064),
    "whisper": LogMelConfig(**{**LIBROSA, "log": "log10"}, n_mels=80, n_fft=400),
    "htk in hertz": LogMelConfig(triangles="hz", sample_rate=22_050, f_max=11_025, n_mels=30, hop_s=0.0125, power=2),
}


def sound(seconds=0.3, rate=16_000, seed=0):
    t = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    return (0.4 * np.sin(2 * np.pi * (300 + 2000 * t) * t) + 0.02 * rng.normal(size=len(t))).astype(np.float32)


def mel_of(f, scale):
    if scale == "htk":
        return 2595 * math.log10(1 + f / 700)
    return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)


def hertz_of(m, scale):
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    return 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)


def slow_filters(config):
    """Triangle by triangle, bin by bin."""
    low, high = mel_of(config.f_min, config.mel_scale), mel_of(config.f_max, config.mel_scale)
    corners = [low + (high - low) * i / (config.n_mels + 1) for i in range(config.n_mels + 2)]
    hertz = [hertz_of(m, config.mel_scale) for m in corners]
    out = np.zeros((config.points // 2 + 1, config.n_mels))
    for k in range(len(out)):
        f = k * config.sample_rate / config.points
        x, edges = (mel_of(f, config.mel_scale), corners) if config.triangles == "mel" else (f, hertz)
        for j in range(config.n_mels):
            a, b, c = edges[j : j + 3]
            height = max(0.0, min((x - a) / (b - a), (c - x) / (c - b)))
            out[k, j] = height * (2 / (hertz[j + 2] - hertz[j]) if config.norm == "slaney" else 1)
    return out


def slow(x, config):
    """The definition, in float64: a Fourier sum per bin, a logarithm per filter."""
    n, hop, points = config.window, config.hop, config.points
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    basis = np.exp(-2j * np.pi * np.arange(points // 2 + 1)[:, None] * np.arange(n) / points)
    rows = []
    for begin in range(0, len(x) - n + 1, hop):
        spectrum = np.abs(basis @ (window * x[begin : begin + n].astype(np.float64))) ** config.power
        mel = np.maximum(spectrum @ slow_filters_of(config) + config.log_offset, config.log_floor)
        rows.append({"ln": np.log(mel), "log10": np.log10(mel), "db": 10 * np.log10(mel)}[config.log])
    return np.asarray(rows)


_kept = {}


def slow_filters_of(config):
    if config not in _kept:
        _kept[config] = slow_filters(config)
    return _kept[config]


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_the_definition(name):
    config = SETTINGS[name]
    x = sound(rate=config.sample_rate)
    found = LogMel(config)(torch.as_tensor(x))
    assert found.dtype == torch.float32
    assert mel_filters(config).numpy() == pytest.approx(slow_filters_of(config), abs=1e-12)
    assert found.numpy() == pytest.approx(slow(x, config), abs=1e-3, rel=1e-4)
    exact = LogMel(config).double()
    exact.window, exact.filters = torch.hann_window(config.window, dtype=torch.float64), mel_filters(config)
    assert exact(torch.as_tensor(x).double()).numpy() == pytest.approx(slow(x, config), abs=1e-9)


def test_the_defaults_are_those_of_vggish():
    assert (VGGISH.window, VGGISH.hop, VGGISH.points, VGGISH.n_mels) == (400, 160, 512, 64)
    assert (VGGISH.stride_s, VGGISH.span_s) == (0.01, 0.025)
    silence = LogMel()(torch.zeros(16_000))
    assert silence.shape == (98, 64)
    assert silence.numpy() == pytest.approx(np.full((98, 64), np.log(0.01)), abs=1e-6)


def test_silence_has_a_floor():
    config = LogMelConfig(log_offset=0, log_floor=1e-5, log="log10")
    assert LogMel(config)(torch.zeros(400)).numpy() == pytest.approx(np.full((1, 64), -5.0), abs=1e-6)


def test_a_tone_is_loudest_in_its_own_filter():
    config = VGGISH
    for hertz in (300.0, 1000.0, 4000.0):
        t = torch.arange(16_000) / 16_000
        loudest = LogMel(config)(torch.sin(2 * torch.pi * hertz * t)).mean(0).argmax()
        ends = to_mel(torch.tensor([config.f_min, config.f_max, hertz]), config.mel_scale)
        place = float((ends[2] - ends[0]) / (ends[1] - ends[0]) * (config.n_mels + 1)) - 1
        assert abs(int(loudest) - place) <= 1


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_and_back(scale):
    hertz = torch.linspace(0, 20_000, 500, dtype=torch.float64)
    assert to_hertz(to_mel(hertz, scale), scale).numpy() == pytest.approx(hertz.numpy(), abs=1e-8)
    assert float(to_mel(torch.tensor(1000.0, dtype=torch.float64), scale)) == pytest.approx(999.9855 if scale == "htk" else 15.0, abs=1e-3)


def test_a_batch_is_its_members():
    batch = torch.as_tensor(np.stack([sound(seed=k) for k in range(6)]).reshape(2, 3, -1))
    module = LogMel()
    found = module(batch)
    assert found.shape == (2, 3, module.frames(batch.shape[-1]), 64)
    for i in range(2):
        for j in range(3):
            assert found[i, j].numpy() == pytest.approx(module(batch[i, j]).numpy(), abs=1e-5)


@pytest.mark.parametrize("size", [100, 160, 401, 7_000, 99_999])
def test_a_stream_is_the_whole(size):
    x = sound(1.0)
    module = LogMel()
    blocks = [x[k : k + size] for k in range(0, len(x), size)]
    found = torch.cat(list(module.stream(blocks)))
    assert found.shape == (module.frames(len(x)), 64)
    assert found.numpy() == pytest.approx(module(torch.as_tensor(x)).numpy(), abs=1e-6)


def test_a_hop_longer_than_the_window():
    config = LogMelConfig(hop_s=0.05)
    x = sound(1.0)
    module = LogMel(config)
    found = torch.cat(list(module.stream([x[k : k + 700] for k in range(0, len(x), 700)])))
    assert found.numpy() == pytest.approx(slow(x, config), abs=1e-3)


def test_too_little_sound_gives_no_frames():
    module = LogMel()
    assert module(torch.zeros(2, 399)).shape == (2, 0, 64)
    assert module(torch.zeros(400)).shape == (1, 64)
    assert list(module.stream([np.zeros(399, np.float32)])) == []


def test_patches():
    frames = torch.arange(20.0).reshape(10, 2)
    patches = stack_patches(frames, 4, 3)
    assert patches.shape == (3, 4, 2)
    assert torch.equal(patches[1], frames[3:7])
    assert stack_patches(frames, 11, 1).shape == (0, 11, 2)
    assert stack_patches(frames, 10, 5).shape == (1, 10, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"f_max": 9000}, "above half the sample rate 16000"),
        ({"f_min": 8000, "f_max": 7000}, "f_min 8000 is not below f_max 7000"),
        ({"n_fft": 256}, "less than the window of 400 samples"),
        ({"hop_s": 1e-6}, "shorter than a sample"),
        ({"mel_scale": "bark"}, "mel_scale"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(UsageError, match=message):
        build(LogMelConfig, settings)


@pytest.mark.parametrize(("scale", "norm", "power"), [("htk", None, 2), ("slaney", "slaney", 2), ("htk", None, 1)])
def test_equals_torchaudio(scale, norm, power):
    transforms = pytest.importorskip("torchaudio").transforms
    config = LogMelConfig(
        mel_scale=scale, norm=norm or "none", power=power, triangles="hz", n_mels=40, f_min=50, f_max=8000, n_fft=400, log_offset=1e-3
    )
    theirs = transforms.MelSpectrogram(
        16_000, n_fft=400, hop_length=160, f_min=50, f_max=8000, n_mels=40, power=power, center=False, norm=norm, mel_scale=scale
    )
    x = torch.as_tensor(sound(1.0))
    assert LogMel(config)(x).numpy() == pytest.approx((theirs(x).T + 1e-3).log().numpy(), abs=1e-3)
