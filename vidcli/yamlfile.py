"""Reading YAML that somebody else wrote: data only, no duplicate keys, no bombs."""

import re
from pathlib import Path
from typing import Any

import yaml

from tasks.core.errors import UsageError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_KEY = 200
MAX_NUMBER = 100
"""Digits; YAML's base-60 numbers of a megabyte take minutes to convert."""
PLAIN = "only plain YAML is read: mappings, lists, values"


class _Loader(yaml.SafeLoader):
    """Safe loading that refuses duplicate keys, stops at too many values and reads `1e-4` as the number it is."""

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        self.composed += 1
        if self.composed > MAX_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_NODES} values", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key_node.value}'", key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def parse(text: str, where: str) -> Any:
    """The plain value that `text` stands for; `where` names it in errors. Raises UsageError."""
    if len(text) > MAX_BYTES:
        raise UsageError(f"{where}: larger than {MAX_BYTES // 1_000_000} MB", "a preset or configuration is a small YAML file")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _weigh(node, where, set(), {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}{place}: {problem}", PLAIN) from None
    except RecursionError:
        raise UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels", PLAIN) from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {error}", PLAIN) from None


def load_mapping(path: Path, where: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping. Raises UsageError."""
    where = where or str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{where}: larger than {MAX_BYTES // 1_000_000} MB", "a preset or configuration is a small YAML file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no such file: {where}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8 text", "a preset or configuration is a small YAML file") from None
    except OSError as error:
        raise UsageError(f"cannot read {where}: {error.strerror}") from None
    data = parse(text, where)
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UsageError(f"{where}: expected a mapping of keys to values at the top, got {type(data).__name__}")
    return data


def _weigh(node: yaml.Node, where: str, above: set[int], known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """(values, levels) of a node when aliases are written out; refuses what is too deep, too large, inside itself or meant to deceive."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        raise UsageError(f"{where}: an alias contains itself")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
        for key in (pair[0] for pair in node.value if isinstance(pair[0], yaml.ScalarNode)):
            if not key.value.isprintable() or len(key.value) > MAX_KEY:
                raise UsageError(f"{where}, line {key.start_mark.line + 1}: {key.value[:40]!r} cannot be a key", PLAIN)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    elif node.tag.endswith((":int", ":float")) and len(node.value) > MAX_NUMBER:
        raise UsageError(f"{where}, line {node.start_mark.line + 1}: a number of {len(node.value)} digits", PLAIN)
    total, levels = 1, 0
    for child in children:
        values, below = _weigh(child, where, above | {id(node)}, known)
        total, levels = total + values, max(levels, below + 1)
        if total > MAX_NODES:
            raise UsageError(f"{where}: more than {MAX_NODES} values once aliases are written out")
        if levels > MAX_DEPTH:
            raise UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels")
    known[id(node)] = (total, levels)
    return known[id(node)]
