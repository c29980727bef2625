"""Which tokens the encoder sees: one sampler per file, one line per sampler in `SAMPLERS`."""

from importlib import import_module

from tasks.core.nn.config import VitConfig
from tasks.masked.samplers.base import Sampler

SAMPLERS = {
    "random": "random:RandomTokens",
    "tube": "tube:Tubes",
    "adamae": "adamae:AdaMAE",
    "tats": "tats:TATS",
    "mofo": "mofo:MotionTubes",
}


def build_sampler(config, model: VitConfig, mask_ratio: float) -> Sampler:
    """The sampler that a config section names, for a model's token grid."""
    module, name = SAMPLERS[config.name].split(":")
    return getattr(import_module(f"tasks.masked.samplers.{module}"), name)(config, model, mask_ratio)
