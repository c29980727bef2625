"""A small aligner and batches for it."""

import torch

from tasks.alignment.config import AlignerConfig, PretrainConfig, WordsConfig

SMALL = {"width": 16, "heads": 2, "dual_layers": 2, "joint_layers": 2, "positions": 64}
TEXT = {"embedding": 8, "hidden": 16, "width": 12}


def config(name: str = "tan", **more) -> PretrainConfig:
    """A run of one stage; `method` and `model` are added to the small ones."""
    method = {"name": name} | more.pop("method", {})
    model = AlignerConfig(**{**SMALL, **more.pop("model", {})})
    data = {"max_length": 20, "workers": 0, **more.pop("data", {})}
    return PretrainConfig(method=method, model=model, text=WordsConfig(**TEXT), data=data, **more)


def batch(videos: int = 3, length: int = 20, sentences: int = 4, dim: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random features and words; the last video is shorter and has a sentence less."""
    draws = torch.Generator().manual_seed(seed)
    begins = torch.randint(0, length - 8, (videos, sentences), generator=draws)
    lengths = torch.randint(2, 5, (videos, sentences), generator=draws)
    at = torch.arange(length)
    given = (at >= begins[..., None]) & (at < (begins + lengths)[..., None])
    video_mask, text_mask = torch.ones(videos, length, dtype=torch.bool), torch.ones(videos, sentences, dtype=torch.bool)
    video_mask[-1, length - 4 :], text_mask[-1, -1] = False, False
    given &= video_mask[:, None] & text_mask[..., None]
    return {
        "video": torch.randn(videos, length, dim, generator=draws),
        "video_mask": video_mask,
        "text": torch.randint(1, 9, (videos, sentences, 5), generator=draws) * text_mask[..., None],
        "text_mask": text_mask,
        "given": given,
        "right": torch.zeros(given.shape).masked_fill(~given, -torch.inf),
        "edge": torch.zeros(videos, sentences, dtype=torch.bool),
    }
