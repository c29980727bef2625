"""TATS: a trajectory-aware actor-critic chooses the visible tokens, trained with PPO on the reconstruction error.

Source: thesis chapter 5 (arXiv 2505.08561), equations 5.1 to 5.8 and algorithm 1. Where the text contradicts itself: the masked set is
stored and used in both terms of the ratio, and reward, advantage and ratio are per masked token; the printed alternatives are options.
"""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import nn

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.trajectory import TrajectoryAttention
from tasks.core.nn.vit import Attention, Mlp, Norm, init_linear
from tasks.masked.config import TATSSampler
from tasks.masked.samplers.base import Choice, Sampler, draw, split


class ActorBlock(nn.Module):
    """Pre-norm block of (trajectory) attention and MLP, with residuals; no dropout, so that equal parameters give equal probabilities."""

    compile_region = True

    def __init__(self, dim: int, frames: int, config: TATSSampler):
        super().__init__()
        self.norm1 = Norm(dim)
        self.trajectory = config.attention == "trajectory"
        if self.trajectory:
            self.attn = TrajectoryAttention(dim, config.heads, frames, config.landmarks, config.raw_values)
        else:
            self.attn = Attention(dim, config.heads)
        self.norm2 = Norm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor, first_landmark: torch.Tensor | int, read: nn.Linear | None = None) -> torch.Tensor:
        """`(B, N, dim)` to the same. With `read`, a layer from dim to one number: what it makes of the outputs, `(B, N)` float32, for
        little more than half the operations of the MLP.
        """
        y = self.norm1(x)
        x = x + (self.attn(y, first_landmark) if self.trajectory else self.attn(y))
        y = self.norm2(x)
        if read is None:
            return x + self.mlp(y)
        direction = read.weight[0]
        return full_precision(x @ direction.to(x.dtype)) + full_precision(self.mlp.dot(y, direction)) + read.bias


class Policy(nn.Module):
    """Actor (equations 5.3 and 5.4) and critic.

    The critic reads the mean over channels of every token, a vector of N numbers: Linear(N, N/2), ReLU, Linear(N/2, 1).
    """

    def __init__(self, config: TATSSampler, model: VitConfig):
        super().__init__()
        width, n = model.widths()[0], model.n_tokens()
        dim = config.dim or width
        self.temperature = config.temperature
        self.narrow = nn.Linear(width, dim) if config.dim else nn.Identity()
        self.position = nn.Parameter(torch.zeros(1, n, dim)) if config.position else None
        self.blocks = nn.ModuleList(ActorBlock(dim, model.grid()[0], config) for _ in range(config.blocks))
        self.score = nn.Linear(dim, 1)
        hidden = config.value_hidden or n // 2
        self.value = nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.apply(init_linear)

    def forward(self, tokens: torch.Tensor, first_landmark: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, N, dim)` tokens to log-probabilities `(B, N)` and values `(B,)`, both float32."""
        x = self.narrow(tokens)
        x = x if self.position is None else x + self.position.to(x.dtype)
        first = torch.full((), first_landmark, device=tokens.device)  # a tensor: torch.compile would make a graph for every number
        *others, last = self.blocks
        for block in others:
            x = block(x, first)
        logits = torch.nan_to_num(last(x, first, self.score))
        means = tokens.mean(-1, dtype=torch.promote_types(tokens.dtype, torch.float32))
        return (logits / self.temperature).log_softmax(-1), full_precision(self.value(means).squeeze(-1))


@dataclass
class Episode:
    """What algorithm 1, line 12 stores, and the masked set that the ratio needs."""

    tokens: torch.Tensor
    masked: torch.Tensor
    old_log_probs: torch.Tensor
    errors: torch.Tensor
    old_value: torch.Tensor
    noise: torch.Tensor
    first_landmark: int
    step: int = 0  # of the run: micro-batches of one step are learned from together


@dataclass
class CachedForward:
    """A forward pass of the policy from which it can still learn: `updates` says after how many steps of the policy it was made."""

    episode: Episode
    log_probs: torch.Tensor
    value: torch.Tensor
    updates: int


def ppo_loss(
    log_probs: torch.Tensor,
    value: torch.Tensor,
    numerator: torch.Tensor,
    old_log_probs: torch.Tensor,
    errors: torch.Tensor,
    old_value: torch.Tensor,
    config: TATSSampler,
) -> dict[str, torch.Tensor]:
    """Loss of the sampler, L_S = -E[c1 J_CLIP - c2 (psi - R)^2 + c3 H] (equations 5.7 and 5.8), with the mean of log N pi in the place
    of the entropy H unless `exploration` says otherwise.

    The thesis' sum has no finite optimum: a masked token whose error lies below psi is pushed down by every step with the same force,
    while that of the entropy vanishes with its probability. The mean of log pi, minus KL(uniform || pi), holds it with a constant one.
    This is no ascent of the policy gradient: tokens with large errors are made visible, which lowers the rewards that are seen later.

    Args:
        log_probs: `(B, N)` of the current policy.
        value: `(B,)` of the current critic.
        numerator, old_log_probs: `(B, n_masked)` log-probabilities of the masked tokens under the current and the storing policy.
        errors: `(B, n_masked)` reconstruction errors, the reward of each token; their mean is the reward R of a clip.
        old_value: `(B,)`.

    Returns:
        `loss`, and detached `policy`, `value_error`, `entropy`, `entropy_share` (of ln N: 1 is uniform), `explained` (share of the variance
        of R over the clips of this process that the critic explains), `ratio` (mean) and `clipped` (share of ratios outside the clip
        range).
    """
    reward = errors.mean(-1)
    if config.reward == "video":
        numerator, old_log_probs, errors = numerator.mean(-1, True), old_log_probs.mean(-1, True), reward[:, None]
    advantage = errors - old_value[:, None]
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std(unbiased=False) + 1e-8)
    ratio = (numerator - old_log_probs).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    policy = torch.minimum(ratio * advantage, clipped * advantage).mean()
    value_error = (value - reward).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    n = log_probs.shape[-1]
    if config.exploration == "kl":
        kept, bonus = 1.0, log_probs.mean() + math.log(n)
    else:
        kept, bonus = (entropy.detach() >= config.min_entropy * math.log(n)).to(policy.dtype), entropy
    loss = -(config.policy_weight * kept * policy - config.value_weight * value_error + config.entropy_weight * bonus)
    logs = {
        "policy": policy,
        "value_error": value_error,
        "entropy": entropy,
        "entropy_share": entropy / math.log(n),
        "explained": 1 - (reward - value).var(unbiased=False) / reward.var(unbiased=False).clamp_min(1e-12),
        "ratio": ratio.mean(),
        "clipped": (ratio != clipped).float().mean(),
    }
    return {"loss": loss, **{key: value.detach() for key, value in logs.items()}}


def hard_mass(log_probs: torch.Tensor, masked: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """The share of the probability of hidden tokens that lies on the quarter of them with the largest errors; 1/4 for a policy that does
    not know which they are.

    Args:
        log_probs: `(B, N)`.
        masked: `(B, n_masked)`.
        errors: `(B, n_masked)` of these.
    """
    mass = log_probs.gather(1, masked).exp()
    hard = errors.topk(max(1, errors.shape[1] // 4), dim=1).indices
    return (mass.gather(1, hard).sum(1) / mass.sum(1).clamp_min(1e-30)).mean()


class TATS(Sampler):
    """Uniform during the first `warmup_epochs`; then the policy draws, and every `every` steps learns from the stored episodes."""

    needs_tokens = True

    def __init__(self, config: TATSSampler, model: VitConfig, mask_ratio: float):
        super().__init__(config, model, mask_ratio)
        self.config = config
        self.policy = Policy(config, model)
        self.memory: deque[Episode] = deque()
        self._pending: deque[list[Episode]] = deque()
        self._updates = 0
        self._kept: CachedForward | None = None

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        noise = rng.rand(n, self.n_tokens)
        if progress.epoch < self.config.warmup_epochs:
            return Choice(*split(noise.argsort(-1), self.n_visible))
        tokens = tokens.detach()
        first = rng.shared_index(self.n_tokens)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._learns_from_this_pass):
            log_probs, value = self.policy(tokens, first)
        visible, masked = draw(log_probs.detach(), self.n_visible, noise)
        extra = {"tokens": tokens, "value": value, "first": first, "noise": noise, "step": progress.step}
        return Choice(visible, masked, log_probs, extra)

    @property
    def _learns_from_this_pass(self) -> bool:
        """Whether the pass that draws is also the one to learn from: nothing is stored before it, and the policy learns after this step."""
        return self.config.keep_graph and self.config.every == 1 and not self.memory

    def learn(self, choice: Choice, errors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Stores the episode (algorithm 1, lines 12 and 13); a step in the warm-up leaves the sampler untouched."""
        if choice.log_probs is None:
            return {}
        log_probs, value, extra = choice.log_probs, choice.extra["value"], choice.extra
        old = log_probs.detach().gather(1, choice.masked)
        episode = Episode(
            extra["tokens"], choice.masked, old, errors.detach(), value.detach(), extra["noise"], extra["first"], extra["step"]
        )
        if log_probs.requires_grad:
            self._kept = CachedForward(episode, log_probs, value, self._updates)
        self.memory.append(episode)
        return {}

    def num_updates(self, progress: Progress) -> int:
        if not self.memory or (progress.step + 1) % self.config.every:
            return 0
        steps = dict.fromkeys(episode.step for episode in self.memory)
        together = [[episode for episode in self.memory if episode.step == step] for step in steps]
        self._pending = deque(episodes for _ in range(self.config.ppo_epochs) for episodes in together)
        self.memory.clear()
        return len(self._pending)

    def policy_loss(self) -> dict[str, torch.Tensor]:
        """One pass over the episodes of one step of the run (lines 16 to 19): the mean over its micro-batches."""
        found = [self._of_episode(episode) for episode in self._pending.popleft()]
        self._updates, self._kept = self._updates + 1, None
        return {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}

    def _of_episode(self, episode: Episode) -> dict[str, torch.Tensor]:
        kept = self._kept
        if kept is not None and kept.episode is episode and kept.updates == self._updates:
            log_probs, value = kept.log_probs, kept.value
        else:
            log_probs, value = self.policy(episode.tokens, episode.first_landmark)
        indices = episode.masked
        if self.config.ratio_indices == "resampled":  # equation 5.8 as printed: a fresh set, paired with the stored one by position
            indices = draw(log_probs, self.n_visible, 1 - episode.noise)[1]
        numerator = log_probs.gather(1, indices)
        found = ppo_loss(log_probs, value, numerator, episode.old_log_probs, episode.errors, episode.old_value, self.config)
        return {**found, "hard_mass": hard_mass(log_probs.detach(), episode.masked, episode.errors)}

    def extra_state(self) -> list[dict]:
        """Stored episodes (only `every` > 1 leaves any between steps)."""
        return [vars(episode) for episode in self.memory]

    def load_extra_state(self, state: list[dict]) -> None:
        self.memory = deque(Episode(**episode) for episode in state)

    def optimizer_groups(self) -> dict:
        c = self.config
        return {"base_lr": c.lr, "betas": c.betas, "weight_decay": c.weight_decay, "clip_grad": c.clip_grad, "eps": c.eps}
