"""Checkpoints with the public names, in and out."""

import pytest
import torch

from tasks.contrastive.convert import BLOCKS, convert, export
from tasks.core.checkpoint import load_config, load_weights, save_model
from tasks.core.convert import PUBLISHED
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import S3DConfig
from tasks.core.nn.s3d import S3D
from tasks.core.reporter import Quiet
from tasks.core.towers import load_encoder
from vidcli.app import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder at the published size."""
    torch.manual_seed(0)
    folder, settings = tmp_path_factory.mktemp("s3d") / "model", S3DConfig(projection=128)
    weights = {f"encoder.{name}": tensor for name, tensor in S3D(settings).state_dict().items()}
    saved = {"library": "vid", "task": "contrastive", "method": "coclr", "architecture": settings.model_dump()}
    save_model(folder, weights, {**saved, "preprocessing": {}, "provenance": {}}, "# card\n")
    return folder


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    """Tensors of a checkpoint of pretraining."""
    folder = tmp_path_factory.mktemp("theirs") / "out"
    export(model, "coclr", folder, Quiet())
    return torch.load(folder / PUBLISHED, weights_only=True)["state_dict"]


def written(tmp_path, tensors, **more):
    torch.save({"epoch": 1, "state_dict": tensors, "best_acc": 0.5, **more}, tmp_path / "ckpt.pth.tar")
    return tmp_path / "ckpt.pth.tar"


def test_out_and_in_again_is_the_same(model, theirs, tmp_path):
    assert len(theirs) == 2 * len(S3D(S3DConfig(width=0.05)).state_dict()) + 4
    assert {name.split(".")[2] for name in theirs if name.startswith("encoder_q.0.block")} == {block.split(".")[0] for block in BLOCKS}
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.items()}
    wrapped |= {"module.queue": torch.zeros(128, 4), "module.encoder_k.0.x": torch.zeros(1), "module.sampler.0.x": torch.zeros(1)}
    result = convert(written(tmp_path, wrapped), "coclr", tmp_path / "again", Quiet())
    assert result["parameters"] == 7_910_048 + 1_180_800
    ours, found = load_weights(model), load_weights(tmp_path / "again")
    assert ours.keys() == found.keys()
    assert all(torch.equal(ours[name], found[name]) for name in ours)
    assert load_config(tmp_path / "again")["preprocessing"]["frames"] == 32


def test_a_backbone_without_a_head(theirs, tmp_path):
    bare = {name: tensor for name, tensor in theirs.items() if name.startswith("encoder_q.0.")}
    convert(written(tmp_path, bare), "coclr", tmp_path / "model", Quiet())
    assert load_encoder(tmp_path / "model").network.projection is None


@pytest.mark.parametrize("linear", [False, True])
def test_a_classifier_comes_with_its_head(theirs, linear, tmp_path):
    backbone = {name.replace("encoder_q.0.", "backbone."): t for name, t in theirs.items() if name.startswith("encoder_q.0.")}
    place = "final_fc.0." if linear else "final_fc.1."
    tensors = {**backbone, f"{place}weight": torch.randn(5, 1024), f"{place}bias": torch.zeros(5)}
    if linear:
        norm = torch.nn.BatchNorm1d(1024).state_dict()
        tensors |= {f"final_bn.{name}": tensor for name, tensor in norm.items()}
    assert main(["convert", str(written(tmp_path, tensors)), "--from", "coclr", "-o", str(tmp_path / "model"), "-q"]) == 0
    saved = load_config(tmp_path / "model")
    assert (saved["task"], saved["head"]["norm"]) == ("classify", "l2-batch" if linear else "none")
    from tasks.classify.evaluate import load_classifier

    classifier, _ = load_classifier(str(tmp_path / "model"))
    clip = torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        feature = classifier.encoder.outputs(clip)["pooled"]
        if linear:
            feature = torch.nn.functional.normalize(feature, dim=1) / (1 + 1e-5) ** 0.5
        expected = feature @ tensors[f"{place}weight"].T
        torch.testing.assert_close(classifier(clip), expected, rtol=1e-4, atol=1e-5)
    export(tmp_path / "model", "coclr", tmp_path / "back", Quiet())
    back = torch.load(tmp_path / "back" / PUBLISHED, weights_only=True)["state_dict"]
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t | {"encoder_q.0.Conv_9z.weight": torch.zeros(1)}, "conv_9z"),
        (lambda t: t | {"something": torch.zeros(1)}, "'something'"),
        (lambda t: {k: v for k, v in t.items() if "Mixed_5c.branch3" not in k and "block5.2.branch3" not in k}, "missing"),
        (lambda t: t | {"encoder_q.0.block1.0.bn1.bias": torch.ones(64)}, "two different tensors"),
    ],
)
def test_what_does_not_fit_is_named(theirs, change, told, tmp_path):
    with pytest.raises(InputError) as error:
        convert(written(tmp_path, change(dict(theirs))), "coclr", tmp_path / "model", Quiet())
    assert told in error.value.message
    assert not (tmp_path / "model").exists()


def test_other_encoders_have_no_public_names(tmp_path):
    settings = S3DConfig(width=0.05, image_size=32)
    weights = {f"encoder.{name}": tensor for name, tensor in S3D(settings).state_dict().items()}
    saved = {"library": "vid", "task": "contrastive", "method": "infonce", "architecture": settings.model_dump()}
    save_model(tmp_path / "tiny", weights, {**saved, "preprocessing": {}, "provenance": {}}, "# card\n")
    with pytest.raises(UsageError, match="not an S3D of coclr at its published width"):
        export(tmp_path / "tiny", "coclr", tmp_path / "out", Quiet())


def test_a_network_on_public_flow_gives_the_same_on_ours(theirs, tmp_path):
    """Their pictures hold (128, v, u), ours (u, v, 128), and every channel is normalised with the numbers of its place there."""
    told = main(["convert", str(written(tmp_path, theirs)), "--from", "coclr", "--flow", "-o", str(tmp_path / "flow"), "-q"])
    assert told == 0
    convert(tmp_path / "ckpt.pth.tar", "coclr", tmp_path / "public", Quiet())
    ours, public = load_encoder(tmp_path / "flow"), load_encoder(tmp_path / "public")
    saved = load_config(tmp_path / "flow")
    assert (saved["view"], saved["preprocessing"]["flow_input"]["channels"]) == ("flow", 3)
    pictures = torch.rand(1, 8, 3, 32, 32)  # (u, v, 128)

    def normalised(shown: torch.Tensor, folder: str) -> torch.Tensor:
        look = load_config(tmp_path / folder)["preprocessing"]
        mean, std = (torch.tensor(look[name]).view(3, 1, 1) for name in ("mean", "std"))
        return (shown - mean) / std

    with torch.no_grad():
        found = ours(normalised(pictures, "flow"))["pooled"]
        expected = public(normalised(pictures.flip(2), "public"))["pooled"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    export(tmp_path / "flow", "coclr", tmp_path / "back", Quiet())
    back = torch.load(tmp_path / "back" / PUBLISHED, weights_only=True)["state_dict"]
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)
