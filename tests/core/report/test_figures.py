import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tasks.core.report.figures import bars, confusion, curves, points


def test_points_pick_one_value_and_let_a_resumed_run_overwrite():
    records = [
        {"step": 0, "loss": 2.0},
        {"step": 1, "loss": 1.5, "top1": 3},
        {"step": 2, "loss": "bad"},
        {"epoch": 1, "loss": 9.0},
        {"step": 1, "loss": 1.25},
        {"step": 3, "loss": float("inf")},
        {"step": 4, "done": True, "loss": None},
    ]
    xs, ys = points(records, "loss")
    assert xs == [0.0, 1.0, 3.0]
    assert ys[:2] == [2.0, 1.25]
    assert np.isnan(ys[2])
    assert points(records, "loss", x="epoch") == ([1.0], [9.0])
    assert points(records, "absent") == ([], [])
    assert points(records, "done", x="step") == ([], [])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: curves({"a": ([0, 1, 2], [3.0, float("nan"), 1.0]), "b <&>": ([0], [1.0]), "none": ([], [])}, "loss", log=True),
        lambda: curves({}, "loss"),
        lambda: confusion(np.array([[3, 1], [0, 0]]), ["a & b", "<c>"]),
        lambda: confusion(np.eye(70, dtype=int), [str(i) for i in range(70)]),
        lambda: bars({"scratch": 12.0, "TATS": [31.0, 35.5, 29.0]}, chance=14.3),
        lambda: bars({"one": 0.0}),
    ],
)
def test_drawings_are_well_formed_and_reproducible(draw):
    text = draw()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert text == draw()
    assert "<script" not in text


def test_confusion_needs_as_many_names_as_classes():
    with pytest.raises(ValueError, match="3 labels"):
        confusion(np.eye(2), ["a", "b", "c"])


def test_matplotlib_is_imported_when_drawing_and_its_window_systems_never():
    code = (
        "import sys; import tasks.core.report.figures as f, tasks.core.report.page, tasks.core.report.strips; "
        "assert not {'matplotlib', 'torch', 'PIL'} & set(sys.modules); f.bars({'a': 1.0}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
