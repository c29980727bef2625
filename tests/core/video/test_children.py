"""Processes that may be killed: what hangs or crashes costs one item."""

import errno
import os
import signal
import threading
from functools import partial

import pytest

from tasks.core.errors import UsageError
from tasks.core.reporter import Quiet
from tasks.core.video import children


def misbehave(item, note):
    """Stands for a decoder."""
    note(f"began {item}")
    if "crash" in item:
        os._exit(9)
    if "hang" in item:
        threading.Event().wait()
    if "raise" in item:
        raise RuntimeError("broken")
    if "usage" in item:
        raise UsageError("no", "mend it")
    if "signal" in item:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(os.getpid(), number)
    if "full" in item:
        raise OSError(errno.ENOSPC, "No space left on device", "out.json")
    return item.upper()


def counted(item, advance):
    """The same as work of `each`, which takes numbers of frames."""
    return misbehave(item, lambda what: advance(1))


def failed(item, reason):
    return f"{item}: {reason}"


def test_what_hangs_or_crashes_costs_one_item():
    items = ["a", "crash", "hang", "b", "raise", "crash again", "c"]
    found = list(children.run_children(misbehave, items, 2, lambda note: 60.0 if note is None else 3.0))
    ends = {items[number]: (kind, what) for number, kind, what in found if kind != children.NOTE}
    assert ends == {
        **{name: (children.DONE, name.upper()) for name in "abc"},
        **dict.fromkeys(("crash", "crash again"), (children.DIED, "its decoder crashed (exit 9)")),
        "hang": (children.DIED, "no answer within 3 s"),
        "raise": (children.DIED, "cannot be read (RuntimeError: broken)"),
    }
    assert {what for _, kind, what in found if kind == children.NOTE} == {f"began {item}" for item in items}


def test_signals_to_all_processes_are_the_parents_to_act_upon():
    """A batch queue sends them to every process: the file in a child's hands is not to blame."""
    found = list(children.run_children(misbehave, ["signal"], 1, lambda note: 60.0))
    assert found[-1] == (0, children.DONE, "SIGNAL")


def test_a_note_changes_the_patience():
    found = list(children.run_children(misbehave, ["hang"], 1, lambda note: 60.0 if note is None else 0.5))
    assert found[-1] == (0, children.DIED, "no answer within 0.5 s")


@pytest.mark.parametrize(("item", "error"), [("usage", UsageError), ("full", OSError)])
def test_what_is_no_fault_of_the_item_ends_the_command(item, error):
    with pytest.raises(error):
        list(children.run_children(misbehave, [item], 1, lambda note: 30.0))


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_inputs(workers):
    work = partial(counted)
    items = [f"item {i}" for i in range(7)]
    assert list(children.each(work, items, workers, Quiet(), "working", "item", failed)) == [i.upper() for i in items]


def test_a_failure_has_its_place_in_the_order():
    assert list(children.each(counted, ["a", "crash", "b"], 2, Quiet(), "working", "item", failed)) == [
        "A",
        "crash: its decoder crashed (exit 9)",
        "B",
    ]
