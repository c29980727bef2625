"""`vid presets show`."""

from typing import Annotated

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
    """Print a preset: the file with its comments (command, hardware, cost, expected result)."""
    reporter = console()
    if resolved or json:
        from vidcli.resolve import Given, resolve

        found = resolve(Given(preset=name))
        reporter.config({"task": found.task, "verb": found.verb, **found.config.model_dump(mode="json")})
    else:
        reporter.yaml(presets.find(name).path.read_text(encoding="utf-8"))
    return 0
