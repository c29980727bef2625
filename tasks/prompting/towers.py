"""The frozen towers of a prompted model: which text tower, and what makes the features of frames."""

from pathlib import Path
from typing import Any

from tasks.core.checkpoint import find_model
from tasks.core.errors import UsageError
from tasks.core.towers import load_text_tower
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.extract import Extractor
from tasks.core.towers.identity import recall
from tasks.core.towers.text import TextTower
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
    recorded = dict(saved["text_tower"])
    if reference is None:
        beside = find_model(source) / recorded["reference"]
        reference = str(beside) if beside.exists() else None
    return recall(recorded, lambda place: text_tower(place, vocabulary or recorded.get("vocabulary")), source, reference)


def frame_maker(reference: str, frames: FramesConfig, device: str = "auto") -> Extractor:
    """What makes the features of single frames by a CLIP model's image tower."""
    made = {"per": "window", "hop_s": frames.hop_s, "dtype": frames.dtype, "decoder": frames.decoder, "batch_size": frames.batch_size}
    return Extractor(ExtractConfig(model=reference, device=device, **made))


def feature_base(frames: FramesConfig) -> Path | None:
    """Where features are kept, if the settings say so."""
    return Path(frames.folder) if frames.folder else None
