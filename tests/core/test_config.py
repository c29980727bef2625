from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, model_validator

from tasks.core.config import Config, build, defaults, known_keys, leaves, nearest_key
from tasks.core.errors import UsageError


class Plain(Config):
    name: Literal["plain"] = "plain"


class Fancy(Config):
    name: Literal["fancy"] = "fancy"
    heads: int = Field(8, ge=1)


class Stride(Config):
    exclusive: ClassVar = (("frames", "seconds"),)
    frames: int | None = None
    seconds: float | None = None

    @model_validator(mode="after")
    def _one(self):
        if self.frames is not None and self.seconds is not None:
            raise ValueError("give frames or seconds, not both")
        return self


class Settings(Config):
    kind: Annotated[Plain | Fancy, Field(discriminator="name")] = Fancy()
    stride: Stride = Stride(frames=4)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    epochs: int = Field(10, ge=1)
    betas: tuple[float, float] = (0.9, 0.95)
    model: str


def problems(data, origins=None):
    with pytest.raises(UsageError) as caught:
        build(Settings, data, origins)
    return caught.value.message


def test_valid_data_builds():
    built = build(Settings, {"model": "m", "kind": {"name": "plain"}, "betas": [0.5, 0.6]})
    assert built.kind == Plain()
    assert built.betas == (0.5, 0.6)


def test_all_problems_at_once_with_path_given_expected_and_origin():
    data = {"model": 3, "kind": {"name": "fancy", "heads": 0, "headz": 1}, "epoch": 2, "precision": "bf61", "betas": [1, 2, 3]}
    text = problems(data, {"precision": "--precision", "kind.heads": "--set"})
    assert text.startswith("configuration: 6 problems\n")
    assert "  kind.heads: got 0 (from --set), expected a number greater than or equal to 1" in text
    assert "  kind.headz: unknown key; did you mean 'kind.heads'?" in text
    assert "  epoch: unknown key; did you mean 'epochs'?" in text
    assert "  precision: got 'bf61' (from --precision), expected one of auto, fp32, bf16; did you mean 'bf16'?" in text
    assert "  betas: got [1, 2, 3], expected at most 2 items" in text
    assert "  model: got 3, expected a valid string" in text


def test_a_wrong_kind_of_section_names_the_kinds():
    text = problems({"model": "m", "kind": {"name": "fansy"}})
    assert text == "configuration: kind.name: got 'fansy', expected one of plain, fancy; did you mean 'fancy'?"


def test_a_missing_key_and_a_rule_between_keys():
    text = problems({"stride": {"frames": 1, "seconds": 2.0}})
    assert "stride: give frames or seconds, not both" in text
    assert "model: missing, and it has no default" in text


def test_not_a_number_is_refused():
    assert "expected a finite number" in problems({"model": "m", "stride": {"seconds": float("nan")}})


def test_defaults_are_those_of_the_fields_not_of_their_classes():
    assert defaults(Settings)["stride"] == {"frames": 4, "seconds": None}
    assert defaults(Settings)["kind"] == {"name": "fancy", "heads": 8}
    assert "model" not in defaults(Settings)


def test_leaves_are_dotted_and_in_order():
    found = dict(leaves(build(Settings, {"model": "m"})))
    assert list(found)[:4] == ["kind.name", "kind.heads", "stride.frames", "stride.seconds"]
    assert found["betas"] == (0.9, 0.95)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("epocs", "epochs"), ("heads", "kind.heads"), ("kind.head", "kind.heads"), ("stride.second", "stride.seconds"), ("zzz", None)],
)
def test_nearest_key(typed, meant):
    assert nearest_key(typed, known_keys(Settings)) == meant


def test_a_key_that_people_shorten_is_found_where_it_was_looked_for():
    known = ["optim", "optim.schedule", "optim.base_lr", "optim.scale_lr", "sampler.lr", "sampler.heads"]
    assert nearest_key("optim.lr", known) == "optim.base_lr"
    assert nearest_key("heads", known) == "sampler.heads"
    assert nearest_key("optim.heads", known) == "sampler.heads"
