import csv
from collections import Counter
from itertools import combinations as pairs

import numpy as np
import pytest

from tasks.core.data.manifest import read_manifest
from tasks.core.data.synthetic_captions import COLORS, MOTIONS, SHAPES, Combination, combinations, render_caption_set, render_scene
from tasks.core.errors import UsageError
from tasks.core.video.open import open_video

FEW = {"train": 5, "val": 3, "held": 2}


def lines(manifest):
    with open(manifest, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return render_caption_set(tmp_path_factory.mktemp("films"), 1, FEW, scenes=3, size=16, frames=4)


def test_a_fifth_is_held_out_and_every_pair_of_words_is_seen_elsewhere():
    seen, held = combinations(False), combinations(True)
    assert len(seen) + len(held) == len(COLORS) * len(SHAPES) * len(MOTIONS) == 180
    assert len(held) == 36
    assert not set(seen) & set(held)
    for first, second in pairs(("color", "shape", "motion"), 2):
        told = [{(getattr(each, first), getattr(each, second)) for each in part} for part in (seen, held)]
        assert told[1] <= told[0]


def test_sentences_and_labels_tell_what_is_shown(films):
    rows = lines(films)
    known = {True: {each.label for each in combinations(True)}, False: {each.label for each in combinations(False)}}
    for row in rows:
        assert row["label"] == f"{row['color']}_{row['shape']}_{row['motion']}"
        assert row["label"] in known[row["split"] == "held"]
        shown = Combination(row["color"], row["shape"], row["motion"])
        assert row["text"] in [shown.sentence(form) for form in range(3)]
        assert row["split"] == "train" or row["text"] == shown.sentence(0)
    assert Combination("red", "bar", "left").sentence() == "a red bar moves to the left"
    assert len({row["text"].split()[0] for row in rows if row["split"] == "train"}) > 1


def test_scenes_follow_each_other_and_no_video_has_two_alike(films):
    rows = read_manifest(films)
    assert Counter(row.split for row in rows) == {"train": 15, "val": 9, "held": 6}
    for path, sentences in rows.grouped():
        assert [(row.start_s, row.end_s) for row in sentences] == [(i / 3, (i + 1) / 3) for i in range(3)] or np.allclose(
            [(row.start_s, row.end_s) for row in sentences], [(i / 3, (i + 1) / 3) for i in range(3)], atol=1e-6
        )
        assert len({row.label for row in sentences}) == 3
        with open_video(path) as video:
            assert video.n_frames == 12


def test_every_combination_is_shown_once_before_any_is_shown_again(tmp_path):
    rows = lines(render_caption_set(tmp_path, 0, {"held": 37}, size=16, frames=2))
    counts = Counter(row["label"] for row in rows)
    assert sorted(counts.values()) == [1] * 35 + [2]
    assert "start" not in rows[0]


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 2, -1), ("right", 2, 1), ("up", 1, -1), ("down", 1, 1)])
def test_a_scene_shows_its_colour_and_its_motion(motion, axis, sign):
    clip = render_scene(Combination("red", "circle", motion), np.random.default_rng(3), 64, 12).astype(float)
    red = (clip[..., 0] > 150) & (clip[..., 1] < 90)
    assert 0.05 < red.mean() < 0.6
    places = 2 * np.pi * (np.arange(64) + 0.5) / 64
    around = (red.sum(3 - axis) * np.exp(1j * places)).sum(1)  # the frame is a torus: its mean is an angle
    assert np.sign(np.angle(around[1:] / around[:-1]).mean()) == sign


def test_sizes_grow_and_shrink():
    for motion, sign in (("grow", 1), ("shrink", -1)):
        clip = render_scene(Combination("white", "square", motion), np.random.default_rng(0), 64, 24).astype(float)
        area = (clip.min(-1) > 190).sum((1, 2))
        assert (np.sign(np.diff(area)) == sign).sum() > 18  # all but where it begins anew


def test_a_complete_set_is_left_alone_and_another_is_refused(films):
    folder = films.parent
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.mp4")}
    (folder / "val" / "00001.mp4").unlink()
    render_caption_set(folder, 1, FEW, scenes=3, size=16, frames=4)
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("*.mp4")}
    assert [file.name for file in before if after[file] != before[file]] == ["00001.mp4"]
    with pytest.raises(UsageError, match="other settings"):
        render_caption_set(folder, 2, FEW, scenes=3, size=16, frames=4)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"videos": {"test": 3}}, "no split 'test'"), ({"size": 15}, "15 px"), ({"scenes": 0}, "0 scenes"), ({"scenes": 37}, "37 scenes")],
)
def test_what_cannot_be_is_refused(given, told, tmp_path):
    with pytest.raises(UsageError, match=told):
        render_caption_set(tmp_path, **given)
    assert not list(tmp_path.iterdir())
