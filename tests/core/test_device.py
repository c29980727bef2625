"""Devices by name."""

import pytest
import torch

from tasks.core.device import usable_device
from tasks.core.errors import UsageError


def test_names_of_devices():
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["foo", "cuda:99", "gpu", "", "meta", "cpu:x"])
def test_what_nothing_can_be_computed_on_is_refused(name):
    with pytest.raises(UsageError, match=f"cannot use device '{name}'"):
        usable_device(name)
