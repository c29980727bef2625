"""Typed, validated configuration: the base class of every setting, and errors that name all problems at once."""

import re
import types
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tasks.core.errors import UsageError


class Config(BaseModel):
    """Base of all settings: unknown keys are errors, values are checked when set, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Groups of keys of which one at most is set: a layer that sets one of them unsets the others of lower layers."""


C = TypeVar("C", bound=Config)


def build(schema: type[C], data: Mapping[str, Any], origins: Mapping[str, str] | None = None, hint: str | None = None) -> C:
    """Validate `data` against `schema`.

    Args:
        schema: the configuration class.
        data: nested mapping of plain values.
        origins: dotted path -> where the value came from, named in errors.
        hint: of the error; None: the keys at the top.

    Raises:
        UsageError: listing every problem: dotted path, what was given and where, what is expected, the nearest known key.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problems = _problems(schema, data, error, origins or {})
    hint = hint or f"known keys: {', '.join(schema.model_fields)}"
    if len(problems) == 1:
        raise UsageError(f"configuration: {problems[0]}", hint)
    raise UsageError(f"configuration: {len(problems)} problems\n" + "\n".join(f"  {line}" for line in problems), hint)


def defaults(schema: type[BaseModel]) -> dict[str, Any]:
    """The schema's defaults as a nested mapping; keys without a default are absent."""
    found: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        options = sections(field)
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            found[name] = value.model_dump() if isinstance(value, BaseModel) else value
        elif len(options) == 1:
            found[name] = defaults(options[0])
    return found


def leaves(values: Mapping[str, Any] | BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is not a section, in order; an empty mapping is a leaf."""
    mapping = values.model_dump() if isinstance(values, BaseModel) else values
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sections(field: FieldInfo) -> list[type[BaseModel]]:
    """The configuration classes a field may hold: none for a plain value, several for a choice of sections."""
    return _classes(field.annotation)


def section_at(options: list[type[BaseModel]], values: Any, discriminator: str = "name") -> type[BaseModel] | None:
    """Which of `options` the mapping `values` stands for, by its discriminator where there are several."""
    if len(options) == 1:
        return options[0]
    tag = values.get(discriminator) if isinstance(values, Mapping) else None
    for option in options:
        field = option.model_fields.get(discriminator)
        if field is not None and tag in get_args(field.annotation):
            return option
    return None


def first_tag(options: list[type[BaseModel]], discriminator: str) -> Any:
    """The kind of the first of several sections: what a section that does not say its kind is taken for."""
    field = options[0].model_fields.get(discriminator)
    return field.default if field is not None else None


def discriminator_of(field: FieldInfo) -> str:
    """The key that chooses between the sections of a field."""
    return field.discriminator if isinstance(field.discriminator, str) else "name"


def known_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path the schema knows, those of all alternatives included."""
    found: dict[str, None] = {}
    for name, field in schema.model_fields.items():
        found[f"{prefix}{name}"] = None
        for option in sections(field):
            found.update(dict.fromkeys(known_keys(option, f"{prefix}{name}.")))
    return list(found)


def nearest_key(path: str, known: list[str]) -> str | None:
    """The known dotted path most like `path`: a sibling that is spelled alike or has it as one of
    its words, one with the same last part elsewhere, or any that is spelled alike.
    """
    parent, _, last = path.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    if close := get_close_matches(last, siblings, 1, cutoff=0.8):
        return siblings[close[0]]
    if inside := [key for name, key in siblings.items() if last in name.split("_")]:
        return inside[0]
    if same := [key for key in known if key.rpartition(".")[2] == last]:
        return same[0]
    if close := get_close_matches(last, siblings, 1):
        return siblings[close[0]]
    if close := get_close_matches(path, known, 1):
        return close[0]
    lasts = {key.rpartition(".")[2]: key for key in reversed(known)}
    close = get_close_matches(last, lasts, 1, cutoff=0.8)
    return lasts[close[0]] if close else None


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _classes(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for part in get_args(annotation) for option in _classes(part)]
    return []


def _problems(schema: type[BaseModel], data: Mapping[str, Any], error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    known = known_keys(schema)
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        kind, context = item["type"], item.get("ctx", {})
        path = _path(item["loc"], data, kind == "missing")
        origin = _from(path, origins)
        if kind.startswith("union_tag"):
            path = f"{path}.{context['discriminator'].strip(chr(39))}"
            origin = _from(path, origins)
        if kind == "extra_forbidden":
            near = nearest_key(path, known)
            found[path] = f"unknown key{origin}" + (f"; did you mean '{near}'?" if near else "")
        elif kind == "union_tag_invalid":
            found[path] = _choice(context["tag"], [tag.strip(" '") for tag in context["expected_tags"].split(",")], origin)
        elif kind == "union_tag_not_found":
            found[path] = "missing: it says which kind of section this is"
        elif kind == "missing":
            found[path] = "missing, and it has no default"
        elif kind == "literal_error":
            choices = context["expected"].replace(" or ", ", ").split(", ")
            found[path] = _choice(item["input"], [choice.strip("'") for choice in choices], origin)
        elif kind == "value_error":
            found[path] = item["msg"].removeprefix("Value error, ") + origin
        elif path in found:
            found[path] += f" or {expectation(item['msg'])}"
        else:
            found[path] = f"got {_short(item['input'])}{origin}, expected {expectation(item['msg'])}"
    return [f"{path}: {text}" if path else text for path, text in found.items()]


def _path(location: tuple[int | str, ...], data: Any, missing: bool) -> str:
    """Pydantic's location as a dotted path; the tags and type names it puts between are left out."""
    parts = ""
    here = data
    for number, part in enumerate(location):
        if isinstance(here, Mapping) and part in here:
            parts += f".{part}"
            here = here[part]
        elif isinstance(part, int) and isinstance(here, list | tuple) and part < len(here):
            parts += f"[{part}]"
            here = here[part]
        elif missing and number == len(location) - 1:
            parts += f".{part}"
    return parts.removeprefix(".")


def _choice(given: Any, choices: list[str], origin: str) -> str:
    near = get_close_matches(str(given), choices, 1)
    text = f"got {_short(given)}{origin}, expected one of {', '.join(choices)}"
    return f"{text}; did you mean '{near[0]}'?" if near else text


def expectation(message: str) -> str:
    """What pydantic expects of a value, from its message about another."""
    text = message.removeprefix("Input should be ").removeprefix("Input should ")
    text = text.split(", unable to")[0].split(", got a number")[0]
    if counted := re.match(r"\w+ should have (at \w+ \d+ items?)", text):
        return counted[1]
    return f"a number {text}" if text.startswith(("greater", "less")) else text[:1].lower() + text[1:]


def _from(path: str, origins: Mapping[str, str]) -> str:
    start = path.split("[")[0]
    origin = origins.get(start) or next((origin for key, origin in origins.items() if key.startswith(f"{start}.")), None)
    return f" (from {origin})" if origin else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
