"""`vid finetune` with sentences and `vid eval retrieval` as a user calls them."""

import csv
import json
import shutil

import numpy as np
import prompting_toys as toys
import pytest
from painted import write_video

from tasks.core.checkpoint import load_config
from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from vidcli.app import main

N = len(toys.SENTENCES)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Features of videos with sentences, a CLIP model, and a run that has learned the sentences."""
    folder = toys.write_captions(tmp_path_factory.mktemp("world"))
    toys.write_preset(folder, "small.yaml", method="retrieval", template="{}", train={"epochs": 40, "batch_size": 8})
    assert main(finetune(folder, "--val", f"{folder}/captions.csv@val", "--out", folder / "run")) == 0
    return folder


def finetune(folder, *words):
    given = ["finetune", "--preset", folder / "small.yaml", "--data", f"{folder}/captions.csv@train", *words]
    return [str(word) for word in given]


def evaluate(folder, *words, model="run", features="features"):
    stream = ("--set", f"data.streams.visual.folder={folder / features}", "--workers", "0")
    return [str(word) for word in ("eval", "retrieval", "--model", folder / model, "--data", f"{folder}/captions.csv@val", *stream, *words)]


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_run_learns_to_find_videos_by_sentences(world):
    result = json.loads((world / "run" / "result.json").read_text())
    assert result["text_to_video_r1"] == result["video_to_text_r1"] == 100
    assert result["text_to_video_median_rank"] == 1
    assert result["zero_shot_text_to_video_r1"] < 60
    saved = load_config(world / "run" / "model")
    assert saved["method"] == "retrieval"
    assert "labels" not in saved


def test_evaluation_is_that_of_the_run(world, tmp_path, capsys):
    trained = json.loads((world / "run" / "result.json").read_text())
    assert main(evaluate(world, "--json", "--out", tmp_path, "--write", "csv")) == 0
    found = result_of(capsys)
    assert (found["protocol"], found["n_texts"], found["n_videos"]) == ("prompted", N, N)
    for direction in ("text_to_video", "video_to_text"):
        assert {f"{direction}_{key}": value for key, value in found[direction].items()}.items() <= trained.items()
    with open(tmp_path / "retrieval.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == list(toys.SENTENCES)
    assert all(row["rank"] == "1" and row["first"] == row["video"] for row in rows)
    assert json.loads((tmp_path / "retrieval.json").read_text())["text_to_video"]["r1"] == 100


def test_zero_shot_is_that_of_the_run_too(world, capsys):
    trained = json.loads((world / "run" / "result.json").read_text())
    assert main(evaluate(world, "--protocol", "zero-shot", "--json")) == 0
    found = result_of(capsys)
    assert found["text_to_video"]["mean_rank"] == trained["zero_shot_text_to_video_mean_rank"]
    assert found["template"] == "{}"


def test_a_clip_model_that_was_never_trained(world, capsys):
    assert main(evaluate(world, "--set", "frames=4", "--json", model="clip")) == 0
    found = result_of(capsys)
    assert (found["protocol"], found["n_videos"]) == ("zero-shot", N)
    assert main(evaluate(world, "--set", "frames=4", model="clip")) == 0
    assert "text to video" in capsys.readouterr().out


def test_videos_that_are_all_alike_are_found_by_chance(world, capsys):
    for number in range(24):
        encoder = {"reference": "toy", "weights_hash": "f" * 16}
        write_features(world / "alike", f"v{number}", np.ones((9, toys.DIM), np.float32), Grid(0.1, 0.1), encoder)
    assert main(evaluate(world, "--json", features="alike")) == 0
    found = result_of(capsys)
    assert found["text_to_video"]["r1"] == pytest.approx(100 / N)
    assert found["text_to_video"]["r5"] == pytest.approx(500 / N)
    assert found["text_to_video"]["median_rank"] == (N + 1) / 2


def test_several_sentences_of_a_video(world, tmp_path, capsys):
    words = evaluate(world, "--json")
    words[words.index("--data") + 1] = f"{world}/captions.csv@train"
    assert main(words) == 0
    found = result_of(capsys)
    assert (found["n_texts"], found["n_videos"]) == (32, 16)


def test_an_unreadable_video_leaves_with_its_sentences(world, tmp_path, capsys):
    shutil.copytree(world / "features", world / "fewer")
    for file in (world / "fewer").glob("v16.*"):
        file.unlink()
    assert main(evaluate(world, "--json", features="fewer")) == 4
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert (found["n_texts"], found["n_videos"], found["n_skipped"], found["text_to_video"]["r1"]) == (N - 1, N - 1, 1, 100)
    assert "v16.mp4" in captured.err
    assert main(evaluate(world, "--strict", features="fewer")) == 3


def test_from_pixels(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    for number in range(3):
        write_video(tmp_path / f"v{number}.mp4", 12)
    rows = ["path,text", *(f"v{number}.mp4,{toys.SENTENCES[number]}" for number in range(3))]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    words = ["eval", "retrieval", "--model", str(world / "clip"), "--data", str(tmp_path / "captions.csv"), "--json", "--workers", "0"]
    assert main([*words, "--set", "features.hop_s=0.1"]) == 0
    assert result_of(capsys)["n_videos"] == 3


def test_a_sentence_that_is_too_long_is_cut_and_said(world, tmp_path, capsys):
    long = "a red square moves to the left and " * 20
    rows = f"path,text\nv16.mp4,{long}\nv17.mp4,{toys.SENTENCES[1]}\n"
    (tmp_path / "captions.csv").write_text(rows)
    for protocol, said in (("prompted", "16 tokens that fit beside the prompts"), ("zero-shot", "22 tokens of")):
        words = evaluate(world, "--protocol", protocol, "--json")
        words[words.index("--data") + 1] = str(tmp_path / "captions.csv")
        assert main(words) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert "1 of 2 texts are cut to the" in told
        assert said in told


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ("path,label\nv16.mp4,a\nv17.mp4,b\n", 3, "2 of 2 test rows have no text"),
        ("path,text\nv16.mp4,a\nv17.mp4,\n", 3, "1 of 2 test rows have no text"),
        ("path,text\nv16.mp4,a\n", 3, "nothing to tell apart"),
        ("path,text\nv16.mp4,🐶 ☀\nv17.mp4,日本語\n", 0, ""),
    ],
)
def test_odd_sentences(world, tmp_path, capsys, rows, code, said):
    (tmp_path / "captions.csv").write_text(rows)
    words = evaluate(world)
    words[words.index("--data") + 1] = str(tmp_path / "captions.csv")
    assert main(words) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "model", "said"),
    [
        (("--protocol", "prompted"), "clip", "is a CLIP model without learned prompts"),
        ((), "nowhere", "no model at"),
        (("--protocol", "plain"), "run", "protocol"),
        (("--set", "template=dog"), "run", "a template has one {}"),
        (("--write", "html", "--out", "x"), "run", "cannot write 'html'"),
        (("--write", "csv"), "run", "add --out FOLDER"),
    ],
)
def test_what_cannot_be_tested_is_one_clear_line(world, tmp_path, monkeypatch, capsys, words, model, said):
    monkeypatch.chdir(tmp_path)
    assert main(evaluate(world, *words, model=model)) == 2
    assert said in capsys.readouterr().err
