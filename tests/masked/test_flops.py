"""The counted operations against what torch counts while the model runs."""

import pytest
from benches.ledger import count_attention
from masked_helpers import SAMPLERS, config, method, progress, rng, video
from torch.utils.flop_counter import FlopCounterMode

from tasks.masked.flops import step_flops, training_flops, visible_tokens

MORE = [
    {"name": "tats", "heads": 2, "warmup_epochs": 0, "raw_values": True},
    {"name": "tats", "heads": 4, "warmup_epochs": 0, "blocks": 2, "value_hidden": 5, "landmarks": 1000},
    {"name": "tats", "heads": 2, "warmup_epochs": 0, "dim": 16},
]


def ids(settings: dict) -> str:
    return "-".join(str(v) for v in settings.values())


count_attention()


@pytest.mark.parametrize("settings", SAMPLERS + MORE, ids=ids)
def test_forward_is_what_torch_counts(settings):
    model, clips = method(settings), 3
    with FlopCounterMode(display=False) as counter:
        choice, _ = model.reconstruct(video(clips), rng(rows=clips), progress())
    assert counter.get_total_flops() == clips * sum(step_flops(config(settings)).values())
    assert choice.visible.shape[1] == visible_tokens(config(settings))


@pytest.mark.parametrize("settings", SAMPLERS, ids=ids)
def test_training_is_what_torch_counts_but_for_gradients_of_pixels(settings):
    """The rule of three also counts gradients with respect to pixels and stored tokens, which nobody computes; small models feel it. The
    fused attention computes its scores again in the backward pass: five products, of which four are the model's."""
    model, clips = method(settings), 3
    steps = settings.get("every", 1)
    with FlopCounterMode(display=False) as counter:
        for step in range(steps):
            model({"video": video(clips)}, rng(rows=clips), progress(step))["loss"].backward()
            for phase in model.phases_after(progress(step)):
                model(None, None, progress(step), phase)["loss"].backward()
    counts = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    again = sum(flops / 5 for op, flops in counts.items() if "attention" in op and "backward" in op)
    told = clips * steps * sum(training_flops(config(settings)).values())
    assert 0.8 * told < counter.get_total_flops() - again <= told


def test_parts_of_vit_base():
    """ViT-B, 16 x 224 px, 90 % masked, four decoder blocks of width 384: 156 of 1568 tokens are seen."""
    parts = step_flops(config({"name": "random"}, model={"size": "base"}, decoder={}, mask_ratio=0.9, data={"clip": {"frames": 16}}))
    assert parts["encoder"] == 2 * 156 * 1536 * 768 + 12 * (24 * 156 * 768**2 + 4 * 156**2 * 768)
    last = (6 * 1568 + 18 * 1412) * 384**2 + 4 * 1412 * 1568 * 384  # q, k and v of all tokens, the rest of the masked ones
    assert parts["decoder"] == 2 * 156 * 768 * 384 + 3 * (24 * 1568 * 384**2 + 4 * 1568**2 * 384) + last + 2 * 1412 * 384 * 1536
    assert parts["sampler"] == 0
