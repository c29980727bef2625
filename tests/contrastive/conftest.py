"""Videos and their flow, for the tests that call `vid`."""

from pathlib import Path

import pytest

from tasks.core.data.synthetic import render_motion_set
from vidcli.app import main


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Ten videos of moving shapes, 24 frames at 12 frames per second."""
    return render_motion_set(tmp_path_factory.mktemp("shapes"), 1, 0, size=32, splits={"train": 1.0})


@pytest.fixture(scope="session")
def flow(videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "flow"
    assert main(["data", "flow", str(videos), "-o", str(folder), "--method", "dis", "--short-side", "32", "--workers", "1", "-q"]) == 0
    return folder
