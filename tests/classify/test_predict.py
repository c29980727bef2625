"""Three lines of Python give what the commands give."""

import csv

import pytest
import torch
from test_classify import SMALL, chain, vid  # noqa: F401 (a fixture)

from tasks.core.errors import InputError, UsageError


def test_predict_gives_the_probabilities_of_the_command(chain, tmp_path):  # noqa: F811
    from tasks.classify.predict import load

    folder, manifest, _, _ = chain
    words = ("--clips", 2, "--crops", 3, "--scores", tmp_path / "scores.csv")
    vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words, "--workers", 0, "--json")
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    model = load(folder / "ft")
    assert not model.training
    for row in rows[:3]:
        found = model.predict(row["path"], clips=2, crops=3)
        assert found == pytest.approx({label: float(row[label]) for label in model.labels}, abs=2e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    with pytest.raises(InputError, match="nothing"):
        model.predict(tmp_path / "nothing.mp4")
    with pytest.raises(UsageError, match="not a classifier"):
        load(folder / "pre")


def test_features_are_mean_tokens_over_views(chain):  # noqa: F811
    from tasks.core.clips.prepare import read_views
    from tasks.core.towers import load_encoder

    folder, _, _, _ = chain
    path = next((folder / "videos").rglob("*.mp4"), None) or next((folder / "videos").rglob("*.avi"))
    model = load_encoder(folder / "pre")
    views = read_views(path, model.preprocessing, clips=2, crops=3)
    assert views.shape == (6, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.features(path, clips=2), model(views)["tokens"].mean((0, 1)), atol=1e-6)
