"""`vid finetune` of a localiser as a user calls it."""

import json
from pathlib import Path

import localization_toys as toys
import pytest
import torch
import yaml

from tasks.core.checkpoint import load_config, load_weights
from tasks.core.data.segments.table import EventTable
from tasks.core.metrics.events import event_scores
from tasks.localization.config import LocalizerConfig
from tasks.localization.model import EventLocalizer
from vidcli.app import main


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of eight clips, and a preset of a small model."""
    folder = tmp_path_factory.mktemp("clips")
    lines = toys.write_clips(folder, 8, 40)
    (folder / "val.csv").write_text("\n".join([lines[0], *lines[-4:], "clip5.mp4,,,"]) + "\n")
    settings = toys.config().model_dump(mode="json", exclude_unset=True)
    settings["data"] = {"streams": {name: {"folder": str(folder / name)} for name in toys.DIMS}, "max_length": 32, "workers": 0}
    settings |= {"task": "localization", "verb": "finetune", "train": {"max_steps": 2, "batch_size": 4, "precision": "fp32", "ema": 0.5}}
    (folder / "small.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(settings))))
    return folder


def finetune(clips: Path, *words: object) -> list[str]:
    given = ["finetune", "--preset", clips / "small.yaml", "--data", clips / "events.csv", *words]
    return [str(word) for word in given]


def test_training_writes_a_localiser_and_its_predictions(clips: Path, tmp_path: Path, capsys):
    assert main(finetune(clips, "--val", clips / "val.csv", "--out", tmp_path / "run", "--json")) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["steps"] == 2
    assert (result["n_videos"], result["n_events"], result["n_skipped"]) == (3, 4, 0)
    saved = load_config(tmp_path / "run" / "model")
    assert saved["labels"] == [f"c{number}" for number in range(4)]
    assert saved["streams"]["audio"] == {
        "encoder": {"reference": "audio", "weights_hash": "audio"},
        "dim": 10,
        "grid": {"stride_s": 0.5, "span_s": 1.0},
    }
    model = EventLocalizer(LocalizerConfig(**saved["architecture"]), {name: each["dim"] for name, each in saved["streams"].items()}, 4)
    weights = load_weights(tmp_path / "run" / "model")
    model.load_state_dict(weights)
    predicted = json.loads((tmp_path / "run" / "predictions" / "step-00000002.json").read_text())["results"]
    rows = [(path, each["label"], each["segment"], each["score"]) for path, found in predicted.items() for each in found]
    assert all(0 <= start < end <= 0.5 * 39 + 1.0 for _, _, (start, end), _ in rows)
    truth = [line.split(",") for line in (clips / "val.csv").read_text().splitlines()[1:5]]
    stem = {Path(path).name: path for path in predicted}
    scores = event_scores(
        EventTable.of(*zip(*rows, strict=True)),
        EventTable.of(
            [stem.get(name, name) for name, *_ in truth], [row[1] for row in truth], [(float(a), float(b)) for *_, a, b in truth]
        ),
    )
    assert result["average_map"] == pytest.approx(scores["average_map"], abs=1e-3)


def test_a_stopped_run_goes_on_as_if_it_had_not(clips: Path, tmp_path: Path):
    """Crops, order and the average of positive points."""
    losses = {}
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            (tmp_path / name / "result.json").unlink(missing_ok=True)
            words = (
                "--out",
                tmp_path / name,
                "--max-steps",
                steps,
                "--set",
                "train.log_every_steps=1",
                "--set",
                "crop.ratio=[0.5,0.9]",
                "-q",
            )
            assert main(finetune(clips, *words)) == 0
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [line["class_loss"] for line in lines if line["kind"] == "train"]
    assert len(losses["whole"]) == 4
    assert losses["whole"][:2] == losses["parts"][:2]


def test_a_localiser_of_other_classes_is_a_start(clips: Path, tmp_path: Path, capsys):
    assert main(finetune(clips, "--out", tmp_path / "first", "-q")) == 0
    (tmp_path / "other.csv").write_text((clips / "events.csv").read_text().replace(",c3,", ",new,"))
    given = [
        "finetune",
        "--preset",
        clips / "small.yaml",
        "--data",
        tmp_path / "other.csv",
        "--from",
        tmp_path / "first",
        "--max-steps",
        "1",
    ]
    assert main([str(word) for word in [*given, "--lr", "1e-9", "--out", tmp_path / "second", "-q", "--set", "train.ema=null"]]) == 0
    first, second = (load_weights(tmp_path / name / "model") for name in ("first", "second"))
    assert torch.allclose(first["neck.down.weight"], second["neck.down.weight"], atol=1e-6)
    assert not torch.allclose(first["class_head.last.weight"], second["class_head.last.weight"], atol=1e-3)
    assert load_config(tmp_path / "second" / "model")["labels"] == ["c0", "c1", "c2", "new"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "SEEN"), "no features of the stream 'audio'"),
        (("--set", "data.streams.smelled.folder=VISUAL"), "has no stream 'smelled'"),
        (("--data", "PLAIN"), "rows is an event"),
        (("--set", "resize=64"), "resize stretches whole videos"),
        (("--set", "model.aligment.mask=time"), "did you mean 'model.alignment"),
        (("--set", "data.streams.visual.folder=NOWHERE"), "no such folder of features"),
    ],
)
def test_what_cannot_be_is_said(clips: Path, tmp_path: Path, capsys, words: tuple, said: str):
    (tmp_path / "plain.csv").write_text("path\nclip0.mp4\nclip1.mp4\n")
    settings = yaml.safe_load((clips / "small.yaml").read_text())
    del settings["data"]["streams"]["audio"]
    (tmp_path / "seen.yaml").write_text(yaml.safe_dump(settings))
    names = {"VISUAL": clips / "visual", "PLAIN": tmp_path / "plain.csv", "NOWHERE": tmp_path / "nowhere", "SEEN": tmp_path / "seen.yaml"}
    for short, long in names.items():
        words = tuple(word.replace(short, str(long)) for word in words)
    kept = {"--preset": clips / "small.yaml", "--data": clips / "events.csv"}
    kept.pop(words[0], None)
    given = [str(word) for pair in kept.items() for word in pair]
    assert main(["finetune", *given, "--out", str(tmp_path / "run"), *words]) in (2, 3)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_classes_that_training_lacks_are_said_and_count(clips: Path, tmp_path: Path, capsys):
    (tmp_path / "val.csv").write_text("path,label,start,end\nclip0.mp4,c0,2,6\nclip0.mp4,unheard,1,3\n")
    assert main(finetune(clips, "--val", tmp_path / "val.csv", "--out", tmp_path / "run", "--max-steps", 1, "--json")) == 0
    said = capsys.readouterr()
    assert "1 classes of the validation set do not occur in training: unheard" in said.err
    assert json.loads(said.out.splitlines()[-1])["n_events"] == 2


def test_a_video_without_features_is_skipped_and_counted(clips: Path, tmp_path: Path, capsys):
    (tmp_path / "more.csv").write_text((clips / "events.csv").read_text() + "gone.mp4,c1,1,4\n")
    given = ["finetune", "--preset", clips / "small.yaml", "--data", tmp_path / "more.csv", "--out", tmp_path / "run", "--json"]
    assert main([str(word) for word in [*given, "--max-steps", 3]]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n_skipped"] == 1
    assert "gone.mp4" in (tmp_path / "run" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    "kind", [{"input": "visual"}, {"input": "concat"}, {"alignment": {"enabled": False}, "contrast": {"negatives": "random"}}]
)
def test_dry_runs_say_what_would_run(clips: Path, capsys, kind: dict):
    changes = [word for name, value in kind.items() for word in ("--set", f"model.{name}={json.dumps(value)}")]
    assert main(finetune(clips, "--dry-run", "--json", *changes)) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["videos"], planned["events"], planned["classes"]) == (8, 16, 4)
    assert planned["parameters"] > 1000
