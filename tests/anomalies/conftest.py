"""Toy footage and its pseudo-anomalies."""

from pathlib import Path

import anomaly_toys
import pytest


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return anomaly_toys.footage(tmp_path_factory.mktemp("toys") / "videos")


@pytest.fixture(scope="module")
def twins(videos, tmp_path_factory) -> Path:
    return anomaly_toys.pseudo(tmp_path_factory.mktemp("toys") / "pseudo", videos)
