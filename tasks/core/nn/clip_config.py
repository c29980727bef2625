"""Settings of CLIP's two transformers. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Config

Activation = Literal["quick_gelu", "gelu"]


class ClipTower(Config):
    """What the transformers of pictures and of text have in common."""

    width: int = Field(512, ge=2, description="channels of a token")
    depth: int = Field(12, ge=1, le=1000, description="layers")
    heads: int = Field(8, ge=1)
    hidden: int = Field(2048, ge=1, description="channels inside the MLP of a layer")
    projection: int = Field(512, ge=1, description="length of what comes out, the space that pictures and text share")
    activation: Activation = Field("quick_gelu", description="of the MLPs; OpenAI's models have quick_gelu")
    norm_eps: float = Field(1e-5, gt=0, description="epsilon of the layer norms")

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class ClipImageConfig(ClipTower):
    """CLIP's transformer of pictures (Radford et al., ICML 2021); the defaults are ViT-B/16."""

    width: int = Field(768, ge=2, description="channels of a token")
    heads: int = Field(12, ge=1)
    hidden: int = Field(3072, ge=1, description="channels inside the MLP of a layer")
    image_size: int = Field(224, ge=1, le=16_384, description="side of the square input, px")
    patch: int = Field(16, ge=1, description="side of a token, px")

    @model_validator(mode="after")
    def _patches_fit(self):
        if self.patch > self.image_size:
            raise ValueError(f"patch ({self.patch}) must not be larger than image_size ({self.image_size})")
        return self

    def n_patches(self) -> int:
        """Tokens of a picture beside the class token; pixels that fill no patch are not seen."""
        return (self.image_size // self.patch) ** 2


class ClipTextConfig(ClipTower):
    """CLIP's transformer of text; the defaults are those beside ViT-B."""

    vocabulary: int = Field(49_408, ge=3, description="tokens that are known")
    context: int = Field(77, ge=2, le=65_536, description="tokens of a text, with those for its start and its end")
