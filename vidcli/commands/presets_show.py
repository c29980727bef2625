"""`vid presets show`."""

from json import dumps
from typing import Annotated, Any

import typer

from vidcli import options, presets
from vidcli.console import console

EXAMPLES = options.examples(
    "vid presets show masked/tats-tiny",
    "vid presets show masked/tats-tiny --resolved",
    "vid presets show my.yaml --resolved --json",
)


def command(
    name: Annotated[
        str, typer.Argument(autocompletion=presets.complete, help="Built-in name, YAML file or hf://org/repo[/file][@revision].")
    ],
    resolved: Annotated[bool, typer.Option("--resolved", help="After inheritance and validation, every setting written out.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Print a preset: the file with its comments (command, hardware, cost, result), and the values that it inherits."""
    from vidcli.resolve import Given, resolve

    reporter = console()
    if resolved or json:
        found = resolve(Given(preset=name))
        reporter.config({"task": found.task, "verb": found.verb, **found.config.model_dump(mode="json")})
    else:
        source = presets.find(name)
        text = source.path.read_text(encoding="utf-8").rstrip("\n")
        if len(presets.lineage(source)) > 1:
            text += "\n#\n# All values that are set, and where (--resolved: the others too):\n" + _inherited(resolve(Given(preset=name)))
        reporter.yaml(text)
    return 0


def _inherited(found: Any) -> str:
    """A comment line for every value that a preset or one of its ancestors sets."""
    from vidcli.resolve import DEFAULT

    rows = [
        (row["key"], row["value"], row["origin"].partition(",")[0].partition(" (")[0]) for row in found.rows() if row["origin"] != DEFAULT
    ]
    lines = [(f"#   {key}: {dumps(value, ensure_ascii=False)}", origin.removeprefix("preset ")) for key, value, origin in rows]
    width = min(60, max((len(line) for line, _ in lines), default=0))
    return "\n".join(f"{line:<{width}}  ({origin})" for line, origin in lines)
