"""One of N equal shares of a list of inputs, for commands that are started N times (a SLURM array)."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter

Item = TypeVar("Item")
ID, COUNT, FIRST, STEP = (f"SLURM_ARRAY_TASK_{part}" for part in ("ID", "COUNT", "MIN", "STEP"))


@dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, counted from 1.

    Attributes:
        why: who chose it, for the person at the terminal; empty where there is only one.
    """

    number: int = 1
    count: int = 1
    why: str = ""

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def own(self, videos: Sequence[Item], key: Callable[[Item], str], reporter: Reporter) -> list[Item]:
        """`take`, and a line that says so where there are several shares."""
        found = self.take(videos, key)
        if self.count > 1:
            reporter.info(f"shard {self} ({self.why}): {len(found)} of {len(videos)} videos")
        return found

    def take(self, items: Sequence[Item], key: Callable[[Item], str]) -> list[Item]:
        """The items of this share, in their order.

        Items are dealt out one by one in the order of a hash of their keys: shares differ by one item at most, long neighbours
        (`day1-cam1`, `day1-cam2`) land in different shares, and every machine that sees the same keys comes to the same split.

        Args:
            key: unique among the items, and the same on every machine.
        """
        order = sorted(range(len(items)), key=lambda i: hashlib.sha256(os.fsencode(key(items[i]))).digest())
        return [items[i] for i in sorted(order[self.number - 1 :: self.count])]


def parse(text: str) -> Shard:
    """The shard that `K/N` names, 1 <= K <= N; UsageError otherwise."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text}: not a share of a whole", "write K/N with K from 1 to N, for example 2/8")
    return Shard(int(found[1]), int(found[2]), "--shard")


def chosen(given: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard given as `K/N`, else the place of this job in its SLURM array, else everything.

    A job of `--array=0-14:2` has an ID, the count of IDs, the least ID and their step; its place is (ID - least) / step.

    Raises:
        UsageError: not a share, or the IDs of the array are not evenly spaced.
    """
    if given is not None:
        return parse(given)
    try:
        own, count = int(environment[ID]), int(environment[COUNT])
        first, step = int(environment.get(FIRST, "0")), max(1, int(environment.get(STEP, "1")))
    except (KeyError, ValueError):
        return Shard()
    place, rest = divmod(own - first, step)
    if rest or not 0 <= place < count:
        raise UsageError(
            f"job {own} of a SLURM array of {count} that begins at {first}: its IDs are not evenly spaced", "say which part: --shard K/N"
        )
    return Shard(place + 1, count, "SLURM array")
