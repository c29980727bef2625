"""Settings of the index and of search. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class IndexConfig(Config):
    """`vid index`."""

    model: str | None = Field(
        None, description="image-text model: CLIP, or a model folder, run folder or hf:// id; null: that of the index, or words alone"
    )
    text: str | None = Field(None, description="where the text tower is now, of a model that records one; null: where it was")
    vocabulary: str | None = Field(None, description="folder or file, where a CLIP model has none beside it")
    hop_s: float | None = Field(
        None, gt=0, description="seconds from one window to the next; null: 2 for pictures, for clips the length of one"
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="of the kept vectors")
    words: bool = Field(True, description="subtitles beside the videos, and what a manifest says in `subtitles` and `text`, are put in")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    batch_size: int = Field(16, ge=1, description="windows that go through the network at once")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class SearchConfig(Config):
    """`vid search`."""

    top: int = Field(10, ge=1, le=10_000, description="moments (or videos) that are shown")
    per: Literal["window", "video"] = Field("window", description="window: moments, several of a video; video: the best moment of each")
    by: Literal["pictures", "words"] = Field("pictures", description="pictures: what is seen; words: what is said or written about it")
    apart_s: float = Field(5.0, ge=0, description="windows so close to a moment that is shown are not another one, seconds")
    model: str | None = Field(None, description="where the model of the index is now; null: where it was")
    text: str | None = Field(None, description="where its text tower is now; null: where it was")
    vocabulary: str | None = Field(None, description="folder or file, where a CLIP model has none beside it")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
