import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the helper `sounds`


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Indexes of test files stay out of the user's cache."""
    before = os.environ.get("VID_CACHE")
    os.environ["VID_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["VID_CACHE"]
    else:
        os.environ["VID_CACHE"] = before


@pytest.fixture(autouse=True)
def looks_itself(monkeypatch):
    """Files are looked at in this process; `test_guard.py` says otherwise."""
    monkeypatch.setattr("tasks.core.video.guard._own_risk", True)
