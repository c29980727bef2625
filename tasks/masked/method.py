"""Masked pretraining as the loop sees it: a masked autoencoder and a sampler."""

import torch

from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.masked import ReconstructionLoss, take
from tasks.core.nn.precision import full_precision
from tasks.core.profile import from_gradient, span
from tasks.masked.config import PretrainConfig
from tasks.masked.model import MaskedAutoencoder
from tasks.masked.samplers import build_sampler
from tasks.masked.samplers.base import Choice

POLICY = "policy"


class MaskedPretraining(Method):
    """Reconstructs hidden tokens; the sampler that hid them may learn from the errors.

    A batch has `video`, `(B, T, 3, S, S)` float32 normalised by `augment.mean` and `augment.std`; for a sampler that looks at them `boxes`
    `(B, T, 4)` float32 px, and perhaps `still` `(B,)` bool, clips in which nothing moves.
    """

    shardable = True

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.config = config
        self.autoencoder = MaskedAutoencoder(config.model, config.decoder)
        self.sampler = build_sampler(config.sampler, config.model, config.mask_ratio)
        self.errors = ReconstructionLoss(config.target, config.model.tubelet, config.model.patch, config.augment.mean, config.augment.std)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        if phase == POLICY:
            return self.sampler.policy_loss()
        choice, prediction = self.reconstruct(batch["video"], rng, progress, batch.get("boxes"))
        with span("loss"):
            errors = self.errors(batch["video"], choice.masked, prediction)
            loss = errors.mean()
            learned = self.sampler.learn(choice, errors)
        extra = learned.pop("loss", None)
        if "still" in batch:
            learned["nothing_moves"] = batch["still"].float().mean()
        return {"loss": loss if extra is None else loss + extra, "reconstruction": loss.detach(), **learned}

    def reconstruct(
        self, video: torch.Tensor, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> tuple[Choice, torch.Tensor]:
        """The sampler's choice and the prediction at masked tokens, `(B, n_masked, pixels*3)`."""
        mae = self.autoencoder
        with span("sample"):
            shared = self.sampler.teaches_tokenizer
            with torch.set_grad_enabled(torch.is_grad_enabled() and shared):
                tokens = mae.embed(mae.encoder.cubes(video)) if self.sampler.needs_tokens else None
            choice = self.sampler.choose(tokens, len(video), rng, progress, boxes)
        with span("encode"):
            seen = take(tokens, choice.visible) if shared else mae.embed(mae.encoder.cubes(video, choice.visible))
            encoded = mae.encode(seen, choice.visible)
        with span("decode"):
            prediction = mae.decode(encoded, choice.visible, choice.masked)
        from_gradient(prediction, "decode, backward")
        from_gradient(encoded, "encode, backward")
        return choice, prediction

    def pixels(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised video back to `[0, 1]` float32."""
        return full_precision(video) * self.errors.std + self.errors.mean

    @property
    def uneven(self) -> bool:
        """The parameters of a sampler with an optimizer of its own get no gradient from the reconstruction."""
        return self.sampler.optimizer_groups() is not None

    def optimizers(self) -> dict[str, OptimizerSpec]:
        own = self.sampler.optimizer_groups()
        main = self.autoencoder.named_parameters(prefix="autoencoder") if own else self.named_parameters()
        optim = self.config.optim
        specs = {MAIN: OptimizerSpec.of(make_groups(main, optim.weight_decay), optim)}
        if own:
            groups = make_groups(self.sampler.named_parameters(), own["weight_decay"])
            specs[POLICY] = OptimizerSpec(groups, own["base_lr"], own["betas"], own["clip_grad"], own["eps"])
        return specs

    def phases_after(self, progress: Progress) -> list[str]:
        return [POLICY] * self.sampler.num_updates(progress)

    def extra_state(self) -> list[dict]:
        return self.sampler.extra_state()

    def load_extra_state(self, state: list[dict]) -> None:
        self.sampler.load_extra_state(state)
