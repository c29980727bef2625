"""Parts of the samplers and targets, each by itself: what a change of one line would break."""

import math

import pytest
import torch
from masked_helpers import MODEL, config, method, progress, rng, video

from tasks.core.nn.config import TargetConfig, VitConfig
from tasks.core.nn.masked import masked_targets
from tasks.core.nn.vit import cubes_at
from tasks.masked.config import AdaMAESampler, TATSSampler
from tasks.masked.method import POLICY
from tasks.masked.samplers.adamae import AdaMAE
from tasks.masked.samplers.base import Choice, draw
from tasks.masked.samplers.tats import TATS, ppo_loss
from vidcli.resolve import Given, resolve

SETTINGS = {"name": "tats", "heads": 2, "warmup_epochs": 0}


def tats(**settings) -> TATS:
    torch.manual_seed(0)
    made = TATS(TATSSampler(**{"heads": 2, "warmup_epochs": 0, **settings}), VitConfig(**MODEL), 0.75)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def tokens(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_temperature_divides_the_logits():
    plain, warm = (tats(temperature=t).policy(tokens())[0] for t in (1.0, 4.0))
    assert torch.allclose(warm, (plain / 4).log_softmax(-1), atol=1e-5)
    assert not torch.allclose(warm, plain, atol=1e-2)


def test_the_critic_reads_the_mean_of_every_token():
    sampler, given = tats(), tokens()
    value = sampler.policy(given)[1]
    hidden = torch.relu(given.mean(-1) @ sampler.policy.value[0].weight.T + sampler.policy.value[0].bias)
    assert torch.allclose(value, (hidden @ sampler.policy.value[2].weight.T + sampler.policy.value[2].bias).squeeze(-1), atol=1e-5)
    assert value.std() > 1e-3


def test_scores_that_are_no_numbers_become_zero():
    sampler = tats()
    with torch.no_grad():
        sampler.policy.score.bias.fill_(math.nan)
    log_probs = sampler.policy(tokens())[0]
    assert torch.allclose(log_probs, torch.full_like(log_probs, -math.log(32)), atol=1e-5)
    adamae = AdaMAE(AdaMAESampler(heads=2), VitConfig(**MODEL), 0.75).eval()
    with torch.no_grad():
        adamae.score.bias.fill_(math.nan)
    assert torch.isfinite(adamae.log_probs(tokens())).all()


def test_a_normalised_advantage_has_mean_0_and_deviation_1():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(3, 8, generator=generator, dtype=torch.float64).log_softmax(-1).requires_grad_()
    errors, value = torch.rand(3, 5, generator=generator, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    gradients = []
    for scale in (1.0, 10.0):
        chosen = TATSSampler(policy_weight=1.0, value_weight=0.0, entropy_weight=0.0, normalize_advantage=True)
        numerator = log_probs[:, :5]
        found = ppo_loss(log_probs, value, numerator, numerator.detach(), scale * errors + 3, value, chosen)
        assert found["policy"].item() == pytest.approx(0, abs=1e-9)
        gradients.append(torch.autograd.grad(found["loss"], log_probs)[0])
    assert torch.allclose(*gradients, atol=1e-6)
    advantage = (errors - errors.mean()) / errors.std(unbiased=False)
    assert torch.allclose(gradients[0][:, :5], -advantage / 15, atol=1e-6)


def test_the_printed_ratio_draws_a_fresh_set():
    sampler = tats(ratio_indices="resampled", policy_weight=1.0)
    given = tokens()
    choice = sampler.choose(given, 3, rng(rows=3), progress())
    errors = torch.rand(3, 24, generator=torch.Generator().manual_seed(1))
    sampler.learn(choice, errors)
    assert sampler.num_updates(progress()) == 1
    log_probs = sampler.policy(given, choice.extra["first"])[0].detach()
    fresh = draw(log_probs, 8, 1 - choice.extra["noise"])[1]
    expected = (log_probs.gather(1, fresh) - log_probs.gather(1, choice.masked)).exp().mean()
    assert not torch.equal(fresh, choice.masked)
    assert sampler.policy_loss()["ratio"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_first_landmark_is_drawn_and_kept():
    sampler, given = tats(landmarks=4), tokens()
    firsts, others = set(), 0
    for step in range(6):
        choice = sampler.choose(given, 3, rng(step, 3), progress(step))
        first = choice.extra["first"]
        firsts.add(first)
        assert torch.allclose(choice.log_probs, sampler.policy(given, first)[0], atol=1e-6)
        others += not torch.allclose(choice.log_probs, sampler.policy(given, 0)[0], atol=1e-6)
        sampler.learn(choice, torch.rand(3, 24))
        assert sampler.memory.pop().first_landmark == first
    assert len(firsts) > 1
    assert others


def test_the_policy_has_a_rate_and_a_decay_of_its_own():
    specs = method({**SETTINGS, "lr": 3e-6, "weight_decay": 0.07, "betas": [0.8, 0.9], "clip_grad": 0.5}).optimizers()
    policy = specs[POLICY]
    assert (policy.base_lr, policy.betas, policy.clip_grad) == (3e-6, (0.8, 0.9), 0.5)
    assert specs["main"].base_lr == config().optim.base_lr != 3e-6
    assert {group["weight_decay"] for group in policy.groups} == {0.0, 0.07}


def test_micro_batches_of_one_step_give_one_update_of_their_mean():
    built = method(SETTINGS)
    for micro in range(2):
        built({"video": video(2, micro)}, rng(micro), progress())
    episodes = list(built.sampler.memory)
    assert built.phases_after(progress()) == [POLICY]
    expected = [built.sampler._of_episode(episode)["value_error"] for episode in episodes]
    assert built(None, None, progress(), POLICY)["value_error"].item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_adamae_does_not_teach_the_autoencoder_by_its_reward():
    errors = torch.rand(2, 3, requires_grad=True)
    log_probs = torch.randn(2, 8).log_softmax(-1).requires_grad_()
    sampler = AdaMAE(AdaMAESampler(heads=2, weight=0.5), VitConfig(**MODEL), 0.75)
    masked = torch.tensor([[0, 3, 5], [1, 2, 7]])
    loss = sampler.learn(Choice(masked, masked, log_probs), errors)["loss"]
    assert loss.item() == pytest.approx(-0.5 * (log_probs.gather(1, masked) * errors).mean().item(), rel=1e-5)
    loss.backward()
    assert errors.grad is None


def test_motion_targets_are_what_differs_from_the_mean_frame_over_one_deviation():
    clip = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    masked = torch.arange(8).expand(2, 8)
    found = masked_targets(clip, masked, TargetConfig(kind="motion"), 2, 8)
    cubes = cubes_at(clip - clip.mean(1, keepdim=True), masked, 2, 8)
    deviation = cubes.flatten(1).std(1)[:, None, None]
    assert torch.allclose(found, cubes.transpose(2, 3).flatten(2) / (deviation + 1e-3), atol=1e-4)
    assert found.flatten(1).std(1).tolist() == pytest.approx([1.0, 1.0], abs=0.02)


@pytest.mark.parametrize("data", ["ucf101", "hmdb51", "k400", "ssv2"])
def test_the_values_of_the_paper(data):
    """Table 5.4 of the thesis."""
    found = resolve(Given(f"masked/tats-vitb-{data}")).config
    sampler, optim = found.sampler, found.optim
    assert (sampler.policy_weight, sampler.value_weight, sampler.entropy_weight) == (1e-4, 1e-4, 1e-4)
    assert (sampler.clip, sampler.lr, sampler.every, sampler.ppo_epochs, sampler.warmup_epochs) == (0.2, 1.5e-6, 1, 1, 10)
    assert (optim.base_lr, optim.betas, optim.weight_decay, found.mask_ratio) == (1.5e-4, (0.9, 0.95), 0.05, 0.95)
