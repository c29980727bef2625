"""`vid publish`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

HELP = """Put a trained model on the Hugging Face Hub.

What is sent: the weights (safetensors), the configuration, and a model card with task, data, preset, numbers and their protocol,
hardware and licence. Places on this machine, its name and yours are not. The same command again makes a new commit only where
something changed. The token is the one of `hf auth login` or HF_TOKEN."""

EXAMPLES = options.examples(
    "vid publish runs/mine-ssv2 --repo org/name --dry-run",
    "vid publish runs/mine-ssv2 --repo org/name --private",
    "vid publish runs/mine-ssv2 --repo org/name --license cc-by-nc-4.0",
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or a model folder.")],
    repo: Annotated[str, typer.Option("--repo", metavar="ORG/NAME", help="Model repository; made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="NAME", help="Licence of the weights [default: the one in the folder's model card, else apache-2.0]."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files, sizes and the card; send nothing.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Publish a model folder."""
    from tasks.core import hub
    from tasks.core.publish import gather

    talk = console()
    package = gather(run, hub.repository(repo), licence)
    for name in package.left_out:
        talk.info(f"not sent: {name} (a model is safetensors, JSON and its card)")
    if licence is None:
        talk.info(f"licence: {package.licence} (another one: --license NAME)")
    if dry_run:
        rows = [{"file": name, "bytes": size} for name, size in package.sizes().items()]
        if talk.json:
            talk.emit({"repo": package.repo, "private": private, "files": rows, "card": package.card})
        else:
            talk.table(rows)
            talk.text(f"\n{package.card}")
        return 0
    done = hub.commit(package.repo, package.files, f"Publish {package.title}", private)
    address = hub.reference_of(package.repo, None, done.commit)
    talk.info(f"use it with: {address}" if done.changed else f"nothing has changed since {address}")
    talk.result({"repo": done.repo, "commit": done.commit, "changed": done.changed, "files": len(package.files)}, "published")
    return 0
