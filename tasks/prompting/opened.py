"""A model that is used: a prompted one, or an image-text model without training; its text tower, and the features of frames beside it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.data.feature_record import check_encoder
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.data.streams import open_streams
from tasks.core.engine.run import hash_rows
from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter
from tasks.core.towers.clip_source import clip_kind, locate
from tasks.core.towers.image_text import load_pair
from tasks.core.towers.prepare import inputs_of
from tasks.core.towers.produce import produce
from tasks.core.towers.text_tower import TextTower
from tasks.core.video.cache import cache_folder
from tasks.core.world import world
from tasks.prompting.config import FramesConfig, PromptedConfig, TestedConfig
from tasks.prompting.data import one_folder
from tasks.prompting.model import PromptedModel
from tasks.prompting.towers import STREAM, beside, feature_base, frame_maker, recalled_tower


class Named(Protocol):
    """Settings that name a model; see `TestedConfig`."""

    model: str
    clip: str | None
    text: str | None
    vocabulary: str | None


@dataclass(frozen=True)
class Opened:
    """A model that is ready.

    Attributes:
        source: as it was named.
        tower: frozen text tower.
        model: in evaluation mode; None: there is no training, the towers are used as they are.
        saved: config.json of the model, empty without one.
    """

    source: str
    tower: TextTower
    model: PromptedModel | None = None
    saved: dict[str, Any] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """What cosines of hand-written prompts are divided by: that of the towers' own training, where it is known."""
        own = PromptedConfig() if self.model is None else self.model.config
        return 1 / (getattr(self.tower, "scale", None) or 1 / own.temperature)

    @property
    def record(self) -> dict[str, Any] | None:
        """What the model remembers of the features that it learned from; None where it learned from none."""
        return self.saved.get("streams", {}).get(STREAM)

    @property
    def remembers_tower(self) -> bool:
        """Whether the model knows which image tower made the features that it learned from."""
        return bool(self.record and self.record["encoder"].get("weights_hash"))

    def check(self, folder: FeatureFolder) -> None:
        """UsageError where features are not those of the image tower that the model learned with."""
        if self.remembers_tower:
            check_encoder(self.record, folder)

    def image_tower(self, clip: str | None) -> str:
        """The reference of the image tower; `clip` says where the frozen towers are now."""
        inside = beside(self.source, self.saved.get("image_tower", {}).get("reference")) if self.saved else None
        reference = clip or inside or (self.record["encoder"].get("reference") if self.record else self.source)
        if reference is None:
            raise UsageError(
                f"{self.source} does not say which image tower it learned from",
                "--set clip=MODEL, or --set data.streams.visual.folder=FOLDER",
            )
        return reference

    def frames(self, settings: FramesConfig) -> FramesConfig:
        """The settings with the distance of frames that the model learned from; every frame, where that followed each video's rate."""
        record = self.record
        return settings.model_copy(update={"hop_s": record["grid"]["stride_s"]}) if record and record["grid"] else settings


def is_prompted(reference: str) -> bool:
    """Whether a reference names a prompted model; False for whatever else, also for what is not there."""
    try:
        return load_config(find_model(reference))["task"] == "prompting"
    except UsageError:
        return False


def load_prompted(reference: str, device: torch.device | str = "cpu") -> tuple[PromptedModel, dict[str, Any]]:
    """A prompted model in evaluation mode and its config.json.

    Args:
        reference: model folder, run folder or `hf://` id. Raises UsageError when it holds no prompted model.
        device: where it computes.
    """
    folder = find_model(reference)
    saved = load_config(folder)
    if saved["task"] != "prompting":
        raise UsageError(
            f"{reference} is a model of task '{saved['task']}', not a prompted one", "vid finetune --preset prompting/... makes one"
        )
    config = PromptedConfig(**saved["architecture"])
    model = build_strict(lambda: PromptedModel(config, **saved["sizes"]), load_weights(folder), str(folder))
    return model.to(device).eval(), saved


def open_model(config: Named, device: torch.device | str, prompted: bool = False) -> Opened:
    """The model that settings name; UsageError where `prompted` is asked for and it is a CLIP model, or where there is none."""
    if prompted and clip_kind(locate(config.model)):
        raise UsageError(f"{config.model} is a CLIP model without learned prompts", "--protocol zero-shot tests it as it is")
    if prompted or is_prompted(config.model):
        model, saved = load_prompted(config.model, device)
        return Opened(config.model, recalled_tower(saved, config.model, config.clip, config.vocabulary).to(device), model, saved)
    pair = load_pair(config.clip or config.model, vocabulary=config.vocabulary, text=config.text)
    return Opened(config.model, pair.text.to(device))


def features_of(opened: Opened, config: TestedConfig, rows: Rows, reporter: Reporter) -> FeatureFolder:
    """The features of a test set: those of `data.streams`, else made now, or found in the cache."""
    if config.data.streams:
        folder = one_folder(open_streams(config.data), opened.tower.dim, config.model)
        opened.check(folder)
        return folder
    frames = opened.frames(config.features)
    maker = frame_maker(opened.image_tower(config.clip), frames)
    inputs = inputs_of(rows)
    base = feature_base(frames) or cache_folder() / "features" / f"{maker.described['id']}-{hash_rows(rows)}"
    for made in produce(maker, inputs[world().share], base / STREAM, False, reporter, inputs, "features of frames"):
        if "error" in made:
            reporter.warn(f"skipped {made['video']}: {made['error']}")
    if world().size > 1:
        torch.distributed.barrier()
    folder = one_folder({STREAM: FeatureFolder(base / STREAM)}, opened.tower.dim, config.model)
    opened.check(folder)
    return folder
