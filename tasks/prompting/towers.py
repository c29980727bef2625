"""The frozen towers of a prompted model: which text tower, and what makes the features of frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tasks.core.checkpoint import find_model
from tasks.core.config import Config
from tasks.core.errors import UsageError
from tasks.core.towers import load_text_tower
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.extract import Extractor
from tasks.core.towers.identity import recall, tensors_hash
from tasks.core.towers.text_tower import TextTower
from tasks.prompting.config import FramesConfig

STREAM = "visual"
"""The one stream of features."""


def text_tower(reference: str | None, vocabulary: str | None) -> TextTower:
    """A CLIP model's text tower; UsageError where none is named, or it is a sentence encoder."""
    if reference is None:
        raise UsageError("nothing says which CLIP model reads the names", "--set clip=FOLDER, hf://org/repo or FILE.pt")
    tower = load_text_tower(reference, vocabulary=vocabulary)
    if not isinstance(tower, TextTower):
        raise UsageError(f"{reference} is a sentence encoder, into which no prompts can be put", "give a CLIP model")
    return tower


def recalled_tower(saved: dict[str, Any], source: str, reference: str | None, vocabulary: str | None) -> TextTower:
    """The text tower that a prompted model was trained with; UsageError where it is another one.

    Args:
        saved: config.json of the model.
        source: the model, for errors.
        reference: where the tower is now; None: where it was. What is not absolute lies beside the model or where the command runs.
        vocabulary: as `load_text_tower`.
    """
    recorded = saved["text_tower"]

    def load(place: str) -> TextTower:
        tower = text_tower(place, vocabulary or recorded.get("vocabulary"))
        if recorded.get("no_vocabulary"):  # then the hash is of the weights alone
            tower.source["weights_hash"] = weights_alone(tower.network.state_dict(), tower.network.config)
        return tower

    return recall(recorded, load, source, reference or beside(source, recorded["reference"]))


def beside(source: str, reference: str | None) -> str | None:
    """A recorded place as it is seen from the model folder `source`; None where nothing is there."""
    there = find_model(source) / reference if reference else None
    return str(there) if there is not None and there.exists() else None


def weights_alone(weights: Mapping[str, torch.Tensor], settings: Config) -> str:
    """The hash of a tower without its vocabulary."""
    return tensors_hash(weights, settings.model_dump())


def frame_maker(reference: str, frames: FramesConfig, device: str = "auto") -> Extractor:
    """What makes the features of single frames by a CLIP model's image tower."""
    made = {"per": "window", "hop_s": frames.hop_s, "dtype": frames.dtype, "decoder": frames.decoder, "batch_size": frames.batch_size}
    return Extractor(ExtractConfig(model=reference, device=device, **made))


def feature_base(frames: FramesConfig) -> Path | None:
    """Where features are kept, if the settings say so."""
    return Path(frames.folder) if frames.folder else None
