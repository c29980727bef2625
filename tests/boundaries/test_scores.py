import csv
import dataclasses
import json

import numpy as np
import pytest
from detection_helpers import detection

from tasks.boundaries.result import Scores
from tasks.boundaries.scores import read_scores, saved_in, write_scores
from tasks.core.errors import InputError


def written(folder, found=None):
    path = folder / "clip.boundaries.scores.csv"
    write_scores(path, found or detection())
    return path


def test_kinds_come_back(tmp_path):
    scores = Scores(np.arange(3) / 25, np.arange(3), np.array([0.5, 0.75, 1], np.float32), np.array([2, 0, 1], np.uint8))
    path = written(tmp_path, detection(scores=scores))
    assert path.read_text().splitlines()[2].endswith(",event")
    assert read_scores(path).scores.kind.tolist() == [2, 0, 1]
    path.write_text(path.read_text().replace(",event", ",evnt"))
    with pytest.raises(InputError, match="line 3"):
        read_scores(path)


def test_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    n = 5000
    score = np.concatenate([rng.random(n - 4), [0, 1, 1e-38, np.nextafter(np.float32(1), np.float32(0))]]).astype(np.float32)
    scores = Scores(0.04 + np.cumsum(rng.random(n)), np.arange(n) * 3 + 1, score)
    found = detection(
        n_frames=3 * n + 1,
        fps=30000 / 1001,
        scores=scores,
        path='/vidéos/"a", =1\n\udcff.mp4',
        damage="ends, early",
        settings={"ü": [1, None]},
    )
    again = read_scores(written(tmp_path, found))
    assert again.boundaries == []
    for name in ("t", "frame", "score"):
        before, after = getattr(scores, name), getattr(again.scores, name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert again.scores.kind is None
    plain = {field.name for field in dataclasses.fields(found)} - {"scores", "boundaries"}
    assert {name: getattr(again, name) for name in plain} == {name: getattr(found, name) for name in plain}


def test_a_video_without_candidates(tmp_path):
    empty = Scores(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert len(read_scores(written(tmp_path, detection([], scores=empty))).scores) == 0


def test_the_table_below_the_first_line_is_plain_csv(tmp_path):
    with open(written(tmp_path), newline="") as file:
        assert file.readline().startswith("# {")
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert rows[40] == {"t": "1.6", "frame": "40", "score": "0.6"}
    assert rows[41] == {"t": "1.64", "frame": "41", "score": "0.1"}


@pytest.mark.parametrize(
    "change",
    [lambda text: text + "\n \n", lambda text: text.rstrip(), lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text],
)
def test_harmless_changes(tmp_path, change):
    path = written(tmp_path)
    path.write_bytes(change(path.read_text()).encode())
    assert len(read_scores(path).scores) == 100


def line(number, text):
    def change(lines):
        lines[number - 1] = text
        return lines

    return change


def known(**changes):
    def change(lines):
        values = json.loads(lines[0][1:]) | changes
        lines[0] = "# " + json.dumps({key: value for key, value in values.items() if value != "gone"})
        return lines

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (line(1, "t,frame,score"), "line 1: '# {...}'"),
        (line(1, '# {"version": 1'), "line 1: '# {...}'"),
        (line(1, "# [1]"), "line 1: '# {...}'"),
        (known(version=2), "line 1: scores of version 2, this program reads version 1"),
        (known(version="gone"), "line 1: scores of version None"),
        (known(fps="gone"), "line 1: 'fps' is missing"),
        (known(fps="fast"), "line 1: 'fps' is missing or of the wrong kind"),
        (known(n_frames=True), "line 1: 'n_frames'"),
        (known(settings=[]), "line 1: 'settings'"),
        (line(2, "t,score"), "line 2: 't,frame,score' expected"),
        (lambda lines: lines[:1], "line 2: 't,frame,score' expected"),
        (lambda lines: lines[:50], "line 50: 48 rows of scores, 100 expected"),
        (line(7, "0.16,4"), "line 7: a time"),
        (line(7, ""), "line 7: a time"),
        (line(7, "0.16,4,0.5,1"), "line 7: a time"),
        (line(7, "0.16,4.5,0.5"), "line 7: a time"),
        (line(7, "nan,4,0.5"), "line 7: a time"),
        (line(7, "0.16,4,nan"), "line 7: a time"),
        (line(7, "0.16,4,1.5"), "line 7: a time"),
        (line(7, "0.16,100,0.5"), "line 7: a time"),
        (line(7, "0.16,99999999999999999999,0.5"), "line 7: a time"),
        (line(7, "0.01,4,0.5"), "line 7: time or frame does not increase"),
        (line(7, "0.16,3,0.5"), "line 7: time or frame does not increase"),
    ],
)
def test_damage_names_file_and_line(tmp_path, change, where):
    path = written(tmp_path)
    path.write_text("\n".join(change(path.read_text().split("\n"))))
    with pytest.raises(InputError) as caught:
        read_scores(path)
    assert caught.value.message.startswith(f"{path}, {where}")
    assert "\n" not in caught.value.message
    assert "--save-scores" in caught.value.hint


def test_what_is_no_file_of_scores(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_scores(tmp_path / "absent.scores.csv")
    with pytest.raises(InputError, match="directory"):
        read_scores(tmp_path)
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text"):
        read_scores(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(InputError, match="line 1"):
        read_scores(tmp_path / "b")


def test_files_of_a_folder_by_their_present_and_former_names(tmp_path):
    for name in ("b.scores.csv", "a.boundaries.scores.csv", "b.boundaries.scores.csv", "c.scores.csv", "a.boundaries.csv", "d.csv"):
        (tmp_path / name).write_text("")
    found = {stem: file.name for stem, file in saved_in(tmp_path)}
    assert found == {"a": "a.boundaries.scores.csv", "b": "b.boundaries.scores.csv", "c": "c.scores.csv"}
    assert saved_in(tmp_path / "d.csv") == [("d.csv", tmp_path / "d.csv")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no scores in this folder"):
        saved_in(tmp_path / "empty")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_scores(path, detection(settings={"threshold": object()}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
