from collections import Counter
from itertools import pairwise

import pytest

from tasks.core.data.fraction import balance_classes, draw_fraction, fraction_text
from tasks.core.data.rows import Row, Rows

ROWS = Rows.of([Row(f"/v/{i}.mp4", label) for i, label in enumerate("aaaaaaaaaabbbbbbbbbbbbbbbbbbbbcdd" + 10 * "x")])
ROWS = Rows.of([Row(row.path, None if row.label == "x" else row.label) for row in ROWS])


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.1, {"a": 1, "b": 2, "c": 1, "d": 1, None: 1}),
        (0.25, {"a": 3, "b": 5, "c": 1, "d": 1, None: 3}),
        (0.5, {"a": 5, "b": 10, "c": 1, "d": 1, None: 5}),
        (0.001, {"a": 1, "b": 1, "c": 1, "d": 1, None: 1}),
    ],
)
def test_every_class_gives_its_share_and_at_least_one(fraction, expected):
    assert Counter(row.label for row in draw_fraction(ROWS, fraction, 0)) == expected


def test_the_draw_is_seeded_and_keeps_the_order():
    paths = [[row.path for row in draw_fraction(ROWS, 0.5, seed)] for seed in (0, 0, 1)]
    assert paths[0] == paths[1] != paths[2]
    place = {row.path: number for number, row in enumerate(ROWS)}
    assert sorted(paths[0], key=place.get) == paths[0]


def test_a_smaller_share_is_part_of_a_larger_one():
    shares = [{row.path for row in draw_fraction(ROWS, fraction, 3)} for fraction in (0.1, 0.2, 0.5, 1.0)]
    assert all(small < large for small, large in pairwise(shares))
    assert draw_fraction(ROWS, 1.0, 0) is ROWS


def test_classes_do_not_share_a_draw():
    """Two classes of the same size: the places that are kept differ."""
    rows = Rows.of([Row(f"{label}/{i}", label) for label in "ab" for i in range(40)])
    kept = {label: {row.path[2:] for row in draw_fraction(rows, 0.5, 0) if row.label == label} for label in "ab"}
    assert kept["a"] != kept["b"]


def test_what_is_said():
    assert fraction_text(0.1, 4) == "10 % of every class, drawn with seed 4"
    assert fraction_text(1.0, 4) == ""


def test_balancing_repeats_the_rows_of_rarer_classes_evenly():
    rows = Rows.of([Row(f"{label}{i}", label) for label, count in (("a", 7), ("b", 3), ("c", 1)) for i in range(count)])
    found = [row.path for row in balance_classes(rows, 0)]
    assert Counter(path[0] for path in found) == {"a": 7, "b": 7, "c": 7}
    assert sorted(Counter(path for path in found if path[0] == "b").values()) == [2, 2, 3]
    assert found == sorted(found)  # the order of the list
    assert [row.path for row in balance_classes(rows, 0)] == found
    twice = [Counter(row.path for row in balance_classes(rows, seed) if row.label == "b") for seed in range(8)]
    assert len({count.most_common(1)[0][0] for count in twice}) > 1


def test_equal_classes_and_no_classes_are_left_alone():
    for labels in ("aabb", [None] * 4):
        rows = Rows.of([Row(str(i), label) for i, label in enumerate(labels)])
        assert balance_classes(rows, 0) is rows
