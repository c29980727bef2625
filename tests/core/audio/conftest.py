import pytest


@pytest.fixture(autouse=True)
def looks_itself(monkeypatch):
    """Files are looked at in this process; `test_guard.py` says otherwise."""
    monkeypatch.setattr("tasks.core.video.guard._own_risk", True)
