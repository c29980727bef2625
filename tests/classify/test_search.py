"""Nearest neighbours of several models on the same queries: numbers, table and page."""

import csv
import json

import numpy as np
import pytest
from encoder_toys import SIZE, encoder_folder
from test_classify import vid
from test_page import Reader

from tasks.classify.config import EvalConfig, PageConfig
from tasks.classify.page import chosen, hits, strip, write_page
from tasks.classify.search import Search, name_of
from tasks.classify.views import Outputs
from tasks.classify.writers import COLUMNS, write_neighbours
from tasks.core.data.manifest import read_manifest, read_sources, write_manifest
from tasks.core.data.rows import Row, Rows
from tasks.core.data.synthetic import render_motion_set
from tasks.core.reporter import Quiet
from vidcli.app import main

SIMILARITY = np.array([[0.9, 0.1, 0.5, 0.5], [0.2, 0.2, 0.8, 0.1], [0.3, 0.7, 0.6, 0.7]])


def outputs(labels, uids):
    return Outputs(np.zeros((len(uids), 2)), np.array(labels), np.array(uids), [f"v{u}" for u in uids])


@pytest.fixture
def found():
    """Queries a, b, b; gallery a, b, a, b, of which row 1 was not read; by the other method everything is the other way round."""
    query_rows = Rows.of([Row("/q/0.mp4", "a"), Row("/q/1.mp4", "b", start_s=1.5, end_s=3.0), Row("/q/<i>2.mp4", "b")])
    gallery_rows = Rows.of([Row(f"/g/{i}.mp4", label) for i, label in enumerate("axbab")])
    methods, numbers = {"one": SIMILARITY, "two": -SIMILARITY}, {"one": {"r@1": 100 / 3}, "two": {"r@1": 50.0}}
    queries, gallery = outputs([0, 1, 1], [0, 1, 2]), outputs([0, 1, 0, 1], [0, 2, 3, 4])
    return Search(queries, gallery, query_rows, gallery_rows, ["a", "b"], methods, numbers)


def test_nearest_come_in_order_and_the_first_of_equal_ones_first(found):
    assert found.nearest("one", 3).tolist() == [[0, 2, 3], [2, 0, 1], [1, 3, 2]]
    assert found.nearest_of("two", 0, 9).tolist() == [1, 2, 3, 0]
    assert hits(found, "one").tolist() == [True, False, True]


def test_the_table_has_every_neighbour_by_its_row(found, tmp_path):
    write_neighbours(tmp_path / "n.csv", found, 2)
    rows = list(csv.DictReader((tmp_path / "n.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * 3 * 2
    assert list(rows[1].values()) == ["/q/0.mp4", "a", "one", "2", "/g/3.mp4", "a", "0.500000"]
    assert rows[2]["query"] == "/q/1.mp4#t=1.5,3"
    assert [name_of(Row("v", end_s=2.0)), name_of(Row("v", start_s=2.0))] == ["v#t=0,2", "v#t=2"]


def test_half_of_the_shown_queries_are_wrong_where_there_are_as_many():
    right = np.arange(100) >= 30
    wrong, good = chosen(right, PageConfig(queries=24, seed=3))
    assert (len(wrong), len(good)) == (12, 12)
    assert not right[wrong].any()
    assert right[good].all()
    again = chosen(right, PageConfig(queries=24, seed=3))
    assert wrong.tolist() == again[0].tolist() == sorted(set(wrong.tolist()))
    assert wrong.tolist() != chosen(right, PageConfig(queries=24, seed=4))[0].tolist()


@pytest.mark.parametrize(("n_wrong", "n_right", "expected"), [(2, 50, (2, 22)), (50, 2, (22, 2)), (0, 9, (0, 9)), (5, 5, (5, 5))])
def test_where_there_are_fewer_the_others_fill_up(n_wrong, n_right, expected):
    shown = chosen(np.repeat([False, True], [n_wrong, n_right]), PageConfig(queries=24))
    assert tuple(map(len, shown)) == expected


def page_of(found, path, monkeypatch, **settings):
    monkeypatch.setattr("tasks.classify.page.strip", lambda row, frames, side, decoder: np.zeros((side, frames * side, 3), np.uint8))
    config = EvalConfig(model="one", protocol="retrieval", page=PageConfig(**settings))
    write_page(path, {"n": 3, "n_gallery": 4, "protocol": "retrieval", "model": ["x", "y"], "compared": {}}, found, config, Quiet())
    return path.read_text()


def test_the_page_marks_what_is_right_and_fetches_nothing(found, tmp_path, monkeypatch):
    html = page_of(found, tmp_path / "page.html", monkeypatch, neighbours=2)
    reader = Reader(html)
    assert reader.tags.count("article") == 3
    assert reader.tags.count("li") == 3 * 2 * 2
    verdicts = [word for word in reader.words if word[:1] in ("✓", "✗")]
    assert verdicts[:4] == ["✗ a", "✗ a", "✓ b", "✗ a"]  # the wrong one first: query 1 by both methods
    assert sum(word.startswith("✓") for word in verdicts) == sum(value == "right" for name, value in reader.attributes if name == "class")
    assert "First neighbour of another class: 1 of 1" in reader.words
    assert "First neighbour of the same class: 2 of 2" in reader.words
    assert "q/<i>2.mp4" in reader.words  # escaped
    sources = [value for name, value in reader.attributes if name in ("src", "href")]
    assert len(sources) == 3 * (1 + 2 * 2)
    assert all(value.startswith("data:image/jpeg;base64,") for value in sources)
    assert "url(" not in html
    assert "33.33" in reader.words


def test_a_video_that_is_gone_leaves_a_note_in_its_place(found, tmp_path):
    config = EvalConfig(model="one", protocol="retrieval")
    write_page(tmp_path / "page.html", {"n": 3, "n_gallery": 4, "protocol": "retrieval"}, found, config, Quiet())
    words = Reader((tmp_path / "page.html").read_text()).words
    assert any("/q/0.mp4" in word and "no such" in word for word in words)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder, manifest): two encoders of other weights, a motion set."""
    folder = tmp_path_factory.mktemp("search")
    encoder_folder(folder / "one", "resnet", "boundaries")
    encoder_folder(folder / "two", "s3d", "contrastive")
    return folder, render_motion_set(folder / "videos", 5, 0, SIZE, 12)


def words_of(place, *models):
    folder, manifest = place
    named = [word for flag, model in models for word in (f"--{flag}", folder / model)]
    views = ("--clips", 1, "--crops", 1, "--workers", 0, "--json")
    return [*named, "--protocol", "retrieval", "--gallery", manifest, "--data", manifest, *views]


def test_people_see_the_methods_as_a_table(place, capsys):
    words = [str(word) for word in words_of(place, ("model", "one"), ("model", "two"), ("compare", "two")) if word != "--json"]
    capsys.readouterr()
    assert main(["eval", "classify", *words, "-q"]) == 0
    header, both, two, *rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["method", "r@1", "r@5", "r@10", "r@20"]
    assert " + " in both
    assert two.split()[0] == str(place[0] / "two")
    assert not any(line.startswith(("r@1", "compared")) for line in rest)


def test_models_beside_each_other_have_the_numbers_that_each_has_alone(place, tmp_path):
    folder, _ = place
    one, two = (vid("eval", "classify", *words_of(place, ("model", name))) for name in ("one", "two"))
    both = vid("eval", "classify", *words_of(place, ("model", "one"), ("model", "two")))
    models = (("model", "one"), ("model", "two"), ("compare", "two"), ("compare", "one"))
    found = vid("eval", "classify", *words_of(place, *models), "--out", tmp_path / "found", "--write", "csv,html")
    ranks = ("r@1", "r@5", "r@10", "r@20")
    assert [found[r] for r in ranks] == [both[r] for r in ranks]
    assert [[found["compared"][str(folder / name)][r] for r in ranks] for name in ("one", "two")] == [
        [m[r] for r in ranks] for m in (one, two)
    ]
    assert found["files"] == [str(tmp_path / "found" / f"retrieval.{kind}") for kind in ("json", "csv", "html")]
    assert json.loads((tmp_path / "found/retrieval.json").read_text()) == found
    rows = list(csv.DictReader((tmp_path / "found/retrieval.csv").open()))
    first = [row["label"] == row["neighbour_label"] for row in rows if row["rank"] == "1"]
    assert len(first) == 3 * found["n"]
    assert 100 * np.mean(first[: found["n"]]) == pytest.approx(found["r@1"])
    reader = Reader((tmp_path / "found/retrieval.html").read_text())
    assert reader.tags.count("article") == found["n"]
    assert reader.tags.count("img") == found["n"] * (1 + 3 * 5)


def test_a_strip_shows_the_part_that_counts(place):
    row = read_sources([str(place[1])], "val")[0]
    whole = strip(row, 3, 16)
    assert whole.shape == (16, 48, 3)
    from tasks.core.video.open import open_video

    with open_video(row.path) as reader:
        times, frames = reader.pts, reader.get([0], 16)
    begin = strip(Row(row.path, end_s=float(times[1])), 2, 16)
    top, left = ((n - 16) // 2 for n in frames.shape[1:3])
    assert np.array_equal(begin[:, :16], frames[0, top : top + 16, left : left + 16])
    assert np.array_equal(begin[:, :16], begin[:, 16:])


def test_what_cannot_be_asked_for(place, capsys, tmp_path):

    folder, manifest = place
    base = ["eval", "classify", "--model", str(folder / "one"), "--data", str(manifest)]
    frozen = ["--protocol", "knn", "--gallery", str(manifest)]
    for words, told in (
        (["--write", "html", "--out", str(tmp_path)], "nearest neighbours, which a classifier has not"),
        (["--compare", str(folder / "two")], "compare stands beside knn and retrieval"),
        ([*frozen, "--write", "html"], "add --out FOLDER"),
        ([*frozen, "--write", "htm", "--out", str(tmp_path)], "did you mean 'html'"),
        ([*frozen, "--write", "html", "--out", "r.json"], "with --write it is a folder"),
    ):
        assert main([*base, *words]) == 2
        assert told in capsys.readouterr().err


def test_flow_from_a_folder_is_for_the_model_that_was_trained_on_it(place, tmp_path, capsys):
    from tasks.core.clips.config import FlowInput
    from tasks.core.clips.prepare import flow_input

    few = [row for row in read_manifest(place[1]) if row.label in ("up", "down") and row.split != "unlabelled"]
    place = place[0], tmp_path / "few.csv"
    write_manifest(few, place[1])
    vid("data", "flow", place[1], "-o", tmp_path / "flow", "--method", "dis", "--short-side", 32, "--workers", 0, "--json")
    encoder_folder(tmp_path / "stream", "s3d", "contrastive", flow_input=flow_input(FlowInput(folder=str(tmp_path / "flow"), frames=False)))
    flow = ("--set", f"data.flow.folder={tmp_path / 'flow'}", "--set", "data.flow.frames=false")
    frozen = words_of(place, ("model", "one"), ("compare", tmp_path / "stream"))
    ranks = ("r@1", "r@5", "r@10", "r@20")
    both = vid("eval", "classify", *frozen, *flow)
    alone = vid("eval", "classify", *words_of(place, ("model", tmp_path / "stream")), *flow)
    assert [both[r] for r in ranks] == [vid("eval", "classify", *words_of(place, ("model", "one")))[r] for r in ranks]
    assert [both["compared"][str(tmp_path / "stream")][r] for r in ranks] == [alone[r] for r in ranks]
    for words in (words_of(place, ("model", "one"), ("compare", "two")), words_of(place, ("model", "one"))):
        assert main([str(word) for word in ("eval", "classify", *words, *flow)]) == 2
        assert "trained" in capsys.readouterr().err


def test_a_preset_of_testing_and_what_overrides_it(place):
    words = words_of(place, ("model", "one"))
    found = vid("eval", "classify", "--preset", "classify/coclr-retrieval", *words, "--windows", "spread")
    assert (found["center"], found["views"], found["protocol"]) == ("own", "1x1", "retrieval")
    assert vid("eval", "classify", "--preset", "classify/knn", *words[:2], *words[4:])["protocol"] == "knn"
