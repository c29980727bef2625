"""Batches without a readable video."""

import pytest

from tasks.core.engine.readable import LastReadableBatch
from tasks.core.engine.run import last_logged
from tasks.core.errors import InputError

EMPTY, GOOD = ({"main": "flow", "flow": found} for found in ([], [1]))


class Loader:
    """Batches of which only number `good` holds something; says whether they are still being loaded."""

    def __init__(self, good: int = -1):
        self.good, self.open = good, False

    def __call__(self, start):
        self.open = True
        try:
            number = start
            while True:
                yield {"main": "flow", "flow": [number]} if number == self.good else EMPTY
                number += 1
        finally:
            self.open = False


def test_alone_a_batch_of_nothing_is_passed_over():
    spares = LastReadableBatch(Loader(), alone=True)
    assert spares.usable(EMPTY) is None
    with pytest.raises(InputError, match="none of the videos"):
        spares.require_any()
    assert spares.usable(GOOD) is GOOD
    spares.require_any()
    for _ in range(99):
        assert spares.usable(EMPTY) is None
    with pytest.raises(InputError, match="last 100 batches"):
        spares.usable(EMPTY)


def test_among_others_the_last_good_batch_or_the_first_of_the_run_stands_in():
    loader = Loader(good=3)
    spares = LastReadableBatch(loader, alone=False)
    assert spares.usable(EMPTY) == {"main": "flow", "flow": [3]}
    assert not loader.open  # its processes are given back
    spares.usable(GOOD)
    assert spares.usable(EMPTY) is GOOD
    with pytest.raises(InputError, match="none of the videos"):
        LastReadableBatch(Loader(), alone=False).usable(EMPTY)


def test_what_was_last_logged(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"kind": "train", "step": 1, "loss": 2.0}\n{"kind": "eval", "step": 1, "loss": 9.0}\n{"kind": "train", "step": 2}\n')
    assert last_logged(file) == {"kind": "train", "step": 2, "loss": 2.0}
