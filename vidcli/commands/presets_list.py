"""`vid presets list`."""

from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples("vid presets list", "vid presets list tiny", "vid presets list --json | jq -r .name")


def command(
    filter: Annotated[str, typer.Argument(metavar="FILTER", help="Only presets whose name, task or description contains this.")] = "",
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """List the built-in presets."""
    from tasks.core.errors import UsageError
    from vidcli.presets import load, names

    rows = []
    for name in names():
        preset = load(name)
        rows.append({"name": name, "task": preset.task, "verb": preset.verb, "description": preset.description})
    wanted = filter.lower()
    chosen = [row for row in rows if any(wanted in str(value).lower() for value in row.values())]
    if not chosen and wanted:
        raise UsageError(f"no preset matches '{filter}'", "all of them: vid presets list")
    console().table(chosen)
    return 0
