"""Token dropout: counts, draws, what reaches whom, and the reconstruction beside a masked autoencoder's."""

import math

import pytest
import torch
from pinned import same_everywhere

from tasks.core.engine.counting import count_macs
from tasks.core.engine.random import BatchRandom
from tasks.core.errors import UsageError
from tasks.core.nn.config import DecoderConfig, TokenDropoutConfig, VitConfig
from tasks.core.nn.token_dropout import KeptTokens, TokenCounts, TokenDropout, keep_tokens, plain_macs, token_counts
from tasks.core.nn.vit import VideoTransformer, position_table
from tasks.masked.method import MaskedPretraining

SMALL = VitConfig(size="tiny", dim=32, depth=2, heads=2, image_size=32, frames=4, tubelet=2, patch=8)
BASE = VitConfig(size="base", frames=16, image_size=224)
DECODER = {"dim": 16, "depth": 1, "heads": 1}
PAPER = {(0.0, None): 180.6, (0.5, 0.5): 99.3, (0.75, 0.75): 57.6, (0.75, 0.25): 45.9, (0.9, 0.9): 35.2, (0.9, 0.1): 18.3}
"""(m, r): "GFLOPs" of the thesis, table 6.1."""
LONG = {(16, 0.5, 0.5): 99.2, (32, 0.75, 0.25): 101.1, (64, 0.875, 0.125): 104.8}


def dropout(m: float = 0.75, r: float | None = 0.25, model: VitConfig = SMALL, **settings) -> TokenDropout:
    config = TokenDropoutConfig(mask=m, reconstruct=r, decoder=DECODER, **settings)
    return TokenDropout(model, config, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), normed=True)


def rng(step: int = 0, rows: int = 3, rank: int = 0, world: int = 1) -> BatchRandom:
    return BatchRandom(0, step, 0, rows, rank, world)


@pytest.mark.parametrize("pattern", ["random", "tube"])
@pytest.mark.parametrize(("m", "r"), [*PAPER, (0.6, 0.0), (0.3, None)])
def test_counts_add_up(m, r, pattern):
    found = token_counts(BASE.grid(), TokenDropoutConfig(mask=m, reconstruct=r, pattern=pattern))
    unit = 8 if pattern == "tube" else 1
    assert found.total == 1568
    assert all(count % unit == 0 for count in (found.visible, found.targets, found.ignored))
    assert found.visible == math.floor(1568 // unit * (1 - m) + 1e-9) * unit
    wanted = min(m, 1 - m) if r is None else r
    assert abs(found.targets - 1568 * wanted) <= 2 * unit
    assert found.ignored == 0 or m != r


@pytest.mark.parametrize(
    ("m", "r", "pattern", "told"),
    [
        (0.98, 0.5, "random", "mask 0.98 leaves the encoder none of a clip's 32 tokens"),
        (0.5, 0.02, "random", "reconstruct 0.02 takes none of a clip's 32 tokens"),
        (0.95, 0.5, "tube", "mask 0.95 leaves the encoder none of a clip's 16 tubes of 2 tokens"),
    ],
)
def test_shares_that_leave_no_token_are_refused(m, r, pattern, told):
    with pytest.raises(UsageError, match=told):
        dropout(m, r, pattern=pattern)


def test_more_than_is_hidden_cannot_be_reconstructed():
    with pytest.raises(ValueError, match=r"reconstruct \(0.6\) must be at most mask \(0.5\)"):
        TokenDropoutConfig(mask=0.5, reconstruct=0.6)


@pytest.mark.parametrize("pattern", ["random", "tube"])
def test_draws_are_disjoint_and_differ_within_a_batch_and_between_steps(pattern):
    drop = dropout(0.75, 0.25, pattern=pattern)
    first, again, later = drop.draw(3, rng(0)), drop.draw(3, rng(0)), drop.draw(3, rng(1))
    assert torch.equal(first.visible, again.visible)
    assert torch.equal(first.targets, again.targets)
    for seen, hidden in zip(first.visible, first.targets, strict=True):
        numbers = [*seen.tolist(), *hidden.tolist()]
        assert len(set(numbers)) == len(numbers) == 8 + 8
        assert seen.tolist() == sorted(seen.tolist())
        if pattern == "tube":
            assert all({place, place + 16} <= set(part.tolist()) for part in (seen, hidden) for place in part[part < 16].tolist())
    assert len({tuple(row) for row in (*first.visible.tolist(), *later.visible.tolist())}) == 6


def test_every_token_is_as_likely_to_be_seen_and_reconstructed():
    drop = dropout(0.75, 0.25)
    seen, asked = torch.zeros(32), torch.zeros(32)
    rows, steps = 100, 20
    for step in range(steps):
        kept = drop.draw(rows, rng(step, rows))
        seen += torch.bincount(kept.visible.flatten(), minlength=32)
        asked += torch.bincount(kept.targets.flatten(), minlength=32)
    expected = rows * steps * 0.25
    for found in (seen, asked):  # chi-square of 31 degrees of freedom, less than it is once in a million, draws without replacement
        assert float(((found - expected) ** 2 / expected).sum()) < 85


def test_two_processes_draw_what_one_draws():
    drop = dropout()
    whole = drop.draw(4, rng(rows=4))
    halves = [drop.draw(2, rng(rows=2, rank=rank, world=2)) for rank in range(2)]
    assert torch.equal(whole.visible, torch.cat([half.visible for half in halves]))
    assert torch.equal(whole.targets, torch.cat([half.targets for half in halves]))


def test_all_targets_give_the_loss_of_a_masked_autoencoder_bit_for_bit():
    from masked_helpers import config, progress

    plain = same_everywhere(MaskedPretraining(config({"name": "random"}, decoder=DECODER)).float())
    drop = dropout(0.75, 0.75)
    drop.errors.mean, drop.errors.std = plain.errors.mean, plain.errors.std
    weights = {name: tensor for name, tensor in plain.autoencoder.state_dict().items() if not name.startswith("encoder.")}
    drop.decoder.load_state_dict(weights)
    video = torch.rand(3, 4, 3, 32, 32)
    kept = drop.draw(3, rng())
    found = drop.reconstruction(video, plain.autoencoder.encoder.outputs(video, kept.visible), kept)
    assert torch.equal(found, plain({"video": video}, rng(), progress())["loss"])


@pytest.mark.parametrize("class_token", [False, True])
def test_all_tokens_in_any_order_give_what_the_whole_clip_gives(class_token, float64):
    encoder = same_everywhere(VideoTransformer(SMALL.model_copy(update={"class_token": class_token})), vectors=0.1).eval()
    video, order = torch.rand(2, 4, 3, 32, 32), torch.rand(2, 32).argsort(-1)
    whole, mixed = encoder.outputs(video), encoder.outputs(video, order)
    assert torch.allclose(mixed["tokens"], whole["tokens"].gather(1, order[..., None].expand(-1, -1, 32)), atol=1e-12)
    assert ("pooled" in whole) == class_token
    if class_token:
        assert torch.allclose(mixed["pooled"], whole["pooled"], atol=1e-12)


def test_the_order_of_visible_tokens_does_not_matter_to_the_class_token():
    encoder = same_everywhere(VideoTransformer(SMALL.model_copy(update={"class_token": True})), vectors=0.1).eval()
    video, kept = torch.rand(3, 4, 3, 32, 32), dropout().draw(3, rng())
    turned = kept.visible.flip(1)
    assert torch.allclose(encoder.outputs(video, turned)["pooled"], encoder.outputs(video, kept.visible)["pooled"], atol=1e-5)


@pytest.mark.parametrize("decoder_cls", [True, False])
def test_dropping_is_real(decoder_cls, float64):
    """Ignored pixels change nothing, pixels of targets the reconstruction alone, visible ones all."""
    encoder = same_everywhere(VideoTransformer(SMALL.model_copy(update={"class_token": True})), vectors=0.1)
    drop = same_everywhere(dropout(0.75, 0.25, decoder_cls=decoder_cls), vectors=0.1)
    video = torch.rand(2, 4, 3, 32, 32)
    kept = drop.draw(2, rng(rows=2))

    def losses(clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        out = encoder.outputs(clip, kept.visible)
        task = out["pooled"].square().mean()
        found = drop(task, 10, clip, out, kept)
        gradients = torch.autograd.grad(found["loss"], [*encoder.parameters(), *drop.parameters()])
        return task.detach(), found["reconstruction"], list(gradients)

    def changed(tokens: torch.Tensor) -> torch.Tensor:
        cubes = video.view(2, 2, 2, 3, 4, 8, 4, 8).permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(2, 32, -1).clone()
        for clip, row in enumerate(tokens):
            cubes[clip, row] = torch.rand(len(row), cubes.shape[2])
        return cubes.view(2, 2, 4, 4, 2, 3, 8, 8).permute(0, 1, 4, 5, 2, 6, 3, 7).reshape(video.shape)

    ignored = torch.stack(
        [torch.tensor(sorted(set(range(32)) - set(a.tolist()) - set(b.tolist()))) for a, b in zip(kept.visible, kept.targets, strict=True)]
    )
    task, reconstruction, gradients = losses(video)
    same_task, same_reconstruction, same_gradients = losses(changed(ignored))
    assert torch.equal(same_task, task)
    assert torch.equal(same_reconstruction, reconstruction)
    assert all(torch.equal(a, b) for a, b in zip(same_gradients, gradients, strict=True))
    other_task, other_reconstruction, _ = losses(changed(kept.targets))
    assert torch.equal(other_task, task)
    assert not torch.equal(other_reconstruction, reconstruction)
    assert not torch.equal(losses(changed(kept.visible))[0], task)


def test_predictions_come_in_the_order_of_the_targets(float64):
    """A decoder whose blocks add nothing and whose head reads the position code."""
    drop = dropout(0.75, 0.25)
    decoder = drop.decoder
    with torch.no_grad():
        for block in decoder.decoder:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
        decoder.mask_token.zero_()
        decoder.decoder_norm = torch.nn.Identity()
        decoder.head.weight.zero_()
        decoder.head.weight[:16, :16] = torch.eye(16)
    kept = KeptTokens(torch.tensor([[3, 9]]), torch.tensor([[20, 1, 7]]))
    prediction = decoder.decode(torch.rand(1, 3, 32), kept.visible, kept.targets)  # two tokens behind a class token
    assert torch.allclose(prediction[0, :, :16], decoder.decoder_positions[[20, 1, 7]].double(), atol=1e-12)


def test_weight_makes_the_task_begin_at_one():
    for classes in (10, 51, 101, 180):
        assert dropout().weight(classes) * math.log(classes) == pytest.approx(1)
    assert dropout(weight=0.3).weight(10) == 0.3
    assert dropout(0.5, 0.0).weight(10) == 1.0  # nothing stands beside it


def test_without_reconstruction_there_is_no_decoder():
    drop = dropout(0.5, 0.0)
    assert not list(drop.parameters())
    video = torch.rand(2, 4, 3, 32, 32)
    found = drop(torch.tensor(2.0), 10, video, {}, drop.draw(2, rng(rows=2)))
    assert set(found) == {"loss", "task_loss"}
    assert float(found["loss"]) == 2.0


@pytest.mark.parametrize("pattern", ["random", "tube"])
def test_tokens_kept_in_testing_depend_on_the_view_and_the_seed_alone(pattern):
    grid, seeds = BASE.grid(), [2**61, 5, 7]
    found = keep_tokens(grid, 0.25, pattern, seeds)
    assert found.shape == (3, 392)
    assert torch.equal(found[1:2], keep_tokens(grid, 0.25, pattern, [5]))
    assert not torch.equal(found[1], found[2])
    assert not torch.equal(found, keep_tokens(grid, 0.25, pattern, seeds, seed=1))
    assert all(len(set(row)) == 392 and max(row) < 1568 for row in found.tolist())
    assert keep_tokens(grid, 1.0, pattern, [3]).sort().values.tolist() == [list(range(1568))]


@pytest.mark.parametrize(("m", "r"), list(PAPER))
def test_macs_are_those_of_the_paper(m, r):
    config = TokenDropoutConfig(mask=m, reconstruct=r)
    counts = token_counts(BASE.grid(), config)
    assert plain_macs(BASE, DecoderConfig(), counts) / 1e9 == pytest.approx(PAPER[m, r], abs=0.3)


@pytest.mark.parametrize(("frames", "m", "r"), list(LONG))
def test_macs_of_long_clips_with_as_many_visible_tokens(frames, m, r):
    model = VitConfig(size="base", frames=frames, image_size=224)
    counts = token_counts(model.grid(), TokenDropoutConfig(mask=m, reconstruct=r))
    assert (counts.visible, counts.targets) == (784, 784)
    assert plain_macs(model, DecoderConfig(), counts) / 1e9 == pytest.approx(LONG[frames, m, r], abs=0.05)


@pytest.mark.parametrize(("m", "r"), [(0.5, 0.5), (0.75, 0.25)])
def test_what_is_computed_is_the_papers_count_less_what_is_left_out(m, r):
    """Dropped cubes are not embedded, and the decoder's last block computes outputs of the targets alone."""

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            model = BASE.model_copy(update={"class_token": True})
            self.encoder = VideoTransformer(model)
            self.drop = TokenDropout(model, config, (0.5,) * 3, (0.2,) * 3, normed=True)

        def forward(self, video: torch.Tensor, visible: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return self.drop.reconstruction(video, self.encoder.outputs(video, visible), KeptTokens(visible, targets))

    config = TokenDropoutConfig(mask=m, reconstruct=r)
    with torch.device("meta"):
        both = Both()
        drop = both.drop
        chosen = [torch.empty(1, n, dtype=torch.int64) for n in (drop.counts.visible, drop.counts.targets)]
        found = count_macs(both, (torch.empty(1, 16, 3, 224, 224), *chosen))
    n, dim, pixels = drop.counts.visible + 1, 384, 1536
    unembedded = (drop.counts.total - drop.counts.visible) * pixels * 768
    unread = n * (9 * dim**2 + 2 * (n + drop.counts.targets) * dim)  # projection, MLP and attention of the visible ones
    assert found == plain_macs(BASE, config.decoder, drop.counts) - unembedded - unread


def test_positions_of_longer_clips():
    known = position_table(SMALL, 32)
    extended = position_table(SMALL.model_copy(update={"frames": 8}), 32)
    assert torch.equal(extended[:32], known)
    stretched = position_table(SMALL.model_copy(update={"frames": 8, "pos_frames": 4}), 32).view(4, 16, 32)
    first, last = known.view(2, 16, 32)
    assert torch.equal(stretched[0], first)
    assert torch.equal(stretched[3], last)
    assert torch.allclose(stretched[1], first * 2 / 3 + last / 3, atol=1e-6)
    codes = position_table(VitConfig(frames=64, pos_frames=16), 768)
    assert len(codes.unique(dim=0)) == 6272  # no two tokens are in the same place


def test_counts_without_dropout():
    assert token_counts((2, 4, 4), TokenDropoutConfig(mask=0)) == TokenCounts(32, 0, 0)
