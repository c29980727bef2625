"""What a model says about itself on the Hub: its card, and its JSON files without anything that belongs to the machine it was made on."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import hub
from tasks.core.errors import UsageError
from tasks.core.interpreter import usable_cores

LOCAL = re.compile(r"(?<![\w/:.<~-])(?:(?:~\w*|\.\.|[A-Za-z]:(?=\\))(?:[\\/][\w.+@-]+)+|(?:/[\w.+@-]+){2,})")
"""A place on a machine inside of text: `/home/me`, `~/x`, `../x`, `C:\\x`. Relative paths and addresses are none."""

KEPT_VERSIONS = ("python", "torch", "torchvision", "av", "numpy")


@dataclass
class Card:
    """A model card in parts.

    Attributes:
        head: the YAML metadata.
        title: the first heading.
        facts: the rows of the table under it.
        use: the commands.
        more: the sections that a person added, as they stand.
    """

    head: dict[str, Any]
    title: str
    facts: dict[str, str]
    use: str
    more: str


def read_card(text: str) -> Card:
    """The parts of a card that `engine.setup.card` wrote and a person may have edited since; UsageError for metadata that is no YAML."""
    import yaml

    found = re.match(r"---\n(.*?)\n?---\n", text, re.DOTALL)
    try:
        head = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        raise UsageError(
            "the metadata at the head of README.md is not valid YAML", "mend it, or remove the lines between the two ---"
        ) from None
    body = text[found.end() :] if found else text
    first, *sections = re.split(r"^(?=## )", body, flags=re.MULTILINE)
    title = re.search(r"^# (.+)$", first, re.MULTILINE)
    rows = dict(re.findall(r"^\| ([^|\n]+) \| ([^|\n]*) \|$", first, re.MULTILINE))
    use = next(
        (block for section in sections if section.startswith("## Use\n") for block in re.findall(r"```sh\n(.*?)\n```", section, re.DOTALL)),
        "",
    )
    more = "\n".join(section.strip() + "\n" for section in sections if not section.startswith("## Use\n"))
    return Card(head if isinstance(head, dict) else {}, title[1] if title else "Model", rows, use, more)


def public_card(local: str, model: dict[str, Any], result: dict[str, Any], settings: dict[str, Any], repo: str, licence: str) -> str:
    """The card of a model on the Hub.

    Args:
        local: README.md of the model folder.
        model: its config.json.
        result: result.json of the run, empty without one.
        settings: config.yaml of the run, empty without one.
        repo: `org/name`.
        licence: of the weights, an identifier of the Hub.
    """
    import yaml

    card, origin = read_card(local), model.get("provenance", {})
    numbers = _numbers(model, result)
    train, about = settings.get("train", {}), model.get("preprocessing", {})
    facts = {
        "task": f"{model['task']}, {origin.get('verb') or 'trained'}",
        "method": model.get("method"),
        **{key: value for key, value in card.facts.items() if key not in ("task", "method", "data hash", *numbers)},
        "preset": public_preset(origin.get("preset")),
        "started from": public_name(origin.get("init")) or "random weights",
        "training data": _data(origin),
        "schedule": _listed({key: train.get(key) for key in ("epochs", "max_steps", "batch_size", "accumulate", "precision")}),
        "seed": origin.get("seed"),
        "hardware": origin.get("hardware") or origin.get("device"),
        "software": _software(origin),
        "licence": licence,
    }
    if card.facts.get("task"):
        facts["task"] += f": {card.facts['task']}"
    if card.facts.get("method"):
        facts["method"] = card.facts["method"]
    given = card.head.get("tags")
    tags = ["vid", *(given if isinstance(given, list) else []), model["task"], model.get("method")]
    head = {
        "library_name": card.head.get("library_name", "vid"),
        "license": licence,
        **{key: value for key, value in card.head.items() if key not in ("library_name", "license", "tags")},
        **({"base_model": hub.parse(base)[0]} if (base := origin.get("init") or "").startswith(hub.PREFIX) else {}),
        "tags": list(dict.fromkeys(str(tag) for tag in tags if tag)),
    }
    use = re.sub(r"(--from|--model) ('[^']*'|\S+)", rf"\1 {hub.PREFIX}{repo}", card.use)
    text = f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {card.title}\n\n{_table(facts)}"
    text += f"\n## Results\n\n{_results(numbers)}"
    if about:
        text += f"\n## Input\n\n{_table(about)}"
    text += f"\n## Use\n\n```sh\n{use}\n```\n\nAppend `@COMMIT` to pin a version; a run records the commit it took.\n"
    return scrub(text + (f"\n{card.more}" if card.more else ""))


def public_name(reference: str | None) -> str | None:
    """What a stranger may know of a model that something was made from: an `hf://` reference as it is, a place on this machine by its
    last name (`runs/x/model` by `x`).
    """
    if not reference or reference.startswith(hub.PREFIX):
        return reference
    parts = [part for part in re.split(r"[\\/]", reference) if part not in ("", ".")] or ["."]
    return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]


def public_preset(name: str | None) -> str | None:
    """The same of a preset: `hf://` references and built-in names (`masked/tats-tiny`) as they are, a file by its name."""
    if not name or name.startswith(hub.PREFIX) or re.fullmatch(r"\w+/[\w.-]+(?<!\.yaml)(?<!\.yml)", name):
        return name
    return re.split(r"[\\/]", name)[-1]


def scrub(value: Any) -> Any:
    """Text, or JSON values with all their texts, in which places on a machine are reduced to their last name."""
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~")) and "\n" not in value:
        return Path(value).name
    return LOCAL.sub(lambda found: re.split(r"[\\/]", found[0])[-1], value)


def local_places(text: str) -> list[str]:
    """The places on a machine that a text names."""
    return [found[0] for found in LOCAL.finditer(text)]


def hardware(processes: int = 1) -> str:
    """What this process computes on, without naming the machine: `2 x NVIDIA H200`, `4 CPU cores (x86_64)`."""
    import torch

    if torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true", "yes"):
        return f"{processes} x {torch.cuda.get_device_name()}"
    cores = usable_cores()
    return f"{cores} CPU cores ({platform.machine()})" + (f", {processes} processes" if processes > 1 else "")


def _numbers(model: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """What was measured and how: numbers, and the texts that state the protocol."""
    told = {**model.get("metrics", {}), **result}
    stated = ("protocol", "views")
    return {key: value for key, value in told.items() if isinstance(value, int | float) or (key in stated and isinstance(value, str))}


def _results(numbers: dict[str, Any]) -> str:
    if not numbers:
        return "Not evaluated.\n"
    note = "" if "protocol" in numbers else "\nNo evaluation protocol: these are values of the training itself.\n"
    return _table(numbers) + note


def _data(origin: dict[str, Any]) -> str | None:
    if not origin.get("data_hash"):
        return None
    return f"{origin.get('videos')} videos, hash {origin['data_hash']} (over file names, labels and time ranges)"


def _software(origin: dict[str, Any]) -> str | None:
    versions = {"vid": origin.get("commit"), **{k: v for k, v in (origin.get("versions") or {}).items() if k in KEPT_VERSIONS}}
    return ", ".join(f"{name} {found}" for name, found in versions.items() if found) or None


def _listed(values: dict[str, Any]) -> str | None:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None) or None


def _table(rows: dict[str, Any]) -> str:
    lines = [f"| {key} | {_cell(value)} |" for key, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.5g}"
    if isinstance(value, list | tuple):
        value = ", ".join(_cell(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
