"""From videos to model folders: every method as a user calls it, all stages of co-training in one run, what is refused."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from contrastive_helpers import MINING, STAGES, TINY, vid

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.cycles import stages
from tasks.core.checkpoint import load_config, load_weights
from tasks.core.data.synthetic import render_motion_set
from tasks.core.engine.run import read_metrics
from tasks.core.towers import load_encoder
from vidcli.app import main
from vidcli.resolve import Given, resolve


@pytest.fixture(scope="module")
def trained(videos, flow, tmp_path_factory) -> Path:
    """A run of all stages of CoCLR."""
    out = tmp_path_factory.mktemp("runs") / "cycles"
    assert vid("coclr-tiny", videos, out, f"data.flow.folder={flow}", *MINING) == 0
    return out


def losses(run: Path) -> dict[str, list[float]]:
    return {stage: [row["loss"] for row in read_metrics(run / stage / "metrics.jsonl")] for stage in STAGES}


def test_all_stages_in_one_run(trained, flow):
    assert sorted(folder.name for folder in trained.glob("[0-9]-*")) == list(STAGES)
    result = json.loads((trained / "result.json").read_text())
    assert result["model"] == str(trained / "model")
    assert "3-coclr-rgb_mining_precision" in result
    for folder, view in (("model", "rgb"), ("model-flow", "flow"), ("1-infonce-rgb", "rgb"), ("2-infonce-flow", "flow")):
        saved = load_config(trained / folder if folder.startswith("model") else trained / folder / "model")
        assert saved["view"] == view
        assert (saved["preprocessing"]["flow_input"] is not None) == (view == "flow")
        assert view == "rgb" or saved["preprocessing"]["flow_input"]["frames"] is False
    weights = load_weights(trained / "model")
    assert all(name.startswith("encoder.") for name in weights)  # neither keys nor the miner
    assert torch.equal(weights["encoder.conv_1a.conv1.weight"], load_weights(trained / "3-coclr-rgb/model")["encoder.conv_1a.conv1.weight"])
    out = load_encoder(trained)(torch.randint(0, 256, (4, 40, 50, 3), dtype=torch.uint8))
    assert out["projection"].shape == (1, 8)


def test_each_stage_starts_from_the_one_before_it_of_its_view(trained):
    """No step was taken while the queue of 4 was filled by the first two of three batches of 2, and the third took one."""
    for now, before in (("3-coclr-rgb", "1-infonce-rgb"), ("4-coclr-flow", "2-infonce-flow")):
        first = trained / now / "checkpoints" / "step-00000002" / "model.safetensors"
        from safetensors.torch import load_file

        saved = load_file(first)
        start = load_weights(trained / before / "model")
        assert torch.equal(saved["keyed.encoder.conv_1a.conv1.weight"], start["encoder.conv_1a.conv1.weight"])
        assert torch.equal(saved["keyed.key_encoder.conv_1a.conv1.weight"], start["encoder.conv_1a.conv1.weight"])
        assert (saved["keyed.queue.videos"] >= 0).all()
        other = load_weights(trained / ("2-infonce-flow" if now.endswith("rgb") else "3-coclr-rgb") / "model")
        assert torch.equal(saved["miner.encoder.conv_1a.conv1.weight"], other["encoder.conv_1a.conv1.weight"])
        after = load_weights(trained / now / "model")
        assert not torch.equal(after["encoder.conv_1a.conv1.weight"], start["encoder.conv_1a.conv1.weight"])


@pytest.mark.parametrize(("stage", "steps"), [("1-infonce-rgb", 1), ("3-coclr-rgb", 2), ("4-coclr-flow", 1)])
def test_killed_in_a_stage_it_goes_on_bit_for_bit(trained, videos, flow, stage, steps, tmp_path):
    copy = tmp_path / "killed"
    shutil.copytree(trained, copy)
    (copy / "result.json").unlink()
    for later in ("model", "model-flow", *STAGES[STAGES.index(stage) + 1 :]):
        shutil.rmtree(copy / later)
    shutil.rmtree(copy / stage / "model")
    for checkpoint in (copy / stage / "checkpoints").glob("step-*"):
        if int(checkpoint.name[5:13]) > steps:
            shutil.rmtree(checkpoint)
    assert vid("coclr-tiny", videos, copy, f"data.flow.folder={flow}", *MINING) == 0
    assert losses(copy) == losses(trained)
    for folder in ("model", "model-flow"):
        ours, theirs = load_weights(copy / folder), load_weights(trained / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_stages_follow_the_published_schedule():
    config = PretrainConfig(method={"name": "coclr-cycles"}, data={"flow": {"compute": {}}, "clip": {"frames": 32, "stride_frames": 1}})
    named = stages(config, Path("runs/x"))
    assert [name for name, _ in named] == [*STAGES, "5-coclr-rgb", "6-coclr-flow"]
    assert [settings.train.epochs for _, settings in named] == [300, 300, 100, 100, 100, 100]
    assert [settings.optim.milestones for _, settings in named] == [(250, 280)] * 2 + [(80,)] * 4
    assert [settings.view for _, settings in named] == ["rgb", "flow"] * 3
    starts = [(settings.init, getattr(settings.method, "miner", None)) for _, settings in named]
    of = {name[0]: f"runs/x/{name}" for name, _ in named}
    assert starts == [(None, None), (None, None), (of["1"], of["2"]), (of["2"], of["3"]), (of["3"], of["4"]), (of["4"], of["5"])]
    fresh = config.model_copy(update={"method": config.method.model_copy(update={"scratch": ("rgb",)})})
    starts = [settings.init for _, settings in stages(fresh, Path("runs/x"))]
    assert starts == [None, None, None, of["2"], of["3"], of["4"]]  # the second cycle goes on from the first


def test_labels_teach_and_a_classifier_starts_from_it(videos, tmp_path):
    assert vid("ubernce-tiny", videos, tmp_path / "uber", "data.preload=false") == 0
    tuned = [
        "finetune",
        "--preset",
        "classify/tiny",
        "--from",
        str(tmp_path / "uber"),
        "--data",
        str(videos),
        "--out",
        str(tmp_path / "tuned"),
    ]
    tuned += ["--set", "data.clip.frames=4", "--set", "train.batch_size=4", "--max-steps", "1", "--workers", "0", "-q"]
    assert main(tuned) == 0
    names = load_weights(tmp_path / "tuned" / "model")
    assert "encoder.conv_1a.conv1.weight" in names
    assert not any("projection" in name for name in names)


def refused(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_what_cannot_work_is_refused_before_training(trained, videos, flow, tmp_path, capsys):
    def told(preset: str, *sets: str) -> str:
        capsys.readouterr()
        assert vid(preset, videos, tmp_path / "never", *sets) in (2, 3)
        assert not (tmp_path / "never").exists()
        return capsys.readouterr().err

    both, rgb, by_flow = f"data.flow.folder={flow}", trained / "1-infonce-rgb", trained / "2-infonce-flow"
    assert "not a multiple of the 2 clips" in told("infonce-tiny", "method.queue=5")
    assert "method.queue=4" in told("infonce-tiny", "method.queue=5")
    assert "frozen encoder of the other view" in told("coclr-rgb-tiny", both, "method.topk=1")
    assert "needs flow beside the frames" in told("coclr-rgb-tiny", "data.flow=null", "method.topk=1")
    assert "topk (20) must be below" in told("coclr-rgb-tiny", both, f"method.miner={by_flow}")
    assert "was trained on rgb; to mine here" in told("coclr-rgb-tiny", both, "method.topk=1", f"method.miner={rgb}")
    mined = [both, "method.topk=1", f"method.miner={by_flow}"]
    assert "another architecture" in told("coclr-rgb-tiny", *mined, "model.width=0.1")
    assert "was trained on flow; to train here" in told("coclr-rgb-tiny", *mined, f"init={by_flow}")
    computed = ["data.flow.compute.method=dis", "data.flow.compute.short_side=48", "data.flow.compute.bound_px=8"]
    assert "flow that was computed otherwise" in told("coclr-rgb-tiny", "method.topk=1", f"method.miner={by_flow}", *computed)
    assert "set data.flow.frames to false" in told("infonce-flow-tiny", "data.flow.frames=true")
    assert "coclr-cycles starts both views from random weights" in told("coclr-tiny", both, *MINING, f"init={rgb}")


def test_flow_of_other_videos_is_refused_before_training(flow, videos, tmp_path, capsys):
    other = render_motion_set(tmp_path / "other", 1, 1, size=32, splits={"train": 1.0})
    capsys.readouterr()
    assert vid("infonce-flow-tiny", other, tmp_path / "never", f"data.flow.folder={flow}") == 3
    assert "is not of these videos" in capsys.readouterr().err
    copy = tmp_path / "flow"
    shutil.copytree(flow, copy)
    for file in copy.rglob("*.flow.zip"):
        with zipfile.ZipFile(file) as store:
            pictures = {name: store.read(name) for name in store.namelist()}
        facts = json.loads(pictures["video.json"])
        pictures["video.json"] = json.dumps({**facts, "n_frames": facts["n_frames"] + 1}).encode()
        with zipfile.ZipFile(file, "w") as store:
            for name, data in pictures.items():
                store.writestr(name, data)
    assert vid("infonce-flow-tiny", videos, tmp_path / "never", f"data.flow.folder={copy}") == 3
    assert "is of 25 frames, and 24 can be decoded here" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_labels_are_needed_where_they_teach(videos, tmp_path, capsys):
    (tmp_path / "bare.csv").write_text("path\n" + "\n".join(str(path) for path in sorted(videos.parent.rglob("*.mp4"))[:4]) + "\n")
    assert vid("ubernce-tiny", tmp_path / "bare.csv", tmp_path / "never") == 3
    assert "4 of 4 videos have no label" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["infonce-tiny", "ubernce-tiny", "coclr-rgb-tiny", "coclr-tiny"])
def test_plans_count_every_method(preset, capsys):
    assert main(["pretrain", "--preset", f"contrastive/{preset}", "--plan", "--assume", "videos=1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_network_on_flow_is_not_shown_colours(trained, videos, tmp_path, capsys):
    tuned = ["finetune", "--preset", "classify/tiny", "--data", str(videos), "--out", str(tmp_path / "never"), "-q"]
    told = refused(capsys, *tuned, "--from", str(trained / "2-infonce-flow"), "--set", "data.clip.frames=4")
    assert "would show it colours" in told
    assert "data.flow.frames=false" in told


def test_a_dry_run_names_the_stages(videos, flow, tmp_path, capsys):
    given = [word for key in (*TINY, *MINING, f"data.flow.folder={flow}") for word in ("--set", key)]
    assert main(["pretrain", "--preset", "contrastive/coclr-tiny", "--data", str(videos), *given, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"] == list(STAGES)


@pytest.mark.parametrize(("data", "queue", "siblings"), [("ucf101", 2048, True), ("k400", 16384, False), ("tiny", 512, False)])
def test_presets_of_one_data_set_agree(data, queue, siblings):
    """A preset that names another method takes over nothing of the one that it extends."""
    single = "" if data == "tiny" else "-rgb"
    presets = {name: resolve(Given(f"contrastive/{name}", (), {}, ()), "pretrain").config for name in names(data, single)}
    for name, config in presets.items():
        assert config.method.queue == queue, name
        assert config.method.momentum == (0.9 if data == "tiny" else 0.999), name
        assert config.method.temperature == 0.07, name
        assert getattr(config.method, "siblings", siblings) == siblings, name
        assert config.optim.base_lr == 1e-3, name


def names(data: str, single: str) -> list[str]:
    found = [f"infonce{single}-{data}", f"infonce-flow-{data}", f"coclr-rgb-{data}", f"coclr-flow-{data}", f"coclr-{data}"]
    return found + ([] if data == "k400" else [f"ubernce{single}-{data}"])
