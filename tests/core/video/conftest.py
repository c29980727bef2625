import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers `painted` and `readback`
os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder is talkative

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Indexes of test videos stay out of the user's cache."""
    before = os.environ.get("VID_CACHE")
    os.environ["VID_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["VID_CACHE"]
    else:
        os.environ["VID_CACHE"] = before


@pytest.fixture(scope="session")
def real_data():
    """The folder of real videos beside the checkout."""
    if not REAL.is_dir():
        pytest.skip("needs ../shared/data")
    return REAL
