"""CLIP's transformers: against a slow reference, and what the causal mask and the read-out promise."""

import pytest
import torch
from clip_toys import CONTEXT, image_config, networks, pictures, text_config
from pydantic import ValidationError

from tasks.core.errors import UsageError
from tasks.core.nn.clip import ImageTransformer, Layer, TextTransformer, quick_gelu
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig


def slow_layer(layer: Layer, x: torch.Tensor, causal: bool) -> torch.Tensor:
    """One text (L, width) through a layer, head by head and token by token."""
    q, k, v = (layer.qkv(layer.norm1(x))).chunk(3, -1)
    size = x.shape[-1] // layer.heads
    joined = torch.zeros_like(x)
    for head in range(layer.heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            seen = i + 1 if causal else len(x)
            weights = torch.softmax(k[:seen, own] @ q[i, own] / size**0.5, 0)
            joined[i, own] = weights @ v[:seen, own]
    x = x + layer.out(joined)
    return x + layer.fc2(layer.activation(layer.fc1(layer.norm2(x))))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.usefixtures("float64")
def test_a_layer_is_what_the_definition_says(causal):
    torch.manual_seed(0)
    layer, x = Layer(12, 3, 20), torch.randn(2, 7, 12)
    assert torch.allclose(layer(x, causal), torch.stack([slow_layer(layer, row, causal) for row in x]), atol=1e-12)


def test_quick_gelu_by_hand():
    assert quick_gelu(torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)).tolist() == pytest.approx([0, 0.845795, -0.064341], abs=1e-6)


def test_what_lies_behind_the_end_changes_nothing():
    _, text = networks()
    x = torch.randn(2, 10, text.config.width, generator=torch.Generator().manual_seed(0))
    end = torch.tensor([4, 6])
    expected = text.encode(x, end)
    other = x.clone()
    other[0, 5:], other[1, 7:] = 3.0, -1.0
    assert torch.equal(text.encode(other, end)[0], expected[0])
    assert torch.allclose(text.encode(other, end), expected, atol=1e-6)
    assert torch.allclose(text.encode(x[:, :7], end), expected, atol=1e-6)
    for place in range(5):
        moved = x.clone()
        moved[0, place, 0] += 1  # a shift of all channels would vanish in the norms
        assert not torch.allclose(text.encode(moved, end)[0], expected[0], atol=1e-4)


def test_gradients_reach_the_embeddings_and_no_frozen_weight():
    _, text = networks()
    prompts = torch.zeros(2, 10, text.config.width, requires_grad=True)
    text.encode(prompts, torch.tensor([4, 6])).sum().backward()
    reached = prompts.grad.abs().sum(-1) > 0
    assert reached.tolist() == [[place <= end for place in range(10)] for end in (4, 6)]
    assert all(parameter.grad is None for parameter in text.parameters())


def test_sizes_that_do_not_fit():
    image, text = networks()
    with pytest.raises(UsageError, match="3x36x36, not 3x32x32"):
        image(pictures(1, 32))
    with pytest.raises(UsageError, match=f"{CONTEXT} tokens, not {CONTEXT + 1}"):
        text.encode(torch.zeros(1, CONTEXT + 1, text.config.width), torch.tensor([3]))
    with pytest.raises(ValidationError, match="multiple of heads"):
        text_config(heads=5)
    with pytest.raises(ValidationError, match="larger than image_size"):
        image_config(patch=40)


def test_frames_of_clips_are_seen_one_by_one():
    image, _ = networks()
    frames = pictures(6)
    tokens = image.outputs(frames.unflatten(0, (2, 3)))["tokens"]
    assert torch.allclose(tokens.flatten(0, 1), image(frames), atol=1e-6)


def test_published_sizes():
    """ViT-B/16 and its text have the numbers of parameters of the published model."""
    with torch.device("meta"):
        made = ImageTransformer(ClipImageConfig()), TextTransformer(ClipTextConfig())
    counts = [sum(p.numel() for p in network.parameters()) for network in made]
    assert counts == [86_192_640, 63_428_096]
    assert sum(counts) + 1 == 149_620_737  # with the logit scale
