"""`vid config show`."""

from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid config show --preset masked/tats-tiny",
    "vid config show --preset masked/tats-tiny --set train.epochs=3 --origin",
    "vid config show --config runs/pretrain-masked-tats-tiny/config.yaml --json",
)


def command(
    preset: options.PresetName = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    origin: Annotated[bool, typer.Option("--origin", help="Every setting with where it came from.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Print what preset, files and --set resolve to: a valid --config, or with --origin a table."""
    from vidcli.resolve import Given, resolve

    found = resolve(Given(preset, config or (), (), sets or ()))
    if origin:
        console().table(found.rows())
    else:
        console().config({"task": found.task, "verb": found.verb, **found.config.model_dump(mode="json")})
    return 0
