"""What strangers may put on the Hub or into an archive: each is one clear line and exit 2, and nothing is executed."""

import json
import pickle

import pytest
import torch
from hub_server import Hub
from hub_session import environment, python, session
from painted import write_video
from safetensors.torch import save, save_file
from tiny_classifier import tiny_classifier

from tasks.core.checkpoint import save_model
from tasks.core.nn.config import VitConfig

VIT = {"size": "tiny", "dim": 16, "depth": 1, "heads": 2, "image_size": 16, "frames": 2, "tubelet": 2, "patch": 8}
GOOD = "extends: masked/tats-tiny\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))

PRESETS = {
    "parent.yaml": ("extends: ../../../x.yaml\n", "leaves its repository"),
    "absolute.yaml": ("extends: /etc/passwd\n", "leaves its repository"),
    "home.yaml": ("extends: ~/x.yaml\n", "is not a Hub reference"),
    "revision.yaml": ("extends: hf://evil/presets@../../../x\n", "is not a Hub reference"),
    "init.yaml": (GOOD + "init: ../../../runs/mine\n", "init names a place outside of the repository: '../../../runs/mine'"),
    "data.yaml": (GOOD + "data: {train: [ok.csv, /etc/passwd]}\n", "data.train[1] names a place outside of the repository"),
    "windows.yaml": (GOOD + "init: 'C:\\x'\n", "init names a place outside"),
    "child.yaml": ("extends: data.yaml\n", "data.yaml@"),
    "tag.yaml": (GOOD + "train: !!python/object/apply:os.system ['touch executed']\n", "could not determine a constructor for the tag"),
    "bomb.yaml": (GOOD + BOMB, "once aliases are written out"),
    "chain.yaml": (GOOD + CHAIN, "nested deeper than"),
    "merges.yaml": (GOOD + MERGES, "once aliases are written out"),
    "self.yaml": (GOOD + "train: &t {seed: *t}\n", "contains itself"),
    "deep.yaml": (GOOD + "train: " + "[" * 5000, "nested deeper than"),
    "long.yaml": (GOOD + f"train: [{'1, ' * 30_000}]\n", "more than"),
    "base60.yaml": (GOOD + "train: {seed: 1" + ":59" * 100_000 + "}\n", "a number of"),
    "big.yaml": ("#" * 1_000_001, "larger than 1 MB"),
    "unknown.yaml": (
        GOOD + "train: {epochs: 3, on_finish: rm -rf}\n",
        "train.on_finish: unknown key (from preset hf://evil/presets/unknown.yaml@",
    ),
    "escape.yaml": (GOOD + 'train: {"\\e[2J\\n": 1}\n', r"'\x1b[2J\n' cannot be a key"),
    "task.yaml": ('task: "ma\\e[2Jsked"\nverb: pretrain\n', "'task' must be text of one line"),
    "verb.yaml": ("task: ../../x\nverb: pretrain\n", "unknown task"),
    "bytes.yaml": (b"\xff\xfe\x00\x01", "not UTF-8"),
    "control.yaml": (GOOD + "# \x1b[2J\n", "special characters are not allowed"),
    "weights.safetensors": ("x", "is not a preset: a preset is a .yaml file"),
    **{f"far{n}.yaml": (f"extends: far{n + 1}.yaml\n", "more than 16 ancestors" if n == 0 else None) for n in range(20)},
}


def one_line(err, message):
    """What was said is one error of one line, with at most a hint, and contains `message`."""
    lines = [line for line in err.splitlines() if not line.startswith(("licence:", "fetching", "run folder:"))]
    assert message in lines[0], err
    assert lines[0].startswith("error: ")
    assert [line.split(":")[0] for line in lines[1:]] in ([], ["hint"]), err
    assert all(line.isprintable() for line in lines)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Folder, and what `vid presets show` says of every preset in `PRESETS`: one process for all of them."""
    folder = tmp_path_factory.mktemp("presets")
    with Hub() as hub:
        hub.add("evil/presets", {name: text for name, (text, _) in PRESETS.items()})
        commands = [["presets", "show", f"hf://evil/presets/{name}", "--resolved"] for name in PRESETS]
        return folder, dict(zip(PRESETS, session(environment(hub, folder / "home"), folder, *commands), strict=True))


@pytest.mark.parametrize("name", [name for name, (_, message) in PRESETS.items() if message])
def test_a_preset(shown, name):
    code, out, err = shown[1][name]
    assert (code, out) == (2, ""), err
    one_line(err, PRESETS[name][1])


def test_no_preset_wrote_anything(shown):
    assert [path.name for path in shown[0].iterdir()] == ["home"]


def test_a_preset_is_checked_whatever_is_done_with_it(tmp_path):
    with Hub() as hub:
        hub.add("evil/presets", {"control.yaml": PRESETS["control.yaml"][0], "init.yaml": PRESETS["init.yaml"][0]})
        told = session(
            environment(hub, tmp_path / "home"),
            tmp_path,
            ["presets", "show", "hf://evil/presets/control.yaml"],
            ["presets", "cp", "hf://evil/presets/control.yaml", "mine.yaml"],
            ["presets", "pull", "hf://evil/presets/init.yaml"],
            ["pretrain", "--preset", "hf://evil/presets/init.yaml", "--data", "x", "--dry-run"],
            ["config", "show", "--preset", "hf://evil/presets/init.yaml"],
        )
    messages = ["special characters"] * 2 + ["init names a place outside"] * 3
    for (code, out, err), message in zip(told, messages, strict=True):
        assert (code, out) == (2, "")
        one_line(err, message)


class Trap:
    """Executed by whoever unpickles it."""

    def __reduce__(self):
        return exec, ("open('executed', 'w')",)


def classifier():
    """(weights, config.json) of a small classifier that is in order."""
    module, config = tiny_classifier(VitConfig(**VIT))
    return module.state_dict(), config


def model(change=None, **facts):
    """Files of a model repository: weights after `change`, config.json with other `facts`."""
    weights, config = classifier()
    if change:
        change(weights)
    return {"model.safetensors": save(weights), "config.json": json.dumps({**config, **facts})}


def with_nan(weights):
    weights[min(weights)].view(-1)[-1] = float("nan")


def with_other_shape(weights):
    weights["encoder.blocks.0.norm1.weight"] = torch.zeros(17)


def with_more(weights):
    weights |= {f"more.{n:05}": torch.zeros(1) for n in range(3000)}


MODELS = {
    "pickle": ({**model(), "model.safetensors": pickle.dumps(Trap())}, "is a pickle, which is never read"),
    "zip": ({**model(), "model.safetensors": b"PK\x03\x04" + b"x" * 100}, "is a pickle, which is never read"),
    "only-pickles": (
        {"config.json": model()["config.json"], "pytorch_model.bin": pickle.dumps(Trap())},
        "only pickles (pytorch_model.bin)",
    ),
    "shape": (model(with_other_shape), "encoder.blocks.0.norm1.weight has shape (17,), not (16,)"),
    "keys": (model(with_more), "do not fit this model: unexpected more.00000"),
    "nan": (model(with_nan), "holds NaN or infinite weights"),
    "header": ({**model(), "model.safetensors": b"\xff" * 64}, "not a readable safetensors file"),
    "labels": (model(labels=["a", "\x1b[2J"]), "'labels' must be a list of names"),
    "architecture": (model(architecture={**VIT, "dim": "\x1b[2J"}), "config.json does not fit: VitConfig.dim"),
    "other-key": (model(architecture={**VIT, "\x1b[2J": 1}), r"config.json does not fit: VitConfig.\x1b[2J"),
    "no-json": ({**model(), "config.json": "{"}, "cannot be read"),
    "deep-json": ({**model(), "config.json": "[" * 100_000}, "cannot be read"),
    "width": (model(architecture={**VIT, "dim": 10**6}), "describes a far larger one"),
    "width-past-64-bit": (model(architecture={**VIT, "dim": 2 * 10**17}), "describes no network"),
    "depth": (model(architecture={**VIT, "depth": 10**5}), "config.json does not fit: VitConfig.depth"),
    "deep": (model(architecture={**VIT, "depth": 1000}), "describes a far larger one"),
    "picture": (model(architecture={**VIT, "image_size": 8 * 10**6}), "config.json does not fit: VitConfig"),
    "patch": (model(architecture={**VIT, "image_size": 2**20, "patch": 2**20}), "describes a far larger one"),
    "frames": (model(preprocessing={"image_size": 16, "frames": 10**12}), "preprocessing.frames must be a whole number"),
    "short-side": (model(preprocessing={"image_size": 16, "short_side": 10**6}), "preprocessing.short_side must be a whole number"),
    "paths": ({**model(), "../../../evil.json": "{}"}, "cannot get hf://evil/paths"),
}


VIDEOS = "path,label\nnone.mp4,a\n"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Folder, and what `vid eval classify` says of every model in `MODELS`: one process for all of them."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "videos.csv").write_text(VIDEOS)
    with Hub() as hub:
        for name, (files, _) in MODELS.items():
            hub.add(f"evil/{name}", files)
        commands = [["eval", "classify", "--model", f"hf://evil/{name}", "--data", "videos.csv", "--clips", "1"] for name in MODELS]
        return folder, dict(zip(MODELS, session(environment(hub, folder / "home"), folder, *commands), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_model(evaluated, name):
    code, out, err = evaluated[1][name]
    assert (code, out) == (2, ""), err
    one_line(err, MODELS[name][1])


def test_no_model_wrote_anything(evaluated):
    assert sorted(path.name for path in evaluated[0].iterdir()) == ["home", "videos.csv"]


@pytest.mark.parametrize("link", ["model.safetensors", "config.json", "README.md", "more"])
def test_links_out_of_the_folder(tmp_path, vid, link):
    """Read: a file of the model is a link to somewhere else. Publish: any file is."""
    weights, config = classifier()
    folder, videos = tmp_path / "evil", tmp_path / "videos.csv"
    videos.write_text(VIDEOS)
    save_model(folder, weights, {**config, "method": "x"}, "# card")
    secret = tmp_path / "secret"
    secret.write_text("{}")
    if link.endswith("safetensors"):
        save_file(weights, secret)
    (folder / link).unlink(missing_ok=True)
    (folder / link).symlink_to(secret if link != "more" else tmp_path)
    if link in ("model.safetensors", "config.json"):
        code, _, err = vid("eval", "classify", "--model", folder, "--data", videos)
        assert code == 2
        one_line(err, "is a link that leads out of its folder")
    code, _, err = vid("publish", folder, "--repo", "org/name", "--dry-run")
    assert code == 2
    one_line(err, "is a link that leads out of its folder")


def giants():
    """(folder name, weights, config.json, command) of models that ask for far more memory than this machine has."""
    weights, config = classifier()
    vit, wide = {**config, "architecture": {**VIT, "dim": 10**6}}, {"task": "boundaries", "method": "gebd", "labels": []}
    wide |= {"architecture": {"size": "resnet18", "width": 10**6, "motion": None}, "preprocessing": {"crop": "center", "short_side": 32}}
    wide |= {"window": {"before": 3, "stride_frames": 1}, "merge": {}}
    wide["preprocessing"] |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    networks = {"parts": ["appearance"], "autoencoder": {"width": 1e5}, "flow": {}, "semantic": None}
    semantic = {"features": 10**9, "hidden": 10**9, "normalize": False, "encoder": {"kind": "vit", "architecture": VIT}}
    known = {part: {"mean": 0.0, "std": 1.0, "low": 0.0, "high": 1.0} for part in ("appearance", "semantic")}
    anomaly = {"task": "anomalies", "method": "x", "weights": [1, 1, 1], "calibration": known, "preprocessing": {"short_side": 32}}
    return {
        "knn": (weights, vit, ["eval", "classify", "--protocol", "knn", "--gallery", "t.csv", "--data", "v.csv", "--model"]),
        "onnx": (weights, vit, ["convert", "--to", "onnx", "-o", "x"]),
        "transformers": (weights, vit, ["convert", "--to", "transformers", "-o", "x"]),
        "masked": (
            weights,
            {**vit, "task": "masked", "decoder": {"depth": 1000}, "architecture": VIT},
            ["convert", "--to", "transformers", "-o", "x"],
        ),
        "finetune": (
            weights,
            vit,
            ["finetune", "--preset", "classify/tiny", "--set", "data.clip.frames=2", "--data", "v.csv", "--val", "v.csv", "--from"],
        ),
        "boundaries": (weights, wide, ["detect-boundaries", "v.mp4", "--out", "x", "--model"]),
        "boundary-finetune": (
            weights,
            wide,
            ["finetune", "--preset", "boundaries/gebd-tiny", "--set", "model=null", "--data", "v.json", "--val", "v.json", "--from"],
        ),
        "anomalies": (weights, {**anomaly, "architecture": networks}, ["detect-anomalies", "v.mp4", "--out", "x", "--model"]),
        "semantic": (
            weights,
            {**anomaly, "architecture": {**networks, "parts": ["semantic"], "semantic": semantic}},
            ["detect-anomalies", "v.mp4", "--out", "x", "--model"],
        ),
    }


LITTLE_MEMORY = """
import resource, sys, torch
from hub_session import SESSION
own = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (own + 3 * 2**30,) * 2)
exec(SESSION)
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What `vid` says of every giant: one process, which gets 3 GiB of address space more than torch itself takes."""
    folder = tmp_path_factory.mktemp("giants")
    annotation = {"path": "v.mp4", "num_frames": 8, "fps": 8.0, "video_duration": 1.0, "f1_consis": [1.0], "f1_consis_avg": 1.0}
    annotation |= {"substages_timestamps": [[0.5]]}
    (folder / "v.csv").write_text("path,label\nv.mp4,a\n")
    (folder / "t.csv").write_text("path,label,start,end\nv.mp4,a,0,0.5\n")
    (folder / "v.json").write_text(json.dumps({"v": annotation}))
    write_video(folder / "v.mp4", n=8)
    commands = []
    for name, (weights, config, command) in giants().items():
        save_model(folder / name, weights, {"method": "x", **config}, "# card")
        commands.append([*command[:1], name, *command[1:]] if command[0] == "convert" else [*command, name])
    with Hub() as hub:
        said = python(LITTLE_MEMORY, environment(hub, folder / "home", OMP_NUM_THREADS="1"), folder, json.dumps(commands))
    return dict(zip(giants(), json.loads(said.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", giants())
def test_a_model_that_asks_for_more_than_it_has(loaded, name):
    code, out, err = loaded[name]
    assert (code, out) == (2, ""), err
    one_line(err, "do not fit this model: its config.json describes a far larger one")
