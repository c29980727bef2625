"""What one clip of masked pretraining costs, for `vid pretrain --plan`."""

import torch

from tasks.core.engine.plan import Workload
from tasks.core.nn.memory import SavedActivations, block_kept, encoder_kept, read_block_kept, trajectory_kept
from tasks.masked.config import AdaMAESampler, PretrainConfig, TATSSampler
from tasks.masked.flops import step_flops, training_flops, visible_tokens
from tasks.masked.method import MaskedPretraining


def workload(config: PretrainConfig, classes: int) -> Workload:
    """Parameters, operations and activations of one clip; there are no classes here."""
    with torch.device("meta"):
        method = MaskedPretraining(config)
    return Workload(
        parameters=sum(p.numel() for p in method.parameters()),
        forward=step_flops(config),
        training=training_flops(config),
        kept=kept(config),
        clip=config.model.frames * 3 * config.model.image_size**2,
    )


def kept(config: PretrainConfig) -> dict[str, SavedActivations]:
    """What a training step keeps of one clip for its backward pass: `encoder`, `decoder` with errors, `sampler`."""
    model, n, seen = config.model, config.model.n_tokens(), visible_tokens(config)
    dim = model.widths()[0]
    narrow, hidden, pixels = config.decoder.dim or dim // 2, n - seen, 3 * model.tubelet * model.patch**2
    shares = isinstance(config.sampler, AdaMAESampler)
    return {
        "encoder": encoder_kept(model, seen, n if shares else seen),
        "decoder": block_kept(n, narrow) * (config.decoder.depth - 1)
        + block_kept(n, narrow, hidden)
        + SavedActivations(hidden * pixels, 2 * hidden * narrow + seen * dim),
        "sampler": sampler_kept(config),
    }


def sampler_kept(config: PretrainConfig) -> SavedActivations:
    """What the sampler's own layers keep of all tokens."""
    sampler, model, n = config.sampler, config.model, config.model.n_tokens()
    width = model.widths()[0]
    if isinstance(sampler, AdaMAESampler):
        return block_kept(n, width) + SavedActivations(0, (2 + 2) * n * width)  # the scored tokens; masks of two dropouts
    if not isinstance(sampler, TATSSampler):
        return SavedActivations()
    tokens = SavedActivations(0, n * width) * (sampler.every * config.train.accumulate)
    if not (sampler.keep_graph and sampler.every == 1):
        return tokens  # the policy's activations come when those of the autoencoder are gone, and are fewer
    dim = sampler.dim or width
    blocks = block_kept(n, dim) * (sampler.blocks - 1) + read_block_kept(n, dim)
    if sampler.attention == "trajectory":
        blocks += trajectory_kept(n, dim, sampler.heads, model.grid()[0], sampler.landmarks) * sampler.blocks
    return blocks + tokens


WORKLOADS = {"pretrain": workload}
