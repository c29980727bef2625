"""The aligner: what reaches what, padding, positions, stems."""

import pytest
import torch
from alignment_toys import SMALL, batch

from tasks.alignment.config import AlignerConfig, WordsConfig
from tasks.alignment.model import Aligner, pooled
from tasks.alignment.text import BagOfWords, Tokenizer, split_words, vocabulary_of

pytestmark = pytest.mark.usefixtures("float64")
KINDS = [{}, {"stem": 2, "pool": 3}, {"positions": None}, {"dual_layers": 0}, {"standardize": True}]


def built(**more) -> Aligner:
    torch.manual_seed(0)
    model = Aligner(AlignerConfig(**{**SMALL, **more}), 6, 12)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def given(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Features, sentence vectors and their masks; the last video is shorter."""
    made = batch(seed=seed)
    text = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(seed + 1))
    return made["video"].double(), text, made["video_mask"], made["text_mask"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_changes_nothing(kind):
    model, (video, text, seen, told) = built(**kind), given()
    whole = model(video, text, seen, told)
    alone = model(video[-1:, :16], text[-1:, :3], seen[-1:, :16], told[-1:, :3])
    for name in ("dual_video", "joint_video"):
        torch.testing.assert_close(getattr(whole, name)[-1:, :, :16], getattr(alone, name))
    torch.testing.assert_close(whole.joint_text[-1:, :, :3], alone.joint_text)
    torch.testing.assert_close(whole.alignable[-1:, :3], alone.alignable)
    noisy = model(torch.where(seen[..., None], video, 9.0), text, seen, told)
    torch.testing.assert_close(whole.joint_text[-1, :, :3], noisy.joint_text[-1, :, :3])


def test_sentences_see_each_other_in_the_joint_encoder_only():
    model, (video, text, seen, told) = built(), given()
    changed = text.clone()
    changed[:, 1] += 1
    before, after = (model(video, each, seen, told).similarities() for each in (text, changed))
    torch.testing.assert_close(before[0][:, 0], after[0][:, 0])
    assert not torch.allclose(before[1][:, 0], after[1][:, 0])
    assert not torch.allclose(before[0][:, 1], after[0][:, 1])


def test_positions_matter_and_longer_videos_lie_between_them():
    model, (video, _, seen, _) = built(), given()
    first, later = (model.dual_features(video, seen, offset) for offset in (0, 5))
    assert not torch.allclose(first, later)
    plain = built(positions=None)
    rolled = plain.dual_features(video[:2].roll(3, 1), seen[:2])
    torch.testing.assert_close(rolled, plain.dual_features(video[:2], seen[:2]).roll(3, 2))
    long = torch.randn(1, 100, 6)
    assert model.dual_features(long, torch.ones(1, 100, dtype=torch.bool)).shape == (1, 2, 100, 16)


def test_stages_are_the_inputs_of_layers_and_the_end():
    model, (video, text, seen, told) = built(dual_layers=3), given()
    found = model(video, text, seen, told)
    assert found.dual_video.shape == (3, 3, 20, 16)
    assert found.joint_video.shape == (3, 2, 20, 16)
    torch.testing.assert_close(found.dual_video.norm(dim=-1), torch.ones(3, 3, 20))


def test_the_head_reads_the_stage_that_it_is_told():
    model, inputs = built(joint_layers=3, head_layer=2), given()
    found = model(*inputs)
    video, text, *masks = inputs
    both = torch.cat([model.see(video, masks[0]), model.norm_text(model.text_in(text))], 1)
    stages = model._encode(model.joint, model.norm_joint, both, torch.cat(masks, 1))
    torch.testing.assert_close(found.alignable, model.head(stages[:, 1, 20:])[..., 0])


def test_means_over_neighbours_that_are_there():
    x = torch.arange(5.0).reshape(1, 5, 1)
    seen = torch.tensor([[True, True, True, False, False]])
    assert pooled(x, seen, 3)[0, :3, 0].tolist() == [0.5, 1.0, 1.5]


def test_words():
    assert split_words("Let's add Öl_2, NOW!") == ["let's", "add", "öl_2", "now"]
    assert vocabulary_of(["b a", "b c"]) == ["b", "a", "c"]
    tokens = Tokenizer(["b", "a"], 3)
    assert tokens(["a b x a", ""]).tolist() == [[2, 1, 0], [0, 0, 0]]
    assert tokens.cut(["a b a", "a b x a"]) == ["a b x a"]


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_padding_words_and_their_order_do_not_matter(pool):
    torch.manual_seed(0)
    tower = BagOfWords(WordsConfig(embedding=8, hidden=16, width=12, pool=pool), 5)
    found = tower(torch.tensor([[1, 3, 0, 0], [3, 1, 0, 0]]))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], tower(torch.tensor([1, 3])))
    assert torch.isfinite(tower(torch.zeros(1, 4, dtype=torch.int64))).all()
    assert not BagOfWords(WordsConfig(frozen=True), 5).embedding.weight.requires_grad
