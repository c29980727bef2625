"""`vid presets push`."""

import posixpath
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from vidcli import options, presets
from vidcli.console import console

HELP = """Put a preset on the Hugging Face Hub, with the files beside it that it extends.

It is checked first: it must be valid, extend nothing outside of its folder but built-in presets and hf:// ones, and name no
places on this machine. A repository without a README.md gets one. The same command again makes a new commit only where
something changed."""

EXAMPLES = options.examples(
    "vid presets push my.yaml --repo org/name --dry-run",
    "vid presets push my.yaml --repo org/name",
    "vid presets push recipes/big.yaml --repo org/name --as big.yaml",
)


def command(
    preset: Annotated[str, typer.Argument(metavar="PRESET", autocompletion=presets.complete, help="YAML file or built-in name.")],
    repo: Annotated[str, typer.Option("--repo", metavar="ORG/NAME", help="Model repository; made where there is none.")],
    name: Annotated[
        str, typer.Option("--as", metavar="FILE", help="Its path in the repository; the default is what hf://org/name stands for.")
    ] = presets.HUB_DEFAULT_FILE,
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, show what would be sent, send nothing.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Check, then push."""
    from tasks.core import hub
    from tasks.core.errors import UsageError
    from vidcli.resolve import Given, resolve

    repo = hub.repository(repo)
    if not name.endswith((".yaml", ".yml")) or hub.parse(hub.reference_of(repo, name))[1] != name:
        raise UsageError(f"--as {name}: not the path of a .yaml file in a repository", "for example: --as recipes/mine.yaml")
    resolved = resolve(Given(preset=preset))
    files = gather(presets.find(preset), name)
    address = hub.reference_of(repo, None if name == presets.HUB_DEFAULT_FILE else name)
    reporter = console()
    if dry_run:
        reporter.table([{"file": path, "bytes": len(content)} for path, content in files.items()])
        return 0
    description = presets.load(preset).description
    readme = _readme(repo, address, resolved.task, resolved.verb, description)
    done = hub.commit(repo, files, f"Preset {name}", private, {"README.md": readme})
    pinned = hub.reference_of(*hub.parse(address)[:2], done.commit)
    reporter.info(f"use it with: --preset {pinned}" if done.changed else f"nothing has changed since {pinned}")
    reporter.result({"preset": address, "commit": done.commit, "changed": done.changed, "files": len(files)}, "pushed")
    return 0


def gather(source: presets.Source, name: str) -> dict[str, bytes]:
    """Path in the repository -> content: the preset as `name`, and the files that it extends beside it.

    Raises:
        UsageError: it extends a file outside of its folder, or names a place on this machine.
    """
    from tasks.core.cards import local_places
    from tasks.core.errors import UsageError

    chain = presets.lineage(source)
    home, prefix = source.path.resolve().parent, PurePosixPath(name).parent
    places: dict[Path, str] = {source.path.resolve(): name}
    for parent, _ in chain[1:]:
        if parent.kind != "file":
            break
        path = parent.path.resolve()
        if not path.is_relative_to(home):
            raise UsageError(
                f"{source.name} extends {parent.path.name}, which is not in its folder",
                "put it beside the preset, or extend a built-in preset",
            )
        places[path] = (prefix / path.relative_to(home).as_posix()).as_posix()
    if len(set(places.values())) < len(places):
        raise UsageError(f"{source.name} extends a file called {name} too", "choose another --as")
    files = {}
    for number, (path, place) in enumerate(places.items()):
        item, values = chain[number]
        parent = chain[number + 1][0] if number + 1 < len(chain) else None
        text = presets.extending(item, values, None if parent is None else _seen_from(place, parent, places))
        own = {key: value for key, value in values.items() if key not in presets.META_KEYS}
        if found := [value for _, value in presets.paths_outside(own)] or local_places(text):
            raise UsageError(f"{path.name} names a place on this machine: {found[0]}", "leave it out; it is given with flags or --set")
        files[place] = text.encode()
    return files


def _seen_from(place: str, parent: presets.Source, places: dict[Path, str]) -> str:
    """What `extends` says in the repository: a path relative to the file, a built-in name, or an `hf://` reference."""
    there = places.get(parent.path.resolve())
    return parent.name if there is None else posixpath.relpath(there, posixpath.dirname(place) or ".")


def _readme(repo: str, address: str, task: str, verb: str, description: str) -> bytes:
    import yaml

    head = yaml.safe_dump({"library_name": "vid", "tags": ["vid", "vid-preset", "video", task]}, sort_keys=False)
    use = f"vid presets show {address} --resolved\nvid {verb} --preset {address} --data VIDEOS"
    return f"---\n{head}---\n\n# {repo.partition('/')[2]}\n\n{description or f'A preset for {task}.'}\n\n```sh\n{use}\n```\n".encode()
