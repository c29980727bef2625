"""Presets: find them by name, path or Hub address, and follow `extends`. Imports neither torch nor pydantic."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.core import hub
from tasks.core.errors import UsageError

HUB_DEFAULT_FILE = "preset.yaml"
MAX_ANCESTORS = 16
META_KEYS = ("task", "verb", "extends", "description")


@dataclass(frozen=True)
class Source:
    """Where one preset file was found.

    Attributes:
        name: what a person calls it: `masked/tats-tiny`, a path, or `hf://org/repo/file@commit`.
        path: the file on this machine.
        kind: "built-in", "file" or "hub".
    """

    name: str
    path: Path
    kind: str

    @property
    def origin(self) -> str:
        """The name with the file where that says more."""
        return f"preset {self.name} (presets/{self.name}.yaml)" if self.kind == "built-in" else f"preset {self.name}"

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        name = self.path.stem if self.kind == "file" else self.name.removeprefix(hub.PREFIX).split("@")[0].removesuffix(".yaml")
        return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-")


@dataclass(frozen=True)
class Preset:
    """A preset with its ancestors.

    Attributes:
        source: the file that was asked for.
        task: name of the task, verb: what it does.
        description: one line.
        layers: (values, origin) from the oldest ancestor to the preset itself, without the meta keys.
    """

    source: Source
    task: str
    verb: str
    description: str
    layers: list[tuple[dict[str, Any], str]]


def root() -> Path:
    """The folder of the built-in presets: inside the wheel, or the repository's in an editable checkout."""
    packaged = Path(__file__).parent / "_presets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "presets"


def names(bases: bool = False) -> list[str]:
    """Names of the built-in presets, sorted; files that start with `_` are only there to be extended and count with `bases`."""
    found = [path for path in root().rglob("*.yaml") if bases or not path.name.startswith("_")]
    return sorted(path.relative_to(root()).with_suffix("").as_posix() for path in found)


def complete(incomplete: str) -> Iterator[tuple[str, str]]:
    """Shell completion of a preset's name, with its first comment line."""
    for name in names():
        if name.startswith(incomplete):
            first = (root() / f"{name}.yaml").open(encoding="utf-8").readline()
            yield name, first.lstrip("# ").strip() if first.startswith("#") else ""


def find(reference: str) -> Source:
    """The preset file behind a built-in name, a YAML path or `hf://org/repo[/file][@revision]`.

    Raises:
        UsageError: nothing is there; it names the nearest built-in preset.
    """
    if reference.startswith(hub.PREFIX):
        return _find_on_hub(reference)
    name = reference.removesuffix(".yaml")
    if name in names(bases=True):
        return Source(name, root() / f"{name}.yaml", "built-in")
    path = Path(reference)
    if path.is_file():
        return Source(reference, path, "file")
    if path.suffix in (".yaml", ".yml") and path.parent.is_dir() and path.parent != Path("."):
        raise UsageError(f"no such preset file: {reference}", "vid presets list shows the built-in ones")
    raise UsageError(f"unknown preset '{reference}'", f"{_suggest(name)}see: vid presets list")


def load(reference: str) -> Preset:
    """The preset with all its ancestors; `task` and `verb` may be inherited.

    Raises:
        UsageError: unknown, not a mapping, a circle of `extends`, no task or verb.
    """
    source = find(reference)
    chain = lineage(source)
    meta: dict[str, str] = {}
    layers = []
    for ancestor, values in reversed(chain):
        for key in META_KEYS:
            if key in values and not (isinstance(values[key], str) and values[key].isprintable()):
                raise UsageError(f"{ancestor.name}: '{key}' must be text of one line, got {values[key]!r}")
        meta.update({key: values[key] for key in META_KEYS if key in values})
        origin = ancestor.origin if ancestor is source else f"{ancestor.origin}, extended by {source.name}"
        own = {key: value for key, value in values.items() if key not in META_KEYS}
        if ancestor.kind == "hub" and (outside := next(paths_outside(own), None)):
            raise UsageError(
                f"{ancestor.name}: {outside[0]} names a place outside of the repository: {outside[1]!r}",
                "a preset of the Hub names no folders of a machine; give yours with flags or --set",
            )
        layers.append((own, origin))
    for key in ("task", "verb"):
        if key not in meta:
            raise UsageError(f"preset {source.name} does not say its {key}", f"add a line '{key}: ...' (vid presets show masked/tats-tiny)")
    description = chain[0][1].get("description", "")
    return Preset(source, meta["task"], meta["verb"], description, layers)


def lineage(source: Source) -> list[tuple[Source, dict[str, Any]]]:
    """The file's mapping, then its parent's, and so on through `extends`."""
    from vidcli.yamlfile import load_mapping

    chain: list[tuple[Source, dict[str, Any]]] = []
    seen: list[Path] = []
    following: Source | None = source
    while following is not None:
        resolved = following.path.resolve()
        if resolved in seen:
            circle = " -> ".join([item.name for item, _ in chain] + [following.name])
            raise UsageError(f"presets extend each other in a circle: {circle}")
        if len(chain) > MAX_ANCESTORS:
            raise UsageError(f"{source.name} has more than {MAX_ANCESTORS} ancestors")
        seen.append(resolved)
        values = load_mapping(following.path, following.name)
        chain.append((following, values))
        following = _parent(following, values.get("extends"))
    return chain


def portable(source: Source) -> str:
    """The file's text, with an `extends` that is relative to it made to hold elsewhere too. Raises UsageError."""
    from vidcli.yamlfile import load_mapping

    values = load_mapping(source.path, source.name)
    parent = _parent(source, values.get("extends"))
    if parent is None:
        return extending(source, values, None)
    return extending(source, values, str(parent.path.resolve()) if parent.kind == "file" else parent.name)


def extending(source: Source, values: dict[str, Any], extends: str | None) -> str:
    """The text of a file that holds `values`, with its `extends` (None: it has none) as it has to be; its comments stay.

    Raises:
        UsageError: `extends` stands where it cannot be replaced.
    """
    from vidcli.yamlfile import parse

    text = source.path.read_text(encoding="utf-8")
    if extends is None:
        return text
    text = re.sub(r"^extends:.*$", lambda _: f"extends: {extends}", text, count=1, flags=re.MULTILINE)
    if parse(text, source.name) != {**values, "extends": extends}:
        raise UsageError(f"{source.name}: 'extends' cannot be rewritten", "put it on a line of its own: extends: NAME")
    return text


def paths_outside(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text in `values` that names a place on a machine: absolute, in a home folder, or through a parent."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from paths_outside(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from paths_outside(value, f"{key}[{number}]")
    elif (isinstance(values, str) and (values.startswith(("/", "\\", "~", "file:")) or re.match(r"[A-Za-z]:[/\\]", values))) or (
        isinstance(values, str) and ".." in re.split(r"[/\\]", values)
    ):
        yield key, values


def _find_on_hub(reference: str) -> Source:
    """A preset of the Hub at the commit it was fetched from, so that what it extends comes from the same; checked to be plain YAML."""
    from vidcli.yamlfile import load_mapping

    file = hub.parse(reference)[1] or HUB_DEFAULT_FILE
    if not file.endswith((".yaml", ".yml")):
        raise UsageError(f"{reference} is not a preset: a preset is a .yaml file", "name one: hf://org/repo/FILE.yaml")
    path = hub.fetch_file(reference, file)
    source = Source(hub.pinned(reference), path, "hub")
    load_mapping(path, source.name)
    return source


def _parent(child: Source, extends: Any) -> Source | None:
    """What `extends` stands for: `hf://`, a file beside the child, or a built-in name."""
    if extends is None:
        return None
    if not isinstance(extends, str):
        raise UsageError(f"{child.name}: 'extends' must be one preset's name or path, got {extends!r}")
    if extends.startswith(hub.PREFIX):
        return find(extends)
    if child.kind == "hub":
        return _hub_sibling(child, extends)
    beside = child.path.parent / extends
    for path in (beside, beside.with_name(f"{beside.name}.yaml")):
        if path.is_file():
            if not path.resolve().is_relative_to(root().resolve()):
                return Source(path.as_posix(), path, "file")
            return Source(path.resolve().relative_to(root().resolve()).with_suffix("").as_posix(), path, "built-in")
    try:
        return find(extends)
    except UsageError as error:
        raise UsageError(f"{child.name} extends '{extends}', which is not there", error.hint) from None


def _hub_sibling(child: Source, extends: str) -> Source:
    """A preset on the Hub extends a file of its own repository and revision, or a built-in preset; nothing else on this machine."""
    if extends in names(bases=True):
        return find(extends)
    repo, file, revision = hub.parse(child.name)
    relative = (PurePosixPath(file or HUB_DEFAULT_FILE).parent / extends).as_posix()
    return find(f"{hub.PREFIX}{repo}/{relative}" + (f"@{revision}" if revision else ""))


def _suggest(name: str) -> str:
    known = names()
    by_last = {item.rpartition("/")[2]: item for item in known}
    near = get_close_matches(name, known, 1) or [by_last[m] for m in get_close_matches(name.rpartition("/")[2], by_last, 1)]
    return f"did you mean '{near[0]}'? " if near else ""
