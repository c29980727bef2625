"""`vid presets cp`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options, presets
from vidcli.console import console

EXAMPLES = options.examples("vid presets cp masked/tats-tiny my.yaml", "vid presets cp masked/tats-tiny recipes/my.yaml --make-parents")


def command(
    name: Annotated[
        str, typer.Argument(autocompletion=presets.complete, help="Built-in name, YAML file or hf://org/repo[/file][@revision].")
    ],
    dest: Annotated[Path, typer.Argument(help="File to write, or a folder.")],
    make_parents: Annotated[bool, typer.Option("--make-parents", help="Make missing folders.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Copy a preset to edit it; use the copy with --preset FILE."""
    from tasks.core.errors import UsageError
    from tasks.core.files import write_text

    source = presets.find(name)
    target = dest / source.path.name if dest.is_dir() else dest
    if target.suffix not in (".yaml", ".yml"):
        target = target.with_name(f"{target.name}.yaml")
    if target.exists() and not force:
        raise UsageError(f"{target} exists", "overwrite it with --force")
    if not target.parent.is_dir() and not make_parents:
        raise UsageError(f"no such folder: {target.parent}", "make it with --make-parents")
    write_text(target, presets.portable(source))
    console().info(f"wrote {target}; use it with: --preset {target if target.parent != Path('.') else f'./{target}'}")
    return 0
