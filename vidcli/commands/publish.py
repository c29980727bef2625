"""`vid publish`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

if TYPE_CHECKING:
    from tasks.core.publish import Package

HELP = """Put a trained model on the Hugging Face Hub.

What is sent: the weights (safetensors), the configuration, and a model card with task, data, preset, numbers and their protocol,
hardware and licence. A masked or classify model that transformers can represent is sent in its form too, so that from_pretrained and
pipelines open the repository; --no-transformers halves the size. What vid convert --to transformers or --to onnx wrote can be sent as it
is. Places on this machine, its name and yours are not. The same command again makes a new commit only where
something changed. The token is the one of `hf auth login` or HF_TOKEN."""

EXAMPLES = options.examples(
    "vid publish runs/mine-ssv2 --repo org/name --dry-run",
    "vid publish runs/mine-ssv2 --repo org/name --private",
    "vid publish runs/mine-ssv2 --repo org/name --license cc-by-nc-4.0",
    "vid publish mine-onnx --repo org/name-onnx",
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
    transformers: Annotated[
        bool, typer.Option("--transformers/--no-transformers", help="Send the weights under the names of transformers too.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files, sizes and the card; send nothing.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Publish a model folder."""
    from tasks.core import hub
    from tasks.core.errors import UsageError
    from tasks.core.publish import gather

    if str(run).startswith("hf:"):
        raise UsageError(f"{run} is on the Hub already", "name a run folder or a model folder of this machine")
    reporter, repo = console(), hub.repository(repo)
    with tempfile.TemporaryDirectory(prefix="vid-publish-") as folder:
        theirs = transformers_form(run, Path(folder) / "theirs", reporter) if transformers else None
        return send(gather(run, repo, licence, theirs), private, licence is None, dry_run, reporter)


def transformers_form(run: Path, out: Path, reporter: Any) -> Path | None:
    """The model as a transformers folder; None where it has none, said where a user could expect one."""
    from tasks.core.convert_transformers import warn_about
    from tasks.core.errors import NoCounterpart
    from tasks.core.publish import described
    from tasks.core.reporter import Quiet
    from vidcli.commands.convert import ARCHITECTURES, export_transformers

    folder, model, _ = described(run)
    if model["task"] not in ARCHITECTURES.values() or "architecture" not in model or "onnx" in model:
        return None
    try:
        told = export_transformers(folder, out, Quiet())
    except NoCounterpart as error:
        reporter.info(f"not sent in the form of transformers: {error.message}")
        return None
    warn_about(told["max_difference"], model["preprocessing"], reporter)
    return out


def send(package: "Package", private: bool, default_licence: bool, dry_run: bool, reporter: Any) -> int:
    """Shows what would be sent, or sends it."""
    from tasks.core import hub

    for name in package.left_out:
        reporter.info(f"not sent: {name} (a model is safetensors, JSON and its card)")
    if default_licence:
        reporter.info(f"licence: {package.licence} (another one: --license NAME)")
    if dry_run:
        rows = [{"file": name, "bytes": size} for name, size in package.sizes().items()]
        if reporter.json:
            reporter.emit({"repo": package.repo, "private": private, "files": rows, "card": package.card})
        else:
            reporter.table(rows)
            reporter.text(f"\n{package.card}")
        return 0
    done = hub.commit(package.repo, package.files, f"Publish {package.title}", private)
    address = hub.reference_of(package.repo, None, done.commit)
    reporter.info(f"use it with: {address}" if done.changed else f"nothing has changed since {address}")
    reporter.result({"repo": done.repo, "commit": done.commit, "changed": done.changed, "files": len(package.files)}, "published")
    return 0
