"""TATS: PPO algebra, signs, freezing, a toy bandit, and moving squares."""

import math

import pytest
import torch
from masked_helpers import MODEL, config, method, progress, rng, train, video

from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.masked.config import TATSSampler
from tasks.masked.method import POLICY
from tasks.masked.samplers.base import Choice, draw
from tasks.masked.samplers.tats import TATS, hard_mass, ppo_loss

SETTINGS = {"name": "tats", "heads": 2, "warmup_epochs": 0}


def setup(batch: int = 3, tokens: int = 6, masked: int = 4):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, tokens, generator=generator, dtype=torch.float64).requires_grad_()
    index = torch.rand(batch, tokens, generator=generator).argsort(-1)[:, :masked]
    errors = torch.rand(batch, masked, generator=generator, dtype=torch.float64)
    value = torch.rand(batch, generator=generator, dtype=torch.float64)
    return logits, index, errors, value


def surrogate(logits, index, old, errors, value, **settings):
    """Gradient of J_CLIP alone."""
    chosen = TATSSampler(policy_weight=1.0, value_weight=0.0, entropy_weight=0.0, **settings)
    log_probs = logits.log_softmax(-1)
    loss = ppo_loss(log_probs, value, log_probs.gather(1, index), old, errors, value, chosen)
    return torch.autograd.grad(loss["loss"], logits)[0], loss


def test_at_the_old_policy_the_gradient_is_that_of_advantage_times_log_probability():
    logits, index, errors, value = setup()
    old = logits.detach().log_softmax(-1).gather(1, index)
    got, loss = surrogate(logits, index, old, errors, value)
    direct = -((errors - value[:, None]) * logits.log_softmax(-1).gather(1, index)).mean()
    assert torch.allclose(got, torch.autograd.grad(direct, logits)[0], atol=1e-12)
    assert loss["clipped"] == 0


@pytest.mark.parametrize(("ratio", "advantage"), [(1.3, 1.0), (0.7, -1.0)])
def test_clip_stops_the_gradient(ratio, advantage):
    logits, index, _, value = setup()
    old = logits.detach().log_softmax(-1).gather(1, index) - math.log(ratio)
    got, loss = surrogate(logits, index, old, value[:, None] + advantage * torch.ones(3, 4, dtype=torch.float64), value)
    assert got.abs().max() == 0
    assert loss["clipped"] == 1


@pytest.mark.parametrize(("ratio", "advantage"), [(1.3, -1.0), (0.7, 1.0)])
def test_clip_lets_the_pessimistic_side_through(ratio, advantage):
    logits, index, _, value = setup()
    old = logits.detach().log_softmax(-1).gather(1, index) - math.log(ratio)
    got, _ = surrogate(logits, index, old, value[:, None] + advantage * torch.ones(3, 4, dtype=torch.float64), value)
    assert got.abs().max() > 0


def test_entropy_of_the_uniform_policy():
    log_probs = torch.full((2, 1568), -math.log(1568.0))
    loss = ppo_loss(log_probs, torch.zeros(2), log_probs[:, :4], log_probs[:, :4], torch.zeros(2, 4), torch.zeros(2), TATSSampler())
    assert loss["entropy"].item() == pytest.approx(math.log(1568), abs=1e-4)


@pytest.mark.parametrize("exploration", ["entropy", "kl"])
def test_whole_loss_is_the_papers_sum(exploration):
    logits, index, errors, value = setup()
    log_probs = logits.log_softmax(-1).detach()
    old = log_probs.gather(1, index) + 0.05
    got = ppo_loss(
        log_probs,
        value + 0.5,
        log_probs.gather(1, index),
        old,
        errors,
        value,
        TATSSampler(policy_weight=2.0, value_weight=3.0, entropy_weight=5.0, exploration=exploration),
    )
    ratio = math.exp(-0.05)
    policy = (ratio * (errors - value[:, None])).mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    bonus = entropy if exploration == "entropy" else log_probs.mean() + math.log(6)
    expected = -(2 * policy - 3 * (value + 0.5 - errors.mean(-1)).square().mean() + 5 * bonus)
    assert got["loss"].item() == pytest.approx(expected.item())


def test_reward_per_video_uses_one_ratio_per_clip():
    logits, index, errors, value = setup()
    old = logits.detach().log_softmax(-1).gather(1, index)
    got, _ = surrogate(logits, index, old, errors, value, reward="video")
    direct = -((errors.mean(-1) - value) * logits.log_softmax(-1).gather(1, index).mean(-1)).mean()
    assert torch.allclose(got, torch.autograd.grad(direct, logits)[0], atol=1e-12)


def episode(sampler: TATS, tokens: torch.Tensor, hard: int, error: float) -> torch.Tensor:
    """Stores one episode in which token `hard` was hidden and badly reconstructed; returns the old probabilities."""
    sampler.eval()
    choice = sampler.choose(tokens, 1, rng(rows=1), progress())
    index = torch.cat((torch.tensor([[hard]]), torch.tensor([[t for t in range(32) if t != hard]])), 1)
    choice = Choice(index[:, 24:], index[:, :24], choice.log_probs, choice.extra)
    errors = torch.zeros(1, 24)
    errors[0, 0] = error
    sampler.learn(choice, errors)
    return choice.log_probs.exp()


def test_signs_hard_hidden_tokens_gain_and_the_critic_follows():
    torch.manual_seed(0)
    sampler = TATS(TATSSampler(heads=2, warmup_epochs=0, entropy_weight=0.0), VitConfig(**MODEL), 0.25)
    tokens = torch.randn(1, 32, 32)
    before = episode(sampler, tokens, 5, 20.0)
    value_before = sampler.policy(tokens)[1].item()
    assert sampler.num_updates(progress()) == 1
    optimizer = torch.optim.SGD(sampler.parameters(), lr=10.0)
    sampler.policy_loss()["loss"].backward()
    optimizer.step()
    log_probs, value = sampler.policy(tokens)
    assert log_probs.exp()[0, 5] > before[0, 5]
    target = 20.0 / 24
    assert abs(value.item() - target) < abs(value_before - target)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_each_phase_changes_only_its_own_parameters():
    built = method(SETTINGS)
    optimizers = {name: torch.optim.AdamW(spec.groups, lr=1e-2) for name, spec in built.optimizers().items()}
    theta, phi = snapshot(built.sampler), snapshot(built.autoencoder)
    built({"video": video()}, rng(), progress())["loss"].backward()
    assert all(p.grad is None for p in built.sampler.parameters())
    optimizers["main"].step()
    built.zero_grad()
    assert same(built.sampler, theta)
    assert not same(built.autoencoder, phi)
    phi = snapshot(built.autoencoder)
    assert built.phases_after(progress()) == [POLICY]
    assert not built.sampler.memory
    built(None, None, progress(), POLICY)["loss"].backward()
    assert all(p.grad is None for p in built.autoencoder.parameters())
    optimizers[POLICY].step()
    assert same(built.autoencoder, phi)
    assert not same(built.sampler, theta)


def test_warm_up_leaves_the_sampler_alone_and_masks_uniformly():
    built = method({**SETTINGS, "warmup_epochs": 3})
    uniform = method({"name": "random"})
    choice, _ = built.reconstruct(video(), rng(), progress(epoch=2))
    expected, _ = uniform.reconstruct(video(), rng(), progress(epoch=2))
    assert choice.log_probs is None
    assert torch.equal(choice.visible, expected.visible)
    built({"video": video()}, rng(), progress(epoch=2))
    assert built.phases_after(progress(epoch=2)) == []
    assert built.reconstruct(video(), rng(), progress(epoch=3))[0].log_probs is not None


def test_memory_holds_k_episodes_and_several_passes_use_each():
    built = method({**SETTINGS, "every": 3, "ppo_epochs": 2})
    done = []
    for step in range(6):
        built({"video": video()}, rng(step), progress(step))
        phases = built.phases_after(progress(step))
        done.append(len(phases))
        for phase in phases:
            built(None, None, progress(step), phase)
    assert done == [0, 0, 6, 0, 0, 6]
    assert not built.sampler.memory


def test_memory_survives_a_checkpoint(tmp_path):
    built, fresh = method({**SETTINGS, "every": 3}), method({**SETTINGS, "every": 3})
    built({"video": video()}, rng(), progress())
    torch.save(built.extra_state(), tmp_path / "own.pt")
    fresh.load_extra_state(torch.load(tmp_path / "own.pt", weights_only=True))
    assert torch.equal(fresh.sampler.memory[0].tokens, built.sampler.memory[0].tokens)
    assert fresh.sampler.memory[0].first_landmark == built.sampler.memory[0].first_landmark


def test_later_passes_move_the_ratio_off_one():
    built = method({**SETTINGS, "ppo_epochs": 3})
    optimizer = torch.optim.SGD(built.sampler.parameters(), lr=100.0)
    built({"video": video()}, rng(), progress())
    policies = []
    for phase in built.phases_after(progress()):
        update = built(None, None, progress(), phase)
        update["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        policies.append(float(update["policy"]))
    assert policies[0] != policies[1]


def test_bandit_mass_moves_to_the_hard_tokens():
    """Errors do not come from an autoencoder here: three of 32 tokens are hard, wherever they are hidden."""
    torch.manual_seed(0)
    settings = TATSSampler(heads=2, warmup_epochs=0, policy_weight=1.0, value_weight=1.0, entropy_weight=0.3)
    sampler = TATS(settings, VitConfig(**MODEL), 0.75)
    hard = torch.tensor([3, 14, 27])
    truth = torch.full((32,), 0.1)
    truth[hard] = 2.0
    optimizer = torch.optim.Adam(sampler.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    entropy = 0.0
    for step in range(250):
        tokens = torch.randn(8, 32, 32, generator=generator)
        choice = sampler.choose(tokens, 8, rng(step, 8), progress(step))
        sampler.learn(choice, truth[choice.masked])
        sampler.num_updates(progress(step))
        update = sampler.policy_loss()
        update["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        entropy = float(update["entropy"])
    mass = sampler.policy(torch.randn(16, 32, 32, generator=generator))[0].exp().mean(0)[hard].sum().item()
    assert mass > 3 * 3 / 32
    assert entropy > 0.5


def test_on_moving_squares_the_sampler_looks_at_the_square():
    """The error of hidden tokens is largest on the square; trained, the policy shows the encoder more of it than its area."""
    settings = {**SETTINGS, "policy_weight": 1.0, "value_weight": 1.0, "entropy_weight": 1e-2}
    built = method(settings, target={"kind": "pixels", "normalize": False})
    logs = train(built, 150, lr=2e-3, policy_lr=2e-3)
    assert logs[-1]["reconstruction"] < 0.7 * logs[0]["reconstruction"]
    clip = video(64, seed=999)
    bright = built.autoencoder.embed.cubes(clip).mean(-1) > -0.6  # tokens that the square covers in part
    choice, _ = built.eval().reconstruct(clip, rng(0, 64), progress())
    share = bright.gather(1, choice.visible).float().mean().item()
    assert share > 1.2 * bright.float().mean().item()


@pytest.mark.parametrize("ppo_epochs", [1, 2])
def test_learning_from_the_pass_that_drew_saves_it_and_changes_nothing(ppo_epochs):
    trained, passes = {}, {}
    for keep in (True, False):
        built = method({**SETTINGS, "ppo_epochs": ppo_epochs, "keep_graph": keep, "policy_weight": 1.0, "lr": 1e-3})
        calls: list[int] = []
        built.sampler.policy.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        trained[keep] = train(built, 4, batch=2), built.state_dict()
        passes[keep] = len(calls)
    assert passes == {True: 4 * ppo_epochs, False: 4 * (1 + ppo_epochs)}
    assert trained[True][0] == trained[False][0]
    assert all(torch.equal(a, b) for a, b in zip(trained[True][1].values(), trained[False][1].values(), strict=True))


def test_only_the_first_of_several_micro_batches_learns_from_the_pass_that_drew():
    built = method(SETTINGS)
    clips = [video(2, seed) for seed in range(2)]
    for micro, clip in enumerate(clips):
        built({"video": clip}, rng(micro), progress())
    assert built.sampler._kept.episode is built.sampler.memory[0]
    calls: list[int] = []
    built.sampler.policy.register_forward_hook(lambda *_: calls.append(1))
    optimizer = torch.optim.SGD(built.sampler.parameters(), lr=0.1)
    for _ in range(built.sampler.num_updates(progress())):
        built.sampler.policy_loss()["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(calls) == 1


def test_presets_default_decisions():
    chosen = config().__class__().sampler
    assert (chosen.reward, chosen.ratio_indices, chosen.warmup_epochs, chosen.every, chosen.clip) == ("token", "same", 10, 1, 0.2)


def test_scores_read_from_the_hidden_layer_are_those_of_the_whole_block():
    torch.manual_seed(0)
    policy = TATS(TATSSampler(heads=2), VitConfig(**MODEL), 0.75).policy.double()
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(3, 32, 32, dtype=torch.float64)
    whole = policy.score(policy.blocks[0](tokens + policy.position, 0)).squeeze(-1).log_softmax(-1)
    read, _ = policy(tokens)
    assert torch.allclose(read, whole, atol=1e-6)  # logits are float32
    names, values = zip(*((name, p) for name, p in policy.named_parameters() if not name.startswith("value.")), strict=True)
    weight = torch.randn(3, 32, dtype=torch.float64)
    pairs = (torch.autograd.grad((out * weight).sum(), values) for out in (whole, read))
    for name, expected, found in zip(names, *pairs, strict=True):
        assert torch.allclose(found, expected, atol=1e-5), name


def test_a_narrower_policy_has_its_own_width_and_learns():
    built = method({**SETTINGS, "dim": 16, "policy_weight": 1.0})
    policy = built.sampler.policy
    assert (policy.narrow.weight.shape, policy.position.shape, policy.score.weight.shape) == ((16, 32), (1, 32, 16), (1, 16))
    before = snapshot(policy)
    train(built, 1)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items() if name.endswith("weight"))


@pytest.mark.parametrize("attention", ["trajectory", "joint"])
def test_a_width_that_heads_cannot_share_is_refused_before_training(attention):
    with pytest.raises(UsageError, match="width 18 cannot be split into 4 heads"):
        method({**SETTINGS, "heads": 4, "dim": 18, "attention": attention})


def free_logits(*steps: int, **settings) -> list[tuple[torch.Tensor, float]]:
    """log(N pi) of every token and the entropy as a share of ln N after so many updates of logits that nothing ties to each other.

    A quarter of 64 tokens is hard, the coefficients are the shipped ones, the critic knows the mean of the errors.
    """
    config = TATSSampler(value_weight=0.0, **settings)
    generator = torch.Generator().manual_seed(0)
    truth = torch.full((64,), 0.1)
    truth[:16] = 2.0
    value = truth.mean().expand(2)
    logits = torch.zeros(64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05, eps=config.eps, foreach=False)
    found = []
    for step in range(1, max(steps) + 1):
        log_probs = logits.log_softmax(-1).expand(2, 64)
        masked = draw(log_probs, 8, torch.rand(2, 64, generator=generator))[1]
        numerator = log_probs.gather(1, masked)
        loss = ppo_loss(log_probs, value, numerator, numerator.detach(), truth[masked], value, config)
        (logits.grad,) = torch.autograd.grad(loss["loss"], logits)
        optimizer.step()
        if step in steps:
            found.append((logits.detach().log_softmax(-1) + math.log(64), float(loss["entropy_share"])))
    return found


def test_the_policy_stays_bounded_over_three_thousand_updates_and_knows_the_hard_tokens():
    (earlier, _), (found, _) = free_logits(1500, 3000)
    assert found.abs().max() < 4
    assert found[:16].min() > found[16:].max()  # hard tokens are shown more often than all others
    assert (found - earlier).abs().max() < 1  # it has settled


def test_the_sum_of_the_thesis_has_no_finite_optimum():
    (short, _), (long, share) = free_logits(300, 1000, exploration="entropy", min_entropy=0.0)
    assert long.min() < 2 * short.min() < -6
    ((_, kept),) = free_logits(1000, exploration="entropy", min_entropy=0.98)
    assert kept > share + 0.01  # the policy's term rests where the entropy is lower


def test_adam_of_the_policy_sees_its_small_gradients():
    spec = method(SETTINGS).optimizers()[POLICY]
    assert spec.eps == TATSSampler().eps == 1e-12
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), 1e-9)  # c1 times a gradient of 1e-5
    torch.optim.AdamW([parameter], lr=0.1, eps=spec.eps, weight_decay=0.0).step()
    assert parameter.item() == pytest.approx(-0.1, rel=1e-2)


def test_mass_on_the_quarter_with_the_largest_errors():
    masked = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]])
    errors = torch.tensor([[0.0, 9.0, 0.1, 0.2, 8.0, 0.3, 0.1, 0.0]])
    assert hard_mass(torch.zeros(1, 12) - math.log(12), masked, errors).item() == pytest.approx(0.25)
    probabilities = torch.full((1, 12), 0.05)
    probabilities[0, [1, 4]] = 0.25
    assert hard_mass(probabilities.log(), masked, errors).item() == pytest.approx(0.5 / 0.8)


def test_the_tokens_that_are_reported_are_those_that_are_seen():
    from tasks.masked.config import PretrainConfig

    for name in ("tube", "random"):
        config = PretrainConfig(sampler={"name": name}, mask_ratio=0.95)
        grid = config.model.grid()
        expected = grid[0] * (grid[1] * grid[2] - int(0.95 * grid[1] * grid[2])) if name == "tube" else config.n_visible()
        built = method({"name": name}, mask_ratio=0.95)
        assert config.n_visible() == expected
        assert built.reconstruct(video(), rng(), progress())[0].visible.shape[1] == built.config.n_visible()
