import numpy as np
import pytest
import torch
from localization_toys import config

from tasks.core.data.features import FeatureFolder, write_features
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import UsageError
from tasks.localization.finetune import learn_scales
from tasks.localization.frontend import Columns, Frontend, Standardized
from tasks.localization.method import EventTraining
from tasks.localization.model import EventLocalizer


def test_features_have_mean_0_and_deviation_1_over_the_training_set(tmp_path):
    draws, videos = np.random.default_rng(0), {}
    for name in ("a", "b", "c"):
        videos[name] = (draws.standard_normal((draws.integers(5, 20), 12)) * np.arange(12) + 3).astype(np.float32)
        write_features(tmp_path, name, videos[name], Grid(0.2, 0.2), {"reference": "toy"})
    method = EventTraining(config({"input": "visual", "standardize": True}), {"visual": 12}, 2)
    rows = Rows.of([Row("/a.mp4", "x", 0, 1), Row("/a.mp4", "y", 1, 2), Row("/b.mp4", "x", 0, 1)])  # one counts once, c is not of the set
    learn_scales(method, {"visual": FeatureFolder(tmp_path)}, rows)
    scale = method.localizer.frontend.scales["visual"]
    both = torch.from_numpy(np.concatenate([videos["a"], videos["b"]]))
    found = scale(both)
    assert found.mean(0).numpy() == pytest.approx(np.zeros(12), abs=1e-5)
    assert found.std(0, correction=0)[1:].numpy() == pytest.approx(np.ones(11), abs=1e-4)
    assert torch.equal(found[:, 0], torch.zeros(len(both)))  # never changes


def test_the_scale_is_part_of_the_model():
    scale = Standardized(2)
    scale.learn(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 0.0]))
    other = Standardized(2)
    other.load_state_dict(scale.state_dict())
    assert other(torch.tensor([[5.0, 3.0]])).tolist() == [[1.0, 1.0]]


def test_columns_that_change_places_give_the_same():
    torch.manual_seed(0)
    columns = Columns(12, 3, 8, 0.0).eval()
    x, mask = torch.randn(2, 20, 12), torch.ones(2, 20, dtype=torch.bool)
    parts = x.chunk(3, -1)
    turned = torch.cat([parts[2], parts[0], parts[1]], -1)
    assert torch.allclose(columns(x, mask), columns(turned, mask))
    assert columns(x, mask).shape == (2, 20, 8)


def test_what_one_column_shows_is_seen_beside_any_other():
    """The highest value of each channel: what is strong in one column stays where another is added."""
    torch.manual_seed(0)
    columns = Columns(8, 2, 16, 0.0).eval()
    a, b = torch.randn(1, 12, 4), torch.randn(1, 12, 4)
    mask = torch.ones(1, 12, dtype=torch.bool)
    alone = [columns(torch.cat([each, each], -1), mask) for each in (a, b)]
    assert torch.allclose(columns(torch.cat([a, b], -1), mask), torch.maximum(*alone))


def test_padding_changes_nothing():
    torch.manual_seed(0)
    settings = config({"columns": 2, "standardize": True}).model
    front = Frontend(settings, {"visual": 12, "audio": 10}).eval()
    for scale in front.scales.values():
        scale.learn(torch.ones_like(scale.mean), 2 * torch.ones_like(scale.mean))
    streams = {"visual": torch.randn(1, 30, 12), "audio": torch.randn(1, 30, 10)}
    mask = torch.arange(30)[None] < 21
    masked = {name: x * mask[..., None] for name, x in streams.items()}
    padded = front(masked, mask)
    short = front({name: x[:, :21] for name, x in masked.items()}, mask[:, :21])
    for name in streams:
        assert torch.allclose(padded[name][:, :21], short[name], atol=1e-6)
        assert not padded[name][:, 21:].any()


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match=r"do not divide by model\.columns 5"):
        EventLocalizer(config({"columns": 5}).model, {"visual": 12, "audio": 10}, 2)
