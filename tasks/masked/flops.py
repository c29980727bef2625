"""Floating-point operations of one clip in masked pretraining (see `core.nn.flops` for what is counted)."""

import torch

from tasks.core.nn.flops import (
    TRAINING,
    block_flops,
    embed_flops,
    encoder_flops,
    linear_flops,
    mlp_dot_flops,
    mlp_flops,
    self_attention_flops,
    trajectory_flops,
)
from tasks.masked.config import AdaMAESampler, PretrainConfig, TATSSampler
from tasks.masked.samplers import build_sampler


def visible_tokens(config: PretrainConfig) -> int:
    """Tokens that the encoder sees, as the sampler rounds the mask ratio."""
    with torch.device("meta"):
        return build_sampler(config.sampler, config.model, config.mask_ratio).n_visible


def step_flops(config: PretrainConfig) -> dict[str, int]:
    """Forward pass of one clip: `encoder` (embedding and blocks on visible tokens), `decoder` (projection, blocks on all tokens, pixels of
    masked ones), `sampler` (one pass of its network, and the embedding of tokens for it alone).

    A fixed rule (random, tube) costs nothing. TATS draws at random for its first `warmup_epochs`; what is given here is a step after them.
    """
    seen = visible_tokens(config)
    return {"encoder": encoder_flops(config.model, seen), "decoder": decoder_flops(config, seen), "sampler": sampler_flops(config, seen)}


def training_flops(config: PretrainConfig) -> dict[str, int]:
    """Forward and backward of one clip, same keys as `step_flops`: three times the forward pass.

    The policy of TATS draws without gradient and then learns in `ppo_epochs` passes of its own, 1 + 3 `ppo_epochs` times its forward pass;
    with `keep_graph` and `every: 1` the first of them is the one that drew. The tokens it looks at are embedded without gradient.
    """
    once = step_flops(config)
    trained = {part: TRAINING * flops for part, flops in once.items()}
    if isinstance(config.sampler, TATSSampler):
        embedding = embed_flops(config.model.n_tokens(), config.model)
        passes = (0 if learns_from_draw(config) else 1) + TRAINING * config.sampler.ppo_epochs
        trained["sampler"] = embedding + passes * (once["sampler"] - embedding)
    return trained


def learns_from_draw(config: PretrainConfig) -> bool:
    """Whether the policy of TATS learns from the pass that drew, whose activations are held for the step."""
    return config.sampler.keep_graph and config.sampler.every == 1 and config.train.accumulate == 1


def decoder_flops(config: PretrainConfig, seen: int) -> int:
    """Projection of `seen` tokens, decoder blocks over all (the last one for the masked ones), pixels of the masked ones."""
    model, n = config.model, config.model.n_tokens()
    width = model.widths()[0]
    dim = config.decoder.dim or width // 2
    pixels = 3 * model.tubelet * model.patch**2
    blocks = (config.decoder.depth - 1) * block_flops(n, dim) + block_flops(n, dim, n - seen)
    return linear_flops(seen, width, dim) + blocks + linear_flops(n - seen, dim, pixels)


def sampler_flops(config: PretrainConfig, seen: int) -> int:
    """One pass of the sampler over all tokens, and the embedding of those that the encoder does not share."""
    sampler, model, n = config.sampler, config.model, config.model.n_tokens()
    width = model.widths()[0]
    if isinstance(sampler, AdaMAESampler):
        return embed_flops(n - seen, model) + block_flops(n, width) + linear_flops(n, width, 1)
    if not isinstance(sampler, TATSSampler):
        return 0
    dim = sampler.dim or width
    if sampler.attention == "trajectory":
        attention = trajectory_flops(n, dim, sampler.heads, model.grid()[0], sampler.landmarks)
    else:
        attention = self_attention_flops(n, dim)
    blocks = sampler.blocks * attention + (sampler.blocks - 1) * mlp_flops(n, dim) + mlp_dot_flops(n, dim)
    critic = linear_flops(1, n, units := sampler.value_hidden or n // 2) + linear_flops(1, units, 1)
    return embed_flops(n, model) + (linear_flops(n, width, dim) if sampler.dim else 0) + blocks + critic
