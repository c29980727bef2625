import hashlib
import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.data.rows import Row, Rows
from tasks.core.engine.run import hash_rows


def some_rows(n: int) -> list[Row]:
    """Rows of every kind: with and without labels, times, splits, further columns; not only ASCII."""
    return [
        Row(
            f"/videos/ü {i}.mp4" if i % 5 == 0 else f"/videos/{i}.mp4",
            None if i % 3 == 0 else f"class {i % 7}",
            None if i % 2 else i / 8,
            None if i % 4 else i / 8 + 1,
            ("train", "val", None)[i % 3],
            {"subject": f"S{i % 11}"} if i % 2 else {"empty": "", "odd": "\udcff\x00"},
            f"sentence {i}, ü" if i % 4 == 1 else None,
            f"/subtitles/{i // 9}.srt" if i % 7 == 2 else None,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("n", [0, 1, 100, 20_000])
def test_rows_come_back_as_they_were(n):
    given = some_rows(n)
    rows = Rows.of(iter(given))
    assert len(rows) == n
    assert list(rows) == given == [rows[i] for i in range(n)]
    assert rows == given
    assert rows[:] == given
    assert list(rows.values("label")) == [row.label for row in given]
    assert list(rows.values("text")) == [row.text for row in given]
    assert list(rows.values("subtitles")) == [row.subtitles for row in given]
    assert rows.captioned == (n > 1)
    assert list(rows.values("subject")) == [row.extra.get("subject") for row in given]
    assert Rows.of(rows) is rows


def test_absent_columns():
    rows = Rows.of([Row("/a.mp4"), Row("/b.mp4")])
    assert list(rows) == [Row("/a.mp4"), Row("/b.mp4")]
    assert list(rows.values("start_s")) == list(rows.values("text")) == list(rows.values("anything")) == [None, None]
    assert not rows.captioned
    assert {name for name in rows._columns.arrays() if "text" in name or "subtitles" in name} == set()


def test_a_column_that_begins_late():
    given = [*(Row(f"/{i}.mp4") for i in range(9000)), Row("/z.mp4", "run", extra={"note": "n"}), Row("/last.mp4")]
    rows = Rows.of(given)
    assert rows == given
    assert rows[9000] == given[9000]


def test_lists_can_be_cut_and_joined_like_lists():
    given = some_rows(30_000)
    rows = Rows.of(given)
    for cut in (slice(3, 9), slice(None, None, 1000), slice(-5, None), slice(20, 3, -4), slice(40_000, None)):
        assert list(rows[cut]) == given[cut]
    assert rows[-1] == given[-1]
    assert list(rows[::7][10:100][::-1]) == given[::7][10:100][::-1]
    chosen = np.random.default_rng(0).permutation(30_000)[:500]
    assert list(rows.at(chosen)) == [given[i] for i in chosen]
    assert list(rows.at(np.array([row.split == "val" for row in given]))) == [row for row in given if row.split == "val"]
    assert list(Rows.joined([rows[:3], rows[8:9], Rows.of([])])) == given[:3] + given[8:9]
    assert len(Rows.joined([])) == 0
    with pytest.raises(IndexError):
        rows[30_000]
    assert rows != given[:-1]
    assert rows != [*given[:-1], Row("/other.mp4")]


def test_hash_is_that_of_earlier_versions():
    """A run that began before goes on: the hash is of name, label and times of every row."""
    rows = [Row("/a/1.mp4", "run", 0.5, 2.0, "train"), Row("/b/ü 2.mp4", extra={"x": "1"}), Row("/c/frames/", None, None, 3.0)]
    assert hash_rows(rows) == hash_rows(Rows.of(rows)) == "f12f205f72def29a"
    assert hash_rows(rows[:2]) != hash_rows(rows)
    assert (
        hash_rows([Row("/x.mp4", text="said"), *rows][1:]) == hash_rows(Rows.of([Row("/x.mp4", text="said"), *rows])[1:]) == hash_rows(rows)
    )


def test_hash_is_of_text_and_subtitles(tmp_path):
    file = tmp_path / "a.srt"
    file.write_text("one")
    plain, copy = Row("/a.mp4", "run"), tmp_path / "moved" / "b.srt"
    copy.parent.mkdir()
    copy.write_text("one")
    kinds = [
        [plain],
        [replace(plain, text="said")],
        [replace(plain, text="said ")],
        [replace(plain, subtitles=str(file))],
        [replace(plain, text="said", subtitles=str(file))],
        [replace(plain, text=f"said'\t{hashlib.sha256(b'one').hexdigest()[:16]}")],
        [replace(plain, subtitles=str(tmp_path / "missing.srt"))],
        [plain, replace(plain, text="said")],
        [replace(plain, text="said"), plain],
    ]
    hashes = [hash_rows(rows) for rows in kinds]
    assert len(set(hashes)) == len(kinds)
    assert [hash_rows(Rows.of(rows)) for rows in kinds] == hashes
    assert hash_rows([replace(plain, subtitles=str(copy))]) == hashes[3]
    file.write_text("two")
    assert hash_rows(kinds[3]) != hashes[3]
    assert hash_rows(kinds[1]) == hashes[1]


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_groups_are_the_videos_in_order_of_first_appearance(n):
    chosen = np.random.default_rng(0).integers(0, 700, n)
    given = [Row(f"/ü {video}.mp4", f"class {i}", float(i)) for i, video in enumerate(chosen)]
    expected: dict[str, list[Row]] = {}
    for row in given:
        expected.setdefault(row.path, []).append(row)
    groups = Rows.of(given).grouped()
    assert [(path, list(rows)) for path, rows in groups] == list(expected.items())
    assert len(groups) == len(expected)
    part = Rows.of(given)[1::3].grouped()
    assert sum(len(rows) for _, rows in part) == len(given[1::3])
    assert all(row.path == path for path, rows in part for row in rows)
    if n > 1:
        assert groups[-1] == groups[len(groups) - 1]
        assert [path for path, _ in groups[3:9:2]] == [path for path, _ in list(groups)[3:9:2]]
    with pytest.raises(IndexError):
        groups[len(groups)]


def test_groups_hold_two_numbers_per_row_and_travel():
    import pickle

    rows = Rows.of([Row(f"/{i % 1000}.mp4", text="x" * 50) for i in range(100_000)])
    groups = rows.grouped()
    assert sum(each.nbytes for each in (groups._order, groups._ends)) <= 8 * len(rows)
    again = pickle.loads(pickle.dumps(groups))
    assert [(path, len(own)) for path, own in again] == [(f"/{i}.mp4", 100) for i in range(1000)]


def measure(rows: Rows, answer) -> None:
    """In another process: what is seen of the rows, and the memory that only this process has, MiB."""
    with open("/proc/self/smaps_rollup") as file:
        private = sum(int(line.split()[1]) for line in file if line.startswith("Private"))
    answer.send((len(rows), rows[7], rows[-1], sum(1 for _ in rows.values("path")), private / 1024))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_another_process_maps_the_rows_instead_of_getting_a_copy():
    context = multiprocessing.get_context("spawn")
    given = [Row(f"/videos/{'long name ' * 40}{i}.mp4", f"class {i % 9}") for i in range(200_000)]
    private = []
    for rows in (Rows.of(given), Rows.of(given[:10])):
        here, there = context.Pipe()
        process = context.Process(target=measure, args=(rows, there))
        process.start()
        n, first, last, counted, mib = here.recv()
        process.join()
        assert (n, first, last, counted) == (len(rows), rows[7], rows[-1], len(rows))
        private.append(mib)
    assert private[0] < private[1] + 40  # the columns have 80


def test_small_lists_travel_by_value():
    import pickle

    rows = Rows.of(some_rows(50))
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_numbers_of_texts():
    rows = Rows.of([Row("/1", "b"), Row("/2"), Row("/3", "a"), Row("/4", "c"), Row("/5", "b")])
    numbers, names = rows.codes("label")
    assert (numbers.tolist(), names) == ([1, -1, 0, 2, 1], ["a", "b", "c"])
    numbers, names = rows[::-2].codes("label")
    assert (numbers.tolist(), names) == ([1, 0, 1], ["a", "b"])
    numbers, names = rows[1:4].codes("label")
    assert (numbers.tolist(), names) == ([-1, 0, 1], ["a", "c"])
    assert rows.codes("split")[0].tolist() == [-1] * 5
    assert rows.codes("split")[1] == Rows.of([]).codes("label")[1] == []
