"""Memory that a step frees."""

import ctypes
import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from tasks.core.engine.accelerator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(8):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str, **variables: str) -> int:
    """Page faults of five tensors of 64 MiB after three others."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments], env={**plain, **variables}, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="of glibc")
def test_memory_of_a_step_is_not_faulted_in_again():
    pages = 5 * 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert faults("keep") < 0.1 * pages
    assert faults("plain") > 10 * faults("keep")
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="1048576") > 10 * faults("keep")  # the user's own setting
