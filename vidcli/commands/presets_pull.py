"""`vid presets pull`."""

from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

HELP = """Fetch presets, and the models they name, into the local cache.

Run it where there is a network (a login node); with HF_HUB_OFFLINE=1 the same presets then work without one. Everything a preset
extends is fetched too, and it is checked as a whole. The reference it prints is pinned to a commit."""

EXAMPLES = options.examples(
    "vid presets pull hf://org/repo",
    "vid presets pull hf://org/repo/recipes/mine.yaml@v1",
    "vid presets pull hf://org/a hf://org/b --json",
)


def command(
    names: Annotated[
        list[str], typer.Argument(metavar="PRESET...", help="hf://org/repo[/file][@revision], or any preset that names models.")
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Fetch, check and report."""
    from tasks.core import hub
    from tasks.core.config import leaves
    from vidcli.resolve import Given, resolve

    reporter = console()
    rows = []
    for name in names:
        found = resolve(Given(preset=name))
        texts = [
            item for _, value in leaves(found.config.model_dump(mode="json")) for item in (value if isinstance(value, list) else [value])
        ]
        models = sorted({text for text in texts if isinstance(text, str) and text.startswith(hub.PREFIX)})
        for model in models:
            reporter.info(f"fetching {model}")
            hub.fetch_model(model)
        rows.append({"preset": found.preset, "task": found.task, "verb": found.verb, "models": [hub.pinned(model) for model in models]})
    reporter.table(rows)
    return 0
