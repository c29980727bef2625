"""Settings of prompted CLIP. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.config import Config
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.prompting.search.config import IndexConfig, SearchConfig

TEMPLATE = "a photo of {}."
"""The hand-written prompt of the paper's baseline."""
PLAIN = "{}"
"""A sentence as it is, the paper's baseline of retrieval."""
Method = Literal["recognition", "localization", "retrieval"]


class PromptConfig(Config):
    """Learned vectors around the tokens of a name, the same for every class."""

    before: int = Field(16, ge=0, description="vectors between the start token and the name")
    after: int = Field(16, ge=0, description="vectors between the name and the end token")
    layout: Literal["vectors", "positional"] = Field(
        "vectors",
        description="vectors: before + after of them; positional: a vector for each position of a text, taken where it lands (public code)",
    )

    @property
    def added(self) -> int:
        """Tokens that a text has beside those of its name."""
        return self.before + self.after + 2

    def shown(self) -> str:
        """As in the paper: 16+X+16."""
        return f"{self.before}+X+{self.after}"


class TemporalConfig(Config):
    """The transformer over the features of frames; with 0 layers a clip is the mean of its frames."""

    layers: int = Field(2, ge=0)
    heads: int = Field(8, ge=1)
    gap_embedding: bool = Field(False, description="a learned vector says how far apart the frames are, beside those for their places")


class PromptedConfig(Config):
    """What is trained, and how it is compared."""

    prompts: PromptConfig = PromptConfig()
    temporal: TemporalConfig = TemporalConfig()
    frames: int = Field(16, ge=1, description="features of a clip; localization: of a snippet, into which a whole video is cut")
    gaps: tuple[int, ...] = Field(
        (1, 2, 3, 4, 5, 6, 10, 15), description="distances of neighbouring features of a clip, drawn at random; localization takes 1"
    )
    temperature: float = Field(0.07, gt=0, description="cosines are divided by it")

    @field_validator("gaps")
    @classmethod
    def _increasing(cls, gaps: tuple[int, ...]) -> tuple[int, ...]:
        if not gaps or list(gaps) != sorted(set(gaps)) or gaps[0] < 1:
            raise ValueError("gaps are increasing numbers from 1")
        return gaps

    @model_validator(mode="after")
    def _gaps_are_seen(self):
        if self.temporal.gap_embedding and not self.temporal.layers:
            raise ValueError("temporal.gap_embedding needs temporal.layers of at least 1")
        return self


class FramesConfig(Config):
    """How the features of frames are made, where `data.streams` has none."""

    hop_s: float | None = Field(None, gt=0, description="seconds from one frame to the next; null: every frame")
    dtype: Literal["float32", "float16"] = Field("float16", description="of the kept features")
    batch_size: int = Field(32, ge=1, description="frames that go through the image tower at once")
    folder: str | None = Field(None, description="where features are kept; runs can share it; null: in the run, or the cache")
    decoder: Literal["auto", "pyav", "decord"] = "auto"


class SamplesConfig(Config):
    """Probabilities of a video are averaged over random clips of it."""

    samples: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1, description="videos at once")


class TrialsConfig(Config):
    """Several trainings on random parts of a data set, whose mean is the result; no model is published.

    `way`: a trial draws `ways` classes of `data.train` and `shots` videos of each to learn from, and is tested on all other videos of
    these classes. `all`: `shots` videos of every class of `data.train`, tested on `data.val`. `open`: the classes that a trial draws are
    kept from training, and `data.val` is tested on them alone.
    """

    kind: Literal["way", "all", "open"] = "way"
    trials: int = Field(200, ge=1)
    ways: int = Field(5, ge=2, description="way: classes of a trial")
    shots: int = Field(5, ge=1, description="way, all: videos of each class to learn from")
    held: float = Field(0.25, gt=0, lt=1, description="open: share of the classes that training does not see")
    seed: int = Field(0, ge=0)
    files: str | None = Field(
        None, description="folder with train/split_N.list and perhaps test/split_N.list, published draws, a line CLASS/VIDEO or CLASS each"
    )


class FinetuneConfig(Training):
    """`vid finetune` of prompts, on features of frames.

    `recognition` learns from a manifest with labels, `localization` from one with labels, starts and ends, `retrieval` from one with texts.
    """

    method: Method = "recognition"
    data: FeatureConfig = FeatureConfig()
    clip: str | None = Field(
        None, description="CLIP model with both towers: a folder of transformers or OpenCLIP, hf://org/repo, a .pt file"
    )
    text: str | None = Field(None, description="another model's text tower; null: that of clip")
    vocabulary: str | None = Field(None, description="folder or file, where the model has none beside it")
    features: FramesConfig = FramesConfig()
    names: str | None = Field(
        None, description="JSON file: label -> the words for it; null: the label, as `brush_hair` and `BaseballPitch` are read"
    )
    model: PromptedConfig = PromptedConfig()
    candidates: int = Field(400, ge=2, description="classes in a step: those of the batch and random others; all where there are no more")
    symmetric: bool = Field(False, description="retrieval: texts are compared with all videos of a step too, not videos with texts alone")
    proposals: str | None = Field(
        None, description="localization: events without classes in the videos of data.val, as vid detect-events --from-proposals reads them"
    )
    per_proposal: int | None = Field(5, ge=1, description="localization: the best classes of a proposal that become events; null: all")
    protocol: Literal["unav", "thumos", "activitynet", "epic"] = Field(
        "thumos", description="localization: how classified proposals are compared with data.val"
    )
    test: SamplesConfig = SamplesConfig()
    template: str | None = Field(TEMPLATE, description="prompt of the control without training, tested beside the model; null: no control")
    trials: TrialsConfig | None = Field(None, description="a protocol of many small trainings; null: one training")
    optim: OptimConfig = OptimConfig(
        base_lr=1e-4, scale_lr=False, schedule="constant", betas=(0.9, 0.999), weight_decay=0.01, warmup_epochs=0
    )
    train: TrainConfig = TrainConfig(epochs=20, batch_size=64)

    @field_validator("template")
    @classmethod
    def _place(cls, template: str | None) -> str | None:
        return template if template is None else with_place(template)

    @model_validator(mode="after")
    def _of_the_method(self):
        if self.proposals and self.method != "localization":
            raise ValueError(f"proposals are classified by method: localization, not {self.method}")
        if self.symmetric and self.method != "retrieval":
            raise ValueError(f"symmetric is of method: retrieval, not {self.method}")
        if self.trials and (self.method == "retrieval" or (self.method == "localization" and self.trials.kind != "open")):
            raise ValueError(f"trials.kind {self.trials.kind} has no meaning for method: {self.method}")
        if self.method == "localization" and self.model.temporal.gap_embedding:
            raise ValueError("localization takes neighbouring frames: leave model.temporal.gap_embedding out")
        return self


class TestedConfig(Config):
    """A model that is tested on features of frames of a manifest's videos."""

    model: str = Field(description="prompted model: model folder, run folder or hf:// id; zero-shot: CLIP or another image-text model too")
    clip: str | None = Field(None, description="where the frozen towers are now; null: where they were in training")
    text: str | None = Field(None, description="zero-shot: where the text tower is now, of a model that records one; null: where it was")
    vocabulary: str | None = Field(None, description="folder or file, where the CLIP model has none beside it")
    template: str = Field(TEMPLATE, description="of zero-shot")
    data: FeatureConfig = FeatureConfig()
    features: FramesConfig = FramesConfig()
    frames: int = Field(16, ge=1, description="zero-shot without a prompted model: features of a clip")
    test: SamplesConfig = SamplesConfig()
    strict: bool = False

    @field_validator("model", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        if isinstance(value, list | tuple) and len(value) == 1:
            return value[0]
        return value

    @field_validator("template")
    @classmethod
    def _place(cls, template: str) -> str:
        return with_place(template)


class EvalConfig(TestedConfig):
    """`vid eval classify` of a prompted model, or of a CLIP model without training (`protocol: zero-shot`)."""

    protocol: Literal["prompted", "zero-shot"] = Field("prompted", description="zero-shot: hand-written prompts, mean of the frames")
    classes: Literal["model", "data"] = Field(
        "model", description="what is told apart: the classes of training, or those of the test set, by name (always so for zero-shot)"
    )
    names: str | None = Field(None, description="JSON file: label -> the words for it")
    save_scores: str | None = Field(None, description="write per-video class probabilities to this CSV file")


class RetrievalConfig(TestedConfig):
    """`vid eval retrieval`: texts of a manifest find their videos, and videos their texts."""

    protocol: Literal["prompted", "zero-shot"] | None = Field(
        None, description="zero-shot: texts in `template`, mean of the frames; null: prompted where the model has learned prompts"
    )
    template: str = Field(PLAIN, description="of zero-shot; the text as it is")
    gaps: tuple[int, ...] = Field((10, 15, 30), description="zero-shot without a prompted model: distances of the features of a clip")


class DetectConfig(Config):
    """`vid detect-events` by the names of classes: proposals of another detector get one each."""

    model: str = Field(description="prompted model (model folder, run folder, hf:// id), or a CLIP model without training")
    proposals: str = Field(description="events without classes: what vid detect-events wrote, results of ActivityNet, or CSV")
    classes: list[str] = Field(default_factory=list, description="names that are told apart; empty: those of the model's training")
    names: str | None = Field(None, description="JSON file: class -> the words for it; null: the class as it is read")
    per_proposal: int | None = Field(5, ge=1, description="the best classes of a proposal that become events; null: all")
    min_score: float | None = Field(None, ge=0, lt=1, description="events below it are left out; null: 0.001, which leaves out little")
    top: int | None = Field(None, ge=1, description="so many events of a video at most, the best ones")
    template: str = Field(TEMPLATE, description="of a CLIP model without training")
    clip: str | None = Field(None, description="where the frozen towers are now; null: where they were in training")
    text: str | None = Field(None, description="where the text tower is now, of an image-text model that records one; null: where it was")
    vocabulary: str | None = Field(None, description="folder or file, where the CLIP model has none beside it")
    hop_s: float = Field(0.1, gt=0, description="of a CLIP model without training: seconds from one frame to the next")
    batch_size: int = Field(32, ge=1, description="frames that go through the image tower at once")
    features: dict[str, str] = Field(default_factory=dict, description="visual -> folder of features of frames that were made before")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @field_validator("template")
    @classmethod
    def _place(cls, template: str) -> str:
        return with_place(template)


def with_place(template: str) -> str:
    """The template, which must have one place for the name."""
    if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
        raise ValueError("a template has one {}, where the name goes")
    return template


CONFIGS = {
    "finetune": FinetuneConfig,
    "eval": EvalConfig,
    "retrieve": RetrievalConfig,
    "detect": DetectConfig,
    "index": IndexConfig,
    "search": SearchConfig,
}
