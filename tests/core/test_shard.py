"""Shares of a list: complete, disjoint, even, the same everywhere."""

import random

import pytest

from tasks.core.errors import UsageError
from tasks.core.shard import Shard, chosen, parse


@pytest.mark.parametrize(("items", "count"), [(16, 4), (7, 3), (2, 5), (1, 1)])
def test_shares_are_disjoint_complete_and_even(items, count):
    names = [f"day{i // 4}-cam{i % 4}" for i in range(items)]
    shares = [Shard(k, count).take(names, str) for k in range(1, count + 1)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for share in shares:
        assert share == [name for name in names if name in share]


def test_the_split_depends_on_the_keys_only():
    names = [f"v{i:02d}" for i in range(20)]
    shuffled = random.Random(0).sample(names, 20)
    for k in (1, 2, 3):
        assert set(Shard(k, 3).take(names, str)) == set(Shard(k, 3).take(shuffled, str))
    assert Shard(1, 3).take(names, str) != names[0::3]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_what_is_no_share(text):
    with pytest.raises(UsageError, match="K/N"):
        parse(text)


def test_given_wins_over_slurm_and_slurm_over_everything():
    job = {"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "2"}
    assert str(chosen("2/3", job)) == "2/3"
    assert str(chosen(None, job)) == "3/4"
    assert "SLURM" in chosen(None, job).why
    assert str(chosen(None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"})) == "4/4"
    assert str(chosen(None, {"SLURM_JOB_ID": "12"})) == "1/1"


@pytest.mark.parametrize(
    "job",
    [
        {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"},  # --array=1,5,9
        {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "2"},
    ],
)
def test_uneven_arrays_are_refused(job):
    with pytest.raises(UsageError, match="evenly"):
        chosen(None, job)
