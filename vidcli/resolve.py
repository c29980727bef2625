"""From preset, files, flags and --set to one validated configuration, with the origin of every value."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.core.config import Config, build, defaults, discriminator_of, first_tag, leaves, section_at, sections
from tasks.core.errors import UsageError
from tasks.registry import TASKS, schema
from vidcli import presets
from vidcli.yamlfile import parse

DEFAULT = "default"
MACHINE = {"VID_WORKERS": "data.workers", "VID_DECODER": "data.decoder"}


@dataclass(frozen=True)
class Given:
    """What the person at the terminal gave.

    Attributes:
        preset: name, path or Hub address.
        files: `--config` files, the later ones win.
        flags: (flag as typed, dotted path, value) of named flags.
        sets: `key.path=value` texts of --set.
    """

    preset: str | None = None
    files: Sequence[Path] = ()
    flags: Sequence[tuple[str, str, Any]] = ()
    sets: Sequence[str] = ()


@dataclass(frozen=True)
class Resolved:
    """A validated configuration.

    Attributes:
        config: the configuration.
        task: its task, verb: what it is for.
        preset: name of the preset, if there was one.
        slug: the preset (or the task) as part of a folder's name.
        origins: dotted path -> where the value came from; what is missing came from the schema.
    """

    config: Config
    task: str
    verb: str
    preset: str | None
    slug: str
    origins: dict[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """key, value and origin of every leaf."""
        found = leaves(self.config.model_dump(mode="json"))
        return [{"key": key, "value": value, "origin": self.origins.get(key, DEFAULT)} for key, value in found]


def resolve(given: Given, verb: str | None = None, task: str | None = None) -> Resolved:
    """Layers low to high: schema default, preset, VID_* (machine matters), --config, named flags, --set.

    Args:
        given: what was given.
        verb: the verb the command is for; None takes the preset's.
        task: the task, where the command fixes it.

    Raises:
        UsageError: with every problem of the configuration at once.
    """
    preset = presets.load(given.preset) if given.preset else None
    files = [_config_file(path) for path in given.files]
    named = ([(preset.source.name, preset.task, preset.verb)] if preset else []) + [
        (str(path), meta.get("task"), meta.get("verb")) for path, (meta, _) in zip(given.files, files, strict=True)
    ]
    task = _agree("task", [(where, found) for where, found, _ in named], task)
    verb = _agree("verb", [(where, found) for where, _, found in named], verb)
    model = schema(task, verb)

    values = defaults(model)
    origins: dict[str, str] = {}
    layers = list(preset.layers) if preset else []
    layers += _environment(values)
    layers += [layer for _, found in files for layer in found]
    layers += [(_nested(path, value), flag) for flag, path, value in given.flags]
    layers += [_set(text) for text in given.sets]
    for layer, origin in layers:
        overlay(model, values, layer, origin, origins)
    name = preset.source.name if preset else None
    return Resolved(build(model, values, origins, _where_to_look(given)), task, verb, name, preset.source.slug if preset else task, origins)


def _where_to_look(given: Given) -> str | None:
    """The command that shows every key of what was given; None where it would not know which task is meant."""
    known = [*(["--preset", given.preset] if given.preset else []), *(word for path in given.files for word in ("--config", str(path)))]
    return f"every key with its value and origin: vid config show {shlex.join(known)} --origin" if known else None


def overlay(
    model: type[BaseModel] | None, low: dict[str, Any], high: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str = ""
) -> None:
    """Lay `high` over `low`, in place: sections merge, everything else replaces.

    A section that a higher layer turns into another kind (`sampler.name`) forgets the keys of the kind it was, and a key that excludes
    another (`Config.exclusive`) unsets it.
    """
    for group in getattr(model, "exclusive", ()):
        if any(high.get(key) is not None for key in group):
            for key in set(group) - set(high):
                low.pop(key, None)
                origins.pop(f"{prefix}{key}", None)
    for key, value in high.items():
        path = f"{prefix}{key}"
        if not isinstance(value, Mapping) or not value:
            _forget(origins, path)
            low[key] = dict(value) if isinstance(value, Mapping) else value
            origins[path] = origin
            continue
        field = model.model_fields.get(key) if model else None
        options = sections(field) if field else []
        kind = discriminator_of(field) if field else "name"
        below = low.get(key)
        if not isinstance(below, dict) or (len(options) > 1 and kind in value and value[kind] != below.get(kind, first_tag(options, kind))):
            low[key] = {}
            _forget(origins, path)
        section = section_at(options, {**low[key], **value}, kind) if options else None
        overlay(section, low[key], value, origin, origins, f"{path}.")


def _forget(origins: dict[str, str], path: str) -> None:
    for key in [key for key in origins if key == path or key.startswith(f"{path}.")]:
        del origins[key]


def _config_file(path: Path) -> tuple[dict[str, str], list[tuple[dict[str, Any], str]]]:
    """(meta keys, layers) of a --config file with what it extends."""
    source = presets.Source(str(path), path, "file")
    chain = presets.lineage(source)
    meta: dict[str, str] = {}
    layers = []
    for item, values in reversed(chain):
        meta.update({key: values[key] for key in presets.META_KEYS if key in values})
        origin = f"--config {path}" if item is source else f"{item.origin}, extended by --config {path}"
        layers.append(({key: value for key, value in values.items() if key not in presets.META_KEYS}, origin))
    return meta, layers


def _agree(key: str, named: list[tuple[str, str | None]], fixed: str | None) -> str:
    """The one task or verb that everything given stands for."""
    chosen, by = fixed, f"this command is for {key}"
    for where, found in named:
        if found is None:
            continue
        if chosen is not None and found != chosen:
            same = "presets and --config files must be for the same task and verb"
            hint = f"use it with: vid {found} ..." if key == "verb" and fixed else same
            raise UsageError(f"{where} is for {key} '{found}', but {by} '{chosen}'", hint)
        chosen, by = chosen or found, f"{where} is for {key}" if chosen is None else by
    if chosen is None:
        known = ", ".join(TASKS) if key == "task" else "vid presets list"
        raise UsageError(f"which {key}? Neither --preset nor --config says it", f"choose a preset: vid presets list (tasks: {known})")
    return chosen


def _environment(values: Mapping[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Machine settings from VID_*, where the configuration has such keys."""
    found = []
    for variable, path in MACHINE.items():
        section, key = path.split(".")
        if os.environ.get(variable) and key in (values.get(section) or {}):
            found.append(({section: {key: parse(os.environ[variable], variable)}}, variable))
    return found


def _set(text: str) -> tuple[dict[str, Any], str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or not all(path.strip().split(".")):
        raise UsageError(f"--set {text}: expected key.path=value", "for example: --set optim.base_lr=1e-3 --set data.clip.stride_frames=2")
    return _nested(path.strip(), parse(value, f"--set {path}")), "--set"


def _nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value
