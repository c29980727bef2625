"""Inpainting pipelines of diffusers that lie on the Hub: loaded, and refused where they ask for more than they hold."""

import json

import pytest
import tiny_models
from hub_server import Hub
from hub_session import environment, python
from test_latent import stable_diffusion  # noqa: F401 - a fixture

LOAD = """
import json, resource, sys, torch
from tasks.core.errors import UsageError
from tasks.pseudo import pipeline
from tasks.pseudo.config import GenerateConfig
import diffusers, transformers
own = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (own + 3 * 2**30,) * 2)
told = []
for name in sys.argv[1:]:
    try:
        told.append(pipeline.load(GenerateConfig(model=name, steps=2), torch.device("cpu")).facts)
    except UsageError as error:
        told.append(error.message)
print(json.dumps(told))
"""


START = """
import json, sys
import tiny_models
from tasks.core.errors import UsageError
from tasks.pseudo import pretrain
told = []
for name in sys.argv[2:]:
    config = tiny_models.config(init=name, data={"train": [sys.argv[1]], "clip": {"frames": 1}})
    try:
        pretrain.check(config)
        told.append(float(pretrain.build(config).unet.conv_in.weight.detach().sum()))
    except UsageError as error:
        told.append(error.message)
print(json.dumps(told))
"""


def test_training_starts_from_a_latent_model_on_the_hub(tmp_path, stable_diffusion):  # noqa: F811
    own = tiny_models.folder_of(tmp_path / "own", seed=3)
    video = tiny_models.write_video(tmp_path / "v.mp4", 4)

    def files(folder):
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with Hub() as hub:
        hub.add("org/own", files(own))
        hub.add("org/text", files(stable_diffusion))
        env = environment(hub, tmp_path / "home", OMP_NUM_THREADS="1")
        names = ["hf://org/own", "hf://org/text", "hf://org/own/unet", "hf://org/none", str(stable_diffusion)]
        told = json.loads(python(START, env, tmp_path, str(video), *names).splitlines()[-1])
    assert told[0] == pytest.approx(float(tiny_models.parts(3)[1].conv_in.weight.detach().sum()), abs=1e-5)
    assert "is not a latent inpainting model" in told[1]
    assert "give the repository" in told[2]
    assert "there is no hf://org/none" in told[3]
    assert "is not a latent inpainting model" in told[4]


def test_pipelines_on_the_hub(tmp_path, stable_diffusion):  # noqa: F811
    good = {path.relative_to(stable_diffusion).as_posix(): path.read_bytes() for path in stable_diffusion.rglob("*") if path.is_file()}
    good["README.md"] = "---\nlicense: openrail\n---\n"

    def changed(file, **settings):
        return {**good, file: json.dumps({**json.loads(good[file]), **settings})}

    repos = {
        "good": (good, None),
        "unet": (changed("unet/config.json", block_out_channels=[10**6, 10**6]), "describes a far larger one"),
        "text": (changed("text_encoder/config.json", hidden_size=10**6, num_attention_heads=10), "describes a far larger one"),
        "index": ({**good, "model_index.json": "[" * 100_000}, "cannot be read"),
        "list": ({**good, "model_index.json": "[]"}, "cannot be read"),
        "nothing": ({**good, "model_index.json": "{}"}, "cannot be loaded for inpainting"),
        "code": (
            {**good, "unet/my.py": "raise SystemExit", **changed("model_index.json", unet=["my", "Net"])},
            "comes with code (my.py), which is never executed",
        ),
    }
    with Hub() as hub:
        for name, (files, _) in repos.items():
            hub.add(f"evil/{name}", files)
        names, env = [f"hf://evil/{name}" for name in repos], environment(hub, tmp_path / "home", OMP_NUM_THREADS="1")
        said = json.loads(python(LOAD, env, tmp_path, *names).splitlines()[-1])
    (again,) = json.loads(python(LOAD, {**env, "HF_HUB_OFFLINE": "1"}, tmp_path, "hf://evil/good").splitlines()[-1])
    told = dict(zip(repos, said, strict=True))
    assert again == told["good"]
    assert (told["good"]["kind"], told["good"]["licence"]) == ("StableDiffusionInpaintPipeline", "openrail")
    for name, (_, message) in repos.items():
        if message is not None:
            assert isinstance(told[name], str), told[name]
            assert message in told[name]
            assert "\n" not in told[name]
