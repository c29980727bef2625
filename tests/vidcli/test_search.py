"""`vid index`, `vid search` and `vid convert --bridge` as a person types them."""

import json

import pytest
import torch
from bridge_toys import NAMES, write_classifier
from clip_toys import clip_folder
from painted import write_video


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Videos with subtitles, a CLIP model, a classifier of pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    clip_folder(tmp_path / "clip")
    write_classifier(tmp_path / "lite0.pth")
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    (tmp_path / "videos").mkdir()
    for name, frames in (("a", 30), ("b", 60)):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames)
    (tmp_path / "videos/b.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nThe dog's running, isn't it?\n")
    return tmp_path


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def test_from_a_folder_to_a_result_in_three_commands(place, vid):
    code, out, err = vid("convert", "lite0.pth", "--bridge", "conse", "--text", "clip", "--names", "names.txt", "-o", "model", "--json")
    assert (code, records(out)[0]["classes"]) == (0, 5), err
    code, out, err = vid("index", "videos", "--model", "model", "-o", "i", "--hop", "0.5", "--json")
    assert code == 0, err
    assert [(r["windows"], r["sentences"]) for r in records(out)] == [(2, 0), (4, 1)]
    code, out, err = vid("search", "a red square", "--in", "i", "--write", "html,json", "--out", "found", "--apart", "0.2")
    assert code == 0, err
    assert "videos/b.mp4" in out
    assert "0:0" in out
    html = (place / "found/a-red-square.html").read_text()
    assert "../videos/b.mp4#t=" in html
    assert json.loads((place / "found/a-red-square.json").read_text())["found"][0]["rank"] == 1


def test_results_as_json_by_words_and_per_video(place, vid):
    vid("index", "videos", "--model", "clip", "-o", "i", "--hop", "0.5")
    code, out, _ = vid("search", "a red square", "--in", "i", "--per", "video", "--json")
    found = records(out)
    assert code == 0
    assert [r["rank"] for r in found] == [1, 2]
    assert {r["video"] for r in found} == {"videos/a.mp4", "videos/b.mp4"}
    assert found[0]["score"] >= found[1]["score"]
    code, out, _ = vid("search", "running dog", "--in", "i", "--by", "words", "--json")
    (one,) = records(out)
    assert (one["path"], one["start_s"], one["end_s"]) == (str(place / "videos/b.mp4"), 0.5, 1.5)
    code, out, err = vid("search", "zebra", "--in", "i", "--by", "words")
    assert (code, out) == (3, "")
    assert "nothing was found" in err


def test_search_by_example(place, vid):
    vid("index", "videos", "--model", "clip", "-o", "i", "--hop", "0.5")
    code, out, _ = vid("search", "--like", "videos/a.mp4@0.5", "--in", "i", "--json", "--apart", "0.1")
    found = records(out)
    assert code == 0
    assert found[0]["path"] == str(place / "videos/b.mp4")
    assert found[0]["score"] == pytest.approx(1.0, abs=2e-3)
    assert found[0]["start_s"] == 0.5


def test_a_long_sentence_is_cut_and_said_so(place, vid):
    vid("index", "videos", "--model", "clip", "-o", "i", "--hop", "0.5")
    code, _, err = vid("search", "a red square moves to the left " * 20, "--in", "i")
    assert code == 0
    assert "its end is cut off" in err
    code, _, _ = vid("search", "🐶 naïve – ☀", "--in", "i")
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("search", "--in", "i"), 2, "give a sentence or --like"),
        (("search", "dog", "--like", "videos/a.mp4", "--in", "i"), 2, "give a sentence or --like"),
        (("search", "dog", "--in", "videos"), 2, "is no index"),
        (("search", "dog", "--in", "i", "--out", "x"), 2, "--out is for files"),
        (("search", "dog", "--in", "i", "--write", "htm"), 2, "did you mean 'html'?"),
        (("search", "dog", "--in", "i", "--per", "shot"), 2, "window, video"),
        (("index", "videos", "--model", "nowhere", "-o", "j"), 2, "nowhere"),
        (("index", "videos", "--model", "clip", "-o", "videos"), 2, "not empty and is no index"),
        (("convert", "lite0.pth", "--bridge", "cones", "--text", "clip", "-o", "m"), 2, "unknown bridge 'cones'"),
        (("convert", "lite0.pth", "--bridge", "conse", "-o", "m"), 2, "a bridge needs a text tower"),
        (("convert", "lite0.pth", "--text", "clip", "-o", "m"), 2, "--text is for a bridge"),
        (("convert", "lite0.pth", "--bridge", "conse", "--text", "clip", "--flow", "-o", "m"), 2, "--flow does not go with --bridge"),
        (("convert", "lite0.pth", "--bridge", "conse", "--text", "clip", "-o", "m"), 3, "has 5 classes, not the 1000 of ImageNet"),
    ],
)
def test_wrong_input_is_one_line_and_a_hint(place, vid, arguments, code, text):
    (place / "i").mkdir()
    (place / "i/index.json").write_text('{"version": 1, "id": null, "model": null}')
    found, out, err = vid(*arguments)
    assert (found, out) == (code, "")
    assert text in err
    assert len(err.strip().splitlines()) <= 2
    assert not (place / "m").exists()


def test_a_bridged_model_classifies_by_names_and_gives_features(place, vid):
    vid("convert", "lite0.pth", "--bridge", "conse", "--text", "clip", "--names", "names.txt", "-o", "model")
    (place / "data.csv").write_text("path,label\nvideos/a.mp4,red_square\nvideos/b.mp4,running_dog\n")
    code, out, err = vid(
        "eval", "classify", "--model", "model", "--protocol", "zero-shot", "--data", "data.csv", "--set", "features.hop_s=0.5", "--json"
    )
    assert code == 0, err
    assert (records(out)[0]["classes"], records(out)[0]["n"], records(out)[0]["protocol"]) == (2, 2, "zero-shot")
    code, out, err = vid("extract-features", "videos", "--model", "model", "--per", "window", "--hop", "0.5", "-o", "features", "--json")
    assert code == 0, err
    assert [(r["n"], r["dim"]) for r in records(out)] == [(2, 20), (4, 20)]
