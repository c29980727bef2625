"""Every registered sampler: exact counts, no duplicates, seeds, pinned losses."""

import math

import pytest
import torch
from masked_helpers import MODEL, SAMPLERS, config, method, progress, rng, train, video
from pinned import same_everywhere

from tasks.core.engine.random import BatchRandom
from tasks.masked.method import MaskedPretraining
from tasks.masked.pretrain import plan
from tasks.masked.samplers import SAMPLERS as REGISTERED
from tasks.masked.samplers.base import draw


def test_every_registered_sampler_is_tested():
    assert {s["name"] for s in SAMPLERS} == set(REGISTERED)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_choice_is_a_partition_and_deterministic(sampler):
    built = method(sampler).eval()
    first, _ = built.reconstruct(video(), rng(3), progress())
    again, _ = built.reconstruct(video(), rng(3), progress())
    other, _ = built.reconstruct(video(), rng(4), progress())
    both = torch.cat((first.visible, first.masked), 1).sort(-1).values
    assert torch.equal(both, torch.arange(32).expand(2, 32))
    assert first.visible.shape[1] == built.sampler.n_visible == 8
    assert torch.equal(first.visible, again.visible)
    assert not torch.equal(first.visible, other.visible)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("mask_ratio", [0.85, 0.9, 0.95])
def test_a_dry_run_prints_how_many_tokens_are_chosen(sampler, mask_ratio, tmp_path):
    """14 x 14 places in two frames of tokens: tubes round in each frame, the others over all."""
    (tmp_path / "a.mp4").touch()
    model = {**MODEL, "image_size": 112}
    settings = config(sampler, model=model, mask_ratio=mask_ratio, data={"clip": {"frames": 4}, "train": [str(tmp_path / "a.mp4")]})
    told = plan(settings)
    built = MaskedPretraining(settings).sampler
    tokens = torch.zeros(2, 392, 32) if built.needs_tokens else None
    choice = built.choose(tokens, 2, rng(), progress())
    assert (told["tokens"], told["visible_tokens"]) == (392, choice.visible.shape[1])
    assert choice.visible.shape[1] + choice.masked.shape[1] == 392
    if sampler["name"] in ("tube", "mofo"):
        assert choice.visible.shape[1] == 2 * {0.85: 30, 0.9: 20, 0.95: 10}[mask_ratio]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_forward_and_backward_reach_every_parameter(sampler):
    built = method(sampler)
    for step in range(2):
        built({"video": video()}, rng(step), progress(step))["loss"].backward()
        for phase in built.phases_after(progress(step)):
            built(None, None, progress(step), phase)["loss"].backward()
    silent = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


def test_tubes_are_the_same_in_every_frame():
    built = method({"name": "tube"})
    choice, _ = built.reconstruct(video(), rng(), progress())
    frames = choice.visible.view(2, 2, 4) - torch.tensor([0, 16]).view(1, 2, 1)
    assert torch.equal(frames[:, 0], frames[:, 1])


def test_inclusion_grows_with_probability_and_uniform_stays_uniform():
    noise = torch.rand(20000, 8, generator=torch.Generator().manual_seed(0))
    skewed = torch.tensor([0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.22, 0.30]).log().expand(20000, 8)
    seen = torch.zeros(20000, 8).scatter(1, draw(skewed, 3, noise)[0], 1.0).mean(0)
    assert (seen.diff() > 0.01).all()
    even = torch.zeros(20000, 8).scatter(1, draw(torch.full((20000, 8), -math.log(8)), 3, noise)[0], 1.0).mean(0)
    assert torch.allclose(even, torch.full((8,), 3 / 8), atol=0.015)


def test_first_draw_follows_the_categorical():
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4])
    noise = torch.rand(40000, 4, generator=torch.Generator().manual_seed(1))
    share = torch.bincount(draw(probs.log().expand(40000, 4), 1, noise)[0].flatten(), minlength=4) / 40000
    assert torch.allclose(share, probs, atol=0.01)


def test_two_processes_draw_what_one_draws():
    whole = BatchRandom(5, 7, rows=4).rand(4, 10)
    halves = [BatchRandom(5, 7, rows=2, rank=r, world=2).rand(2, 10) for r in range(2)]
    assert torch.equal(whole, torch.cat(halves))


PINNED = {  # first four losses of a fixed toy run; a change here is a change of the method
    "adamae": [1.172748487, 1.151270325, 1.138431487, 1.136524361],
    "mofo": [1.166493216, 1.153613609, 1.136081693, 1.135032219],
    "random": [1.159941620, 1.149331892, 1.140273706, 1.137516137],
    "tats": [1.172309508, 1.150749743, 1.137710252, 1.136349826],
    "tube": [1.165049601, 1.147153175, 1.139798539, 1.136880319],
}


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_pinned_losses(name, float64):
    sampler = next(s for s in SAMPLERS if s["name"] == name)
    trained = same_everywhere(method({**sampler, **({"dropout": 0.0} if name == "adamae" else {})}))
    losses = [row["loss"] for row in train(trained, 4, batch=2)]
    assert losses == pytest.approx(PINNED[name], rel=1e-8)


def test_adamae_loss_by_hand():
    from tasks.masked.samplers.base import Choice

    sampler = method({"name": "adamae", "heads": 2}).sampler
    log_probs = torch.tensor([[0.5, 0.25, 0.25]]).log()
    choice = Choice(torch.tensor([[0]]), torch.tensor([[1, 2]]), log_probs)
    learned = sampler.learn(choice, torch.tensor([[1.0, 3.0]]))
    assert learned["loss"].item() == pytest.approx(1e-4 * -(math.log(0.25) * 1 + math.log(0.25) * 3) / 2)
