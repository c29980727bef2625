"""Model folders whose config.json lacks something or says something else: one line and exit 2, and nothing is left behind."""

import json

import pytest
import torch
from painted import write_video
from test_hostile import classifier, one_line

from tasks.core.checkpoint import load_config, save_model
from tasks.core.errors import UsageError


def boundary_config():
    return {
        "task": "boundaries",
        "method": "gebd",
        "architecture": {"size": "resnet18", "width": 8, "image_size": 32, "motion": None},
        "window": {"before": 3, "stride_frames": 1},
        "merge": {},
        "preprocessing": {"crop": "center", "short_side": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
    }


def anomaly_config():
    return {
        "task": "anomalies",
        "method": "x",
        "architecture": {"parts": ["appearance"], "autoencoder": {"width": 0.25}, "flow": {}, "semantic": None},
        "weights": [1.0, 0.0, 0.0],
        "calibration": {"appearance": {"mean": 0.0, "std": 1.0, "low": 0.0, "high": 1.0}},
        "preprocessing": {"short_side": 32, "stride_s": 0.1},
    }


ODD = {  # place in config.json -> (value, None: the key is missing; what is said)
    "anomalies": {
        "weights": [(None, "weights: Field required"), (3, "weights: "), ([1, 0], "weights.2")],
        "calibration": [
            (None, "calibration: Field required"),
            ([], "'calibration' must be a mapping"),
            ({}, "lacks calibration.appearance"),
        ],
        "calibration.appearance": [({"mean": 1}, "calibration.appearance.std: Field required")],
        "preprocessing": [(None, "preprocessing: Field required"), (7, "'preprocessing' must be a mapping")],
        "preprocessing.stride_s": [(-1, "preprocessing.stride_s: "), ("x", "preprocessing.stride_s: ")],
        "architecture.parts": [(None, "architecture.parts: Field required"), (["x"], "architecture.parts.0"), (3, "architecture.parts: ")],
        "architecture.flow": [(None, "lacks architecture.flow"), (3, "describes no network")],
        "architecture.autoencoder": [(None, "lacks architecture.autoencoder"), ({"width": "x"}, "AutoencoderConfig.width")],
    },
    "boundaries": {
        "merge": [(None, "lacks merge"), ("x", "'merge' must be a mapping")],
        "window": [(None, "is not a detector"), (3, "'window' must be a mapping")],
        "preprocessing": [(None, "lacks preprocessing")],
        "preprocessing.crop": [(None, "lacks preprocessing.crop"), ({"a": 1}, "AugmentConfig.crop")],
        "preprocessing.short_side": [(None, "lacks preprocessing.short_side")],
        "preprocessing.mean": [(3, "AugmentConfig.mean")],
        "provenance": [({"init": 3}, "provenance.init must be text")],
    },
}


@pytest.mark.parametrize(("task", "place"), [(task, place) for task, places in ODD.items() for place in places])
def test_a_detector_whose_config_lacks_something_or_says_something_else(tmp_path, vid, task, place):
    command, config = {"anomalies": ("detect-anomalies", anomaly_config), "boundaries": ("detect-boundaries", boundary_config)}[task]
    video = tmp_path / "v.mp4"
    video.write_bytes(b"")
    for value, message in ODD[task][place]:
        odd = config()
        *above, key = place.split(".")
        within = odd
        for name in above:
            within = within[name]
        within.pop(key, None)
        if value is not None:
            within[key] = value
        save_model(tmp_path / "odd", {"x": torch.zeros(1)}, odd, "# card")
        code, out, err = vid(command, video, "--model", tmp_path / "odd", "--out", tmp_path / "out")
        assert (code, out) == (2, ""), err
        one_line(err, message)
        assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("processes", [None, 2])
def test_weights_that_cannot_be_started_from_leave_no_run_folder(tmp_path, monkeypatch, vid, processes):
    monkeypatch.chdir(tmp_path)
    weights, config = classifier()
    weights["encoder.norm.weight" if "encoder.norm.weight" in weights else min(weights)].view(-1)[-1] = float("nan")
    save_model(tmp_path / "nan", weights, {**config, "method": "x"}, "# card")
    for label in ("a", "b"):
        (tmp_path / "videos" / label).mkdir(parents=True)
        write_video(tmp_path / "videos" / label / "v.mp4", n=8)
    data = ["--data", "videos", "--val", "videos"]
    command = ["finetune", "--preset", "classify/tiny", "--set", "data.clip.frames=2", *data, "--from", "nan", "--out", "run"]
    code, out, err = vid(*command, *(["--processes", processes] if processes else []))
    assert (code, out) == (2, ""), err
    if not processes:
        one_line(err, "holds NaN or infinite weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nan", "videos"]


CLASSIFIER = {"architecture": {}, "task": "classify"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[" * 100_000, "is not valid JSON"),
        ({"model_type": "videomae", "vid": {}}, "does not say which task"),
        ({"model_type": "videomae", "vid": {"task": 3}}, "does not say which task"),
        ({**CLASSIFIER, "metrics": 3}, "'metrics' must be a mapping"),
        ({**CLASSIFIER, "provenance": {"preset": 3}}, "provenance.preset must be text"),
        (CLASSIFIER, "lacks head"),
    ],
)
def test_odd_folders_are_not_published(tmp_path, vid, config, message):
    save_model(tmp_path / "odd", {"x": torch.zeros(1)}, CLASSIFIER, "# card")
    (tmp_path / "odd/config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    code, out, err = vid("publish", tmp_path / "odd", "--repo", "org/name", "--dry-run")
    assert (code, out) == (2, ""), err
    one_line(err, message)


def test_weights_are_looked_at_whatever_is_sent(tmp_path, vid):
    weights, config = classifier()
    weights[min(weights)].view(-1)[-1] = float("nan")
    save_model(tmp_path / "model", weights, {**config, "method": "x"}, "# card")
    publish = ["publish", tmp_path / "model", "--repo", "org/name", "--dry-run", "--no-transformers"]
    code, out, err = vid(*publish)
    assert (code, out) == (2, "")
    one_line(err, "holds NaN or infinite weights")
    file = tmp_path / "model/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert vid(*publish)[0] == 2
    assert vid("publish", "hf://org/name", "--repo", "org/name")[0] == 2


def test_asking_for_what_a_configuration_lacks_names_it(tmp_path):
    save_model(tmp_path / "model", {"x": torch.zeros(1)}, {**CLASSIFIER, "method": "x", "head": {"a": {}}}, "# card")
    config = load_config(tmp_path / "model")
    with pytest.raises(UsageError, match=r"config\.json lacks head\.a\.b"):
        config["head"]["a"]["b"]
    assert config.get("nothing") is None
    assert "nothing" not in config
