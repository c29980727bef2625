"""Published weights become model folders, by name and whole."""

import pickle

import pytest
import torch
import torchvision

from tasks.boundaries import pretrain
from tasks.boundaries.config import ContrastConfig, PretrainConfig
from tasks.boundaries.convert import convert
from tasks.boundaries.weights import load_encoder
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.resnet_tsm import MotionResNet
from tasks.core.reporter import Quiet


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    tensors = torchvision.models.resnet50().state_dict()
    return {name: tensor.half().float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def moco(state, tmp_path_factory):
    """A checkpoint as MoCo's code writes it."""
    generator = torch.Generator().manual_seed(0)
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    fc = {
        "fc.0.weight": torch.randn(2048, 2048, generator=generator),
        "fc.0.bias": torch.zeros(2048),
        "fc.2.weight": torch.randn(128, 2048, generator=generator),
        "fc.2.bias": torch.ones(128),
    }
    tensors = {f"module.encoder_q.{name}": tensor for name, tensor in (body | fc).items()}
    tensors |= {"module.queue": torch.zeros(128, 4), "module.queue_ptr": torch.zeros(1)}
    tensors |= {"module.encoder_k.conv1.weight": torch.zeros(1)}
    file = tmp_path_factory.mktemp("moco") / "moco.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet50", "state_dict": tensors}, file)
    return file, body, fc


def test_moco_starts_encoder_and_all_heads(moco, tmp_path):
    file, body, fc = moco
    result = convert(file, "moco-v2", tmp_path / "model", Quiet())
    assert result["model"] == str(tmp_path / "model")
    method = pretrain.build(PretrainConfig(contrast=ContrastConfig(queue=8), init=str(tmp_path / "model")))
    for encoder in (method.encoder, method.key_encoder):
        assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in body.items())
    for heads in (method.heads, method.key_heads):
        for task in ("inter", "intra", "segment", "order"):
            assert all(torch.equal(heads[task].state_dict()[name.removeprefix("fc.")], tensor) for name, tensor in fc.items())
    moved, key = method.encoder.motion.state_dict(), method.key_encoder.motion.state_dict()
    assert all(torch.equal(tensor, key[name]) for name, tensor in moved.items())


def test_torchvision_with_and_without_counters(state, tmp_path):
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "resnet50.pth")
    convert(tmp_path / "resnet50.pth", "torchvision-resnet50", tmp_path / "model", Quiet())
    convert(tmp_path / "resnet50.pth", "torchvision-resnet50", tmp_path / "model", Quiet())  # its own folder is replaced
    encoder = MotionResNet(ResNetConfig())
    assert load_encoder(encoder, str(tmp_path / "model")) == {}
    theirs = torchvision.models.resnet50()
    theirs.load_state_dict(state)
    frames = torch.rand(1, 3, 64, 64)
    plain = torch.nn.Sequential(*list(theirs.eval().children())[:-2])
    assert torch.equal(encoder.eval()(frames), plain(frames))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer3.2.conv2.weight"), "missing layer3.2.conv2.weight"),
        (lambda s: s.update({"layer5.weight": torch.zeros(1)}), "unexpected layer5.weight"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), "conv1.weight has shape"),
        (lambda s: s.pop("fc.bias"), "lacks fc.bias"),
    ],
)
def test_every_tensor_must_have_its_place(state, tmp_path, change, message):
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "resnet50.pth")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "resnet50.pth", "torchvision-resnet50", tmp_path / "model", Quiet())
    assert not (tmp_path / "model").exists()


class Evil:
    def __reduce__(self):
        return (open, ("never-made", "w"))


def test_a_file_with_code_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    with pytest.raises(InputError, match="cannot be read as tensors"):
        convert(tmp_path / "evil.pth", "moco-v2", tmp_path / "model", Quiet())
    assert not (tmp_path / "never-made").exists()


def test_what_is_not_a_checkpoint_is_named(state, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        convert(tmp_path / "nothing.pth", "moco-v2", tmp_path / "model", Quiet())
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no state dict"):
        convert(tmp_path / "list.pth", "moco-v2", tmp_path / "model", Quiet())
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"no MoCo v2 checkpoint: it has conv1\.weight"):
        convert(tmp_path / "other.pth", "moco-v2", tmp_path / "model", Quiet())
    with pytest.raises(UsageError, match="cannot convert from 'moco'"):
        convert(tmp_path / "other.pth", "moco", tmp_path / "model", Quiet())


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no model"):
        convert(tmp_path / "any.pth", "moco-v2", tmp_path, Quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_reports(state, tmp_path):
    import typer
    from typer.testing import CliRunner

    from vidcli.commands import convert as command

    torch.save(state, tmp_path / "resnet50.pth")
    app = typer.Typer()
    app.command("convert", help=command.HELP, epilog=command.EXAMPLES)(command.command)
    done = CliRunner().invoke(app, [str(tmp_path / "resnet50.pth"), "--from", "torchvision-resnet50", "-o", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model" / "model.safetensors").exists()
