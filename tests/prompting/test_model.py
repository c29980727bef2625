"""Prompts around names and the transformer over frames: layout, masks, gradients, counts."""

import math

import prompting_toys as toys
import pytest
import torch
import torch.nn.functional as F

from tasks.prompting.config import PromptConfig, PromptedConfig, TemporalConfig
from tasks.prompting.model import PromptedModel, Prompts, Temporal, scores
from tasks.prompting.names import pad


def put(names: list[int], before: int, after: int, layout: str = "vectors", context: int = 40):
    """Texts of one channel in which a token is its number: start 1, end 2, names from 10, learned vectors from 100."""
    prompts = Prompts(PromptConfig(before=before, after=after, layout=layout), 1, context)
    with torch.no_grad():
        for first, name in ((100, "before"), (200, "after"), (100, "table")):
            if hasattr(prompts, name):
                vectors = getattr(prompts, name)
                vectors.copy_(first + torch.arange(len(vectors))[:, None])
    longest = max(names)
    given = torch.arange(10.0, 10 + longest)[None, :, None].expand(len(names), -1, -1)
    texts, ends = prompts.put(given, torch.tensor(names), torch.tensor([1.0]), torch.tensor([2.0]))
    return texts[..., 0].long(), ends.tolist()


def test_the_layout_of_names_of_different_length():
    texts, ends = put([1, 3, 10], 2, 2)
    assert ends == [2 * 2 + n + 1 for n in (1, 3, 10)]
    assert texts[0, : ends[0] + 1].tolist() == [1, 100, 101, 10, 200, 201, 2]
    assert texts[1, : ends[1] + 1].tolist() == [1, 100, 101, 10, 11, 12, 200, 201, 2]
    assert texts[2, : ends[2] + 1].tolist() == [1, 100, 101, *range(10, 20), 200, 201, 2]


def test_the_positional_table_is_read_where_a_vector_lands():
    texts, ends = put([1, 3], 2, 3, "positional")
    assert texts[0, : ends[0] + 1].tolist() == [1, 101, 102, 10, 104, 105, 106, 2]
    assert texts[1, : ends[1] + 1].tolist() == [1, 101, 102, 10, 11, 12, 106, 107, 108, 2]


@pytest.mark.parametrize(("before", "after"), [(3, 0), (0, 2)])
def test_vectors_on_one_side_only(before, after):
    texts, ends = put([2], before, after)
    assert texts[0, : ends[0] + 1].tolist() == [1, *range(100, 100 + before), 10, 11, *range(200, 200 + after), 2]


@pytest.mark.usefixtures("float64")
def test_without_prompts_it_is_clip():
    tower = toys.tower()
    tokens = pad([[5, 6], [7, 8, 9, 10], [11]], tower.tokenizer.start, tower.tokenizer.end)
    config = PromptedConfig(prompts={"before": 0, "after": 0}, temporal={"layers": 0})
    model = PromptedModel(config, tower.width, tower.context, tower.dim)
    found = model.text_features(tower.network, tokens.ids, tokens.lengths, tokens.marks)
    start, end = tower.tokenizer.start, tower.tokenizer.end
    for row, (ids, n) in enumerate(zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)):
        whole = torch.tensor([[start, *ids[:n], end]])
        assert torch.allclose(found[row], tower.network(whole, torch.tensor([n + 1]))[0], atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layout", ["vectors", "positional"])
def test_what_lies_behind_the_end_changes_nothing_and_every_prompt_something(layout):
    method = toys.method(model={"prompts": {"before": 2, "after": 2, "layout": layout}})
    expected, direction = method.text_features(), torch.randn(64)
    landed = {1, 2} | {n + place for n in method.lengths.tolist() for place in (3, 4)}
    for name, vectors in method.model.prompts.named_parameters():
        for place in range(len(vectors)):
            with torch.no_grad():
                vectors[place] += direction
            changed = not torch.allclose(method.text_features(), expected, atol=1e-9)
            with torch.no_grad():
                vectors[place] -= direction
            assert changed == (name != "table" or place in landed), (name, place)


def test_equal_names_are_equal_classes_and_the_order_of_classes_is_theirs():
    method = toys.method(("red square", "blue circle", "red square"))
    found = method.text_features()
    assert torch.equal(found[0], found[2])
    turned = toys.method(("blue circle", "red square", "red square")).text_features()
    assert torch.allclose(found[[1, 0, 2]], turned, atol=1e-6)


def test_published_numbers_of_parameters():
    model = PromptedModel(PromptedConfig(), 512, 77, 512)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sizes == {"prompts": 16_384, "temporal": 8_192 + 6_304_768}
    public = PromptedModel(PromptedConfig(prompts={"layout": "positional"}), 512, 77, 512)
    assert sum(p.numel() for p in public.parameters()) == 6_352_384


@pytest.mark.usefixtures("float64")
def test_order_of_frames():
    torch.manual_seed(0)
    clips = torch.randn(2, 5, 8)
    mean = Temporal(TemporalConfig(layers=0), 8, 5, 1)
    assert mean(clips) is clips
    temporal = Temporal(TemporalConfig(layers=2, heads=2), 8, 5, 1)
    assert temporal(clips).shape == clips.shape
    assert not torch.allclose(temporal(clips).mean(1), temporal(clips.flip(1)).mean(1), atol=1e-6)
    with torch.no_grad():
        temporal.positions.zero_()
    assert torch.allclose(temporal(clips).mean(1), temporal(clips.flip(1)).mean(1), atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_the_gap_of_frames_is_seen_where_it_shall_be():
    torch.manual_seed(0)
    clips = torch.randn(2, 5, 8)
    seen = Temporal(TemporalConfig(layers=1, heads=2, gap_embedding=True), 8, 5, 3)
    assert not torch.allclose(seen(clips, torch.tensor([0, 0])), seen(clips, torch.tensor([0, 2])), atol=1e-6)
    unseen = Temporal(TemporalConfig(layers=1, heads=2), 8, 5, 3)
    assert torch.equal(unseen(clips, torch.tensor([0, 0])), unseen(clips, torch.tensor([0, 2])))


@pytest.mark.parametrize(("classes", "loss"), [(51, 3.932), (101, 4.615), (400, 5.991), (700, 6.551), (64, 4.159)])
def test_logits_are_bounded_and_equal_features_tell_nothing(classes, loss):
    video = torch.randn(3, 8)
    logits = scores(video, torch.ones(classes, 8), 0.07)
    assert F.cross_entropy(logits, torch.tensor([0, 1, 2])).item() == pytest.approx(loss, abs=1e-3)
    assert scores(video, video, 0.07).diagonal().tolist() == pytest.approx([1 / 0.07] * 3, rel=1e-5)
    assert scores(video, -video, 0.07).min().item() == pytest.approx(-14.286, abs=1e-3)
    assert math.isfinite(scores(video.half(), video.half(), 0.07).sum().item())
