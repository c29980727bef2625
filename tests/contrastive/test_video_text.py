"""Video and text in one space: the loss against a slow reference, dropout, what learns, two processes."""

import math

import pytest
import torch
from pinned import same_everywhere
from torch.nn import functional as F
from video_text_toys import DIM, TEXT_DIM, batch, config, losses, method, train
from worlds import train_in_world

from tasks.contrastive.video_text import pair_loss
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.token_dropout import TokenCounts

TEXTS = ("frozen", "mapped", "new")
TOYS = __file__.replace("test_video_text", "video_text_toys")


def reference(video: torch.Tensor, text: torch.Tensor, temperature: float) -> float:
    """The printed formula, pair by pair."""
    video, text = video.detach(), text.detach()
    total, n = 0.0, len(video)
    for i in range(n):
        own = math.exp(float(video[i] @ text[i]) / temperature)
        sentences = sum(math.exp(float(video[i] @ text[j]) / temperature) for j in range(n))
        clips = sum(math.exp(float(video[j] @ text[i]) / temperature) for j in range(n))
        total -= (math.log(own / sentences) + math.log(own / clips)) / 2
    return total / n


def test_the_loss_is_the_formula(float64):
    video, text = (F.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(i)), dim=1) for i in range(2))
    for temperature in (0.07, 1.0):
        found, logits = pair_loss(video, text, temperature)
        assert float(found) == pytest.approx(reference(video, text, temperature), rel=1e-12)
        assert logits.shape == (7, 7)
        torch.testing.assert_close(found, pair_loss(text, video, temperature)[0])  # neither side comes first
    assert float(pair_loss(video[:1], text[:1], 0.07)[0]) == 0  # of one pair there is nothing to tell apart
    assert float(pair_loss(video, video.roll(1, 0), 0.07)[0]) > math.log(7) > float(pair_loss(video, video, 0.07)[0])


@pytest.mark.parametrize("text", TEXTS)
def test_the_method_computes_that_loss_on_what_is_seen(text, float64):
    """Projections, lengths and weight of the loss, step by step; reconstruction beside it."""
    made, given = method(text), batch(text=text)
    found = losses(made, given)
    model = made.model
    kept = made.dropout.draw(4, BatchRandom(0, 0, 0, 4))
    pooled = model.encoder.outputs(given["video"], kept.visible)["pooled"]
    video = F.normalize(pooled @ model.video_projection.weight.T, dim=1)
    sentences = model.text(given["ids"], given["end"]) if text == "new" else given["text"]
    sentences = sentences @ model.text_projection.weight.T if text == "mapped" else sentences
    wanted = reference(video, F.normalize(sentences, dim=1), 0.07)
    assert float(found["task_loss"]) == pytest.approx(wanted, rel=1e-9)
    assert float(found["loss"]) == pytest.approx(wanted / math.log(4) + float(found["reconstruction"]), rel=1e-9)
    assert model.dim == (TEXT_DIM if text == "frozen" else DIM)


PINNED = {
    "frozen": [3.523594, 2.904473, 2.110264, 2.112794],
    "mapped": [4.040388, 4.36194, 3.565222, 1.992843],
    "new": [3.610265, 4.150632, 2.246565, 2.022432],
}


@pytest.mark.parametrize("text", TEXTS)
def test_pinned_losses(text, float64):
    made, found = same_everywhere(method(text), 0.1), []
    optimizer = torch.optim.AdamW(made.optimizers()["main"].groups, lr=1e-2)
    for step in range(4):
        given = batch(text=text)
        made_losses = losses(made, given, step)
        found.append(made_losses["loss"].item())
        optimizer.zero_grad()
        made_losses["loss"].backward()
        optimizer.step()
    assert found == pytest.approx(PINNED[text], abs=2e-6)


@pytest.mark.parametrize("text", TEXTS)
def test_everything_that_is_trained_gets_a_gradient(text):
    made = method(text)
    losses(made, batch(text=text), 0)["loss"].backward()
    trained = {id(p) for group in made.optimizers()["main"].groups for p in group["params"]}
    assert trained == {id(p) for p in made.parameters()}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert all(p.grad.any() for name, p in made.named_parameters() if not name.endswith(("q_bias", "decoder_norm.bias")))
    parts = {name.split(".")[1] for name, _ in made.named_parameters() if name.startswith("model.")}
    assert parts == {"encoder", "video_projection"} | {"frozen": set(), "mapped": {"text_projection"}, "new": {"text"}}[text]


def test_rates_of_the_encoder_and_of_the_rest():
    made = method(method={"encoder_lr": 0.1}, optim={"layer_decay": 0.5, "weight_decay": 0.3})
    groups = made.optimizers()["main"].groups
    names = {id(p): name for name, p in made.named_parameters()}
    rates = {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert rates["model.encoder.blocks.1.mlp.fc1.weight"] == (pytest.approx(0.1 * 0.5), 0.3)
    assert rates["model.encoder.embed.weight"] == (pytest.approx(0.1 * 0.125), 0.3)
    assert rates["model.video_projection.weight"] == (1.0, 0.3)
    assert rates["dropout.decoder.head.bias"] == (1.0, 0.0)


def test_what_is_ignored_changes_nothing_and_a_target_only_the_reconstruction(float64):
    made, given = method(), batch()
    kept = made.dropout.draw(4, BatchRandom(0, 0, 0, 4))
    counts = made.dropout.counts
    assert (counts.visible, counts.targets, counts.ignored) == (8, 8, 16)
    ignored = next(token for token in range(32) if token not in kept.visible[0] and token not in kept.targets[0])
    target, visible = int(kept.targets[0, 0]), int(kept.visible[0, 0])
    for token, tasks, reconstructed in ((ignored, True, True), (target, True, False), (visible, False, False)):
        changed = {**given, "video": given["video"].clone()}
        frame, row, column = token // 16 * 2, token % 16 // 4 * 8, token % 4 * 8
        changed["video"][0, frame : frame + 2, :, row : row + 8, column : column + 8] += torch.randn(2, 3, 8, 8)
        a, b = losses(made, given), losses(made, changed)
        assert torch.equal(a["task_loss"], b["task_loss"]) == tasks
        assert torch.equal(a["reconstruction"], b["reconstruction"]) == reconstructed


def test_without_dropout_all_tokens_are_seen_and_nothing_is_reconstructed(float64):
    made = method(method={"dropout": {"mask": 0.0}})
    given = batch()
    found = losses(made, given)
    assert made.dropout.counts == TokenCounts(32, 0, 0)
    assert made.dropout.decoder is None
    assert "reconstruction" not in found
    pooled = made.model.encoder.outputs(given["video"])["pooled"]
    video = F.normalize(made.model.video_projection(pooled), dim=1)
    assert float(found["loss"]) == pytest.approx(reference(video, F.normalize(given["text"], dim=1), 0.07), rel=1e-9)


def test_masks_differ_between_clips_and_steps_and_repeat_with_the_seed():
    dropout = method().dropout
    first, again, later = (dropout.draw(4, BatchRandom(0, step, 0, 4)).visible for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first[0], first[1])


def test_dot_products_follow_the_printed_formula(float64):
    made = method(method={"cosine": False, "temperature": 1.0})
    given = batch()
    kept = made.dropout.draw(4, BatchRandom(0, 0, 0, 4))
    video = made.model.video_projection(made.model.encoder.outputs(given["video"], kept.visible)["pooled"])
    assert float(losses(made, given)["task_loss"]) == pytest.approx(reference(video, given["text"], 1.0), rel=1e-9)


def test_at_the_start_the_weighted_loss_is_about_one(float64):
    """Of many pairs whose vectors are alike in everything: ln(N) / ln(N)."""
    made = method(method={"temperature": 1.0})
    found = losses(made, batch(16))
    assert float(found["task_loss"]) / math.log(16) == pytest.approx(1.0, abs=0.1)
    assert made.dropout.weight(16) == pytest.approx(1 / math.log(16))


@pytest.mark.parametrize("text", ["frozen", "new"])
def test_two_processes_are_one(text, tmp_path, float64):
    """The weights after three steps; the gradient of both sides reaches the clips and sentences of the other process."""
    train_in_world(2, TOYS, tmp_path, text)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    alone = train(tmp_path, text, 6).state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(both[0][name], tensor, rtol=1e-9, atol=1e-12)
        assert torch.equal(both[0][name], both[1][name])


def test_processes_may_have_different_numbers_of_pairs(tmp_path, float64):
    """An unreadable video of one process is missing from what both compare with."""
    train_in_world(2, TOYS, tmp_path, "frozen", "uneven")
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    alone = train(tmp_path, "frozen", 6, True, {"mask": 0.5, "reconstruct": 0.0}).state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(both[0][name], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"family": "s3d", "projection": 8}}, "family vit"),
        ({"data": {"clip": {"frames": 8}}}, "data.clip.frames is 8"),
        ({"data": {"clip": {"frames": 4, "sampling": "segments"}}}, "one dense clip"),
        ({"data": {"clip": {"frames": 4}, "repeats": 2}}, "one dense clip"),
        ({"augment": {"mixup": 0.8}}, "mix labels"),
        ({"method": {"text": {"tower": "x", "new": {}}}}, "not both"),
        ({"method": {"dropout": {"mask": 0.5, "reconstruct": 0.6}}}, "at most mask"),
    ],
)
def test_settings_that_do_not_go_together(changes, told):
    with pytest.raises(ValueError, match=told):
        config(**changes)
