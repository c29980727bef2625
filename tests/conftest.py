"""Makes the helpers that lie beside the tests importable, and finds the real videos."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder is talkative
for folder in (
    ".",
    "../scripts",
    "core/engine",
    "core/video",
    "core/clips",
    "core/audio",
    "core/flow",
    "core/nn",
    "core/report",
    "core/towers",
    "masked",
    "classify",
    "boundaries",
    "contrastive",
    "anomalies",
    "pseudo",
    "predictive",
    "localization",
    "prompting",
    "alignment",
    "vidcli",
):
    sys.path.insert(0, str(HERE / folder))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Indexes of test files stay out of the user's cache."""
    before = os.environ.get("VID_CACHE")
    os.environ["VID_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["VID_CACHE"]
    else:
        os.environ["VID_CACHE"] = before


@pytest.fixture
def float64() -> Iterator[None]:
    """Makes weights and random numbers float64, so that rounding, which differs between CPUs, stays far below what a test compares."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real videos; skips where it is absent."""
    folder = HERE.parent.parent / "shared" / "data"
    if not folder.exists():
        pytest.skip("no real videos beside this checkout")
    return folder
