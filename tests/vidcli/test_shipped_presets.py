"""Every preset that is shipped: it is valid, and its header says how it is used and what it takes."""

from pathlib import Path

import pytest

from vidcli import presets
from vidcli.resolve import Given, resolve

NAMES = presets.names()


def header(name: str) -> str:
    """The comment that a preset begins with, as one line."""
    lines = Path(presets.find(name).path).read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


PAPERS = ("predictive/", "contrastive/", "classify/coclr", "classify/dpc", "classify/memdpc", "classify/turbo")
SYSTEMS = [name for name in NAMES if name.startswith(PAPERS)]


def settings(name: str):
    """The configuration of a preset; one of testing gets a model, which has no default."""
    verb = presets.load(name).verb
    return resolve(Given(preset=name, flags=[("--model", "model", ["m"])] if verb == "eval" else []))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid(name):
    resolved = settings(name)
    assert resolved.task == name.split("/")[0]
    assert resolved.slug == name.replace("/", "-")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_header_says_command_hardware_cost_and_what_to_expect(name):
    told, found = header(name), presets.load(name)
    assert f"vid {'eval ' + found.task if found.verb == 'eval' else found.verb} --preset {name}" in told
    words = ("Hardware", "ost") if "tiny" in name else ("Hardware", "ost", "thesis")
    assert [word for word in words if word not in told] == []


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("classify/dpc-ucf101", "optim.milestones", (60, 80)),
        ("classify/dpc-hmdb51", "optim.milestones", (150, 250)),
        ("classify/dpc-ucf101-224", "optim.milestones", (300, 400)),
        ("classify/memdpc-ucf101", "optim.milestones", (300,)),
        ("classify/memdpc-hmdb51", "optim.milestones", (150,)),
        ("classify/memdpc-hmdb51", "head.dropout", 0.9),
        ("classify/memdpc-linear", "head.mode", "linear"),
        ("classify/memdpc-mlp", "head.mode", "mlp"),
        ("classify/memdpc-mlp", "head.norm", "batch"),
        ("classify/memdpc-ucf101-10percent", "data.fraction", 0.1),
        ("classify/memdpc-ucf101-20percent", "data.fraction", 0.2),
        ("classify/memdpc-ucf101-50percent", "data.fraction", 0.5),
        ("classify/memdpc-oops", "discrepancy", True),
        ("classify/memdpc-oops-frozen", "head.mode", "linear"),
        ("classify/coclr-hmdb51", "head.dropout", 0.9),
        ("classify/coclr-hmdb51", "encoder_lr", 0.1),
        ("classify/coclr-ucf101", "optim.base_lr", 1e-3),
        ("classify/coclr-linear-hmdb51", "head.norm", "l2-batch"),
        ("classify/memdpc-retrieval", "center", "none"),
        ("classify/coclr-retrieval", "center", "own"),
        ("classify/two-stream", "views.crops", 10),
        *(
            (f"classify/turbo-vitb-{data}-f{frames}", key, value)
            for data in ("breakfast", "coin")
            for frames, mask in ((16, 0.5), (32, 0.75), (64, 0.875))
            for key, value in (("turbo.mask", mask), ("turbo.reconstruct", 1 - mask), ("data.clip.sampling", "span"), ("views.clips", 10))
        ),
        *((f"classify/{name}", "optim.warmup_epochs", 0) for name in ("dpc-ucf101", "memdpc-linear", "coclr-hmdb51", "memdpc-oops")),
    ],
)
def test_values_of_the_downstream_recipes(name, key, value):
    found = settings(name).config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_transformers_takes_the_encoders_of_published_size_and_of_no_toy():
    """What the help of `vid convert` says."""
    from tasks.core.errors import NoCounterpart
    from tasks.core.nn.videomae import config_to_transformers

    taken = {}
    for name in presets.names():
        if name.startswith("masked/"):
            config = resolve(Given(name)).config
            try:
                config_to_transformers(config.model, name)
                taken[name] = not (config.augment.flow or config.data.flow)
            except NoCounterpart:
                taken[name] = False
    toys = {name for name in taken if name.endswith(("-tiny", "-gestures"))}
    assert toys
    assert {name for name, fits in taken.items() if not fits} == toys
