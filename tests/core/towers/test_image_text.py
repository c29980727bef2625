"""Image-text models by one name, whoever trained them."""

import numpy as np
import pytest
import torch
from clip_toys import clip_folder
from encoder_toys import FRAMES, encoder_folder
from torch.nn.functional import normalize

from tasks.core.errors import UsageError
from tasks.core.towers import load_image_tower, load_pair, load_text_tower

PICTURE = np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), np.uint8)


def test_a_clip_model_is_its_two_towers(tmp_path):
    clip = str(clip_folder(tmp_path / "clip"))
    pair, image, text = load_pair(clip), load_image_tower(clip), load_text_tower(clip)
    torch.testing.assert_close(pair.encode_pictures(PICTURE), normalize(image(PICTURE)["pooled"], dim=1))
    torch.testing.assert_close(pair.encode_text(["a red square"]), normalize(text(["a red square"]), dim=1))
    assert (pair.has_text, pair.dim) == (True, 20)
    assert pair.scale == pytest.approx(14.0)
    assert (pair.picture_hash, pair.text_hash) == (image.source["weights_hash"], text.source["weights_hash"])


def test_only_the_side_that_is_asked_for_is_read(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    (clip / "vocab.json").unlink()
    pair = load_pair(str(clip))
    assert pair.encode_pictures(PICTURE).shape == (1, 20)
    with pytest.raises(UsageError, match="vocab"):
        pair.encode_text(["a red square"])


def test_an_encoder_without_words_says_so(tmp_path):
    encoder_folder(tmp_path / "model", "vit", "masked")
    pair = load_pair(str(tmp_path / "model"))
    assert not pair.has_text
    assert pair.encode_pictures(np.repeat(PICTURE, FRAMES, 0)).norm() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(UsageError, match="has no text tower: it knows no words"):
        pair.encode_text(["a red square"])


def test_what_is_too_long_for_the_text_tower_is_known(tmp_path):
    pair = load_pair(str(clip_folder(tmp_path / "clip")))
    assert not pair.text_is_cut("a red square")
    assert pair.text_is_cut("a red square moves " * 20)


def test_what_is_not_there_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_pair(str(tmp_path / "none"))
