"""The Hugging Face Hub: references `hf://org/repo[/path][@revision]`, files at one pinned commit, one commit of files."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UsageError

PREFIX = "hf://"
MODEL_FILES = ("*.safetensors", "*.json", "README.md", "merges.txt", "vocab.txt")
THEIR_WEIGHTS = "transformers.safetensors"
"""The weights of a published model under the names of transformers, beside ours; `transformers_weights` in config.json points to them."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NAME = r"\w[\w.-]*"
_REFERENCE = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(?:/(?P<path>[\w.+ /\\-]+))?(?:@(?P<revision>{_NAME}(?:/{_NAME})*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

_commits: dict[tuple[str, str | None], str] = {}
"""(repository, revision as asked for) -> commit: what this process has fetched once, it sees at the same commit ever after."""

_fetched: dict[str, None] = {}
"""References that were fetched, in order."""


def parse(reference: str) -> tuple[str, str | None, str | None]:
    """(repository, path in it, revision) of a reference; UsageError when it is not one or its path leaves the repository."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise UsageError(f"{reference!r} is not a Hub reference", "write hf://org/repo, hf://org/repo/file or hf://org/repo@revision")
    repo, path, revision = match["repo"], match["path"], match["revision"]
    if repo.split("/")[0] in ("datasets", "spaces"):
        raise UsageError(f"{reference!r} is not a model repository", "models and presets lie in model repositories: hf://org/repo")
    for part in re.split(r"[/\\]", path or "x") + (revision or "x").split("/"):
        if part in ("", ".", ".."):
            raise UsageError(f"{reference!r} leaves its repository")
    return repo, path, revision


def reference_of(repo: str, path: str | None = None, revision: str | None = None) -> str:
    """The inverse of `parse`."""
    return f"{PREFIX}{repo}" + (f"/{path}" if path else "") + (f"@{revision}" if revision else "")


def pinned(reference: str) -> str:
    """The reference at the commit this process fetched it from; unchanged where it fetched nothing or the reference is no `hf://` one."""
    if not reference.startswith(PREFIX):
        return reference
    repo, path, revision = parse(reference)
    return reference_of(repo, path, _commits.get((repo, revision), revision))


def pins() -> dict[str, str]:
    """What this process fetched from the Hub: the reference as asked for -> the same at its commit."""
    return {reference: pinned(reference) for reference in _fetched}


def fetch_file(reference: str, path: str | None = None) -> Path:
    """Local copy of one file of a repository (from the cache when offline)."""
    repo, inner, revision = parse(reference)
    name = path or inner
    commit = _commits.get((repo, revision), revision)
    command = _command(repo, revision, name)
    found = Path(_call(reference, command, lambda hub: hub.hf_hub_download(repo, name, revision=commit)))
    _remember(reference, found)
    return found


def fetch_model(reference: str) -> Path:
    """Local copy of a model folder: weights as safetensors, JSON, vocabularies and the card, nothing else."""
    repo, inner, revision = parse(reference)
    patterns = [f"{inner}/{pattern}" if inner else pattern for pattern in MODEL_FILES]
    commit = _commits.get((repo, revision), revision)
    command = _command(repo, revision)
    found = Path(
        _call(
            reference,
            command,
            lambda hub: hub.snapshot_download(repo, revision=commit, allow_patterns=patterns, ignore_patterns=[THEIR_WEIGHTS]),
        )
    )
    _remember(reference, found)
    folder = found / (inner or "")
    if not (folder.is_dir() and any(folder.rglob("*.safetensors"))):
        if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
            raise _missing(reference, command)
        pickles = [file for file in _listing(repo, found.name) if file.startswith(inner or "") and file.endswith(PICKLES)]
        raise UsageError(
            f"{reference} has no weights as safetensors" + (f", only pickles ({pickles[0]}), which are never read" if pickles else ""),
            "take a model with *.safetensors, or ask its author for one",
        )
    return folder


@dataclass(frozen=True)
class Committed:
    """What became of files sent to the Hub.

    Attributes:
        repo: the repository.
        commit: its latest commit.
        changed: False where the repository already held all of it.
    """

    repo: str
    commit: str
    changed: bool


def commit(
    repo: str, files: Mapping[str, Path | bytes], message: str, private: bool, unless_there: Mapping[str, bytes] | None = None
) -> Committed:
    """Puts files into a model repository as one commit; makes the repository where there is none.

    Args:
        files: path in the repository -> content.
        private: for a new repository; an existing public one is an error then.
        unless_there: files for a repository that does not have them yet.

    Raises:
        UsageError: no token, no right to write, offline, or the Hub refuses.
    """
    repository(repo)

    def send(hub: Any) -> Committed:
        if hub.get_token() is None:
            raise UsageError("publishing needs a Hub token", "log in with: hf auth login, or set HF_TOKEN")
        api = hub.HfApi()
        try:
            before = api.model_info(repo)
        except hub.errors.RepositoryNotFoundError:
            api.create_repo(repo, private=private or None)
            before = None
        if before and private and not before.private:
            raise UsageError(f"{repo} exists and is public", "make it private in its settings, or drop --private")
        there = {file.rfilename for file in before.siblings or []} if before else set()
        wanted = {**files, **{name: text for name, text in (unless_there or {}).items() if name not in there}}
        operations = [
            hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content)) for name, content in wanted.items()
        ]
        done = api.create_commit(repo, operations, commit_message=message)
        return Committed(repo, done.oid, before is None or done.oid != before.sha)

    return _call(f"{PREFIX}{repo}", None, send)


def repository(repo: str) -> str:
    """The name `org/name`, checked."""
    if parse(f"{PREFIX}{repo.removeprefix(PREFIX)}")[1:] != (None, None):
        raise UsageError(f"'{repo}' is not a repository", "write org/name")
    return repo.removeprefix(PREFIX)


def _remember(reference: str, found: Path) -> None:
    """Takes the commit from where the client put a file: `.../snapshots/<commit>/...`."""
    repo, _, revision = parse(reference)
    _fetched[reference] = None
    for above, below in zip(found.parts, found.parts[1:], strict=False):
        if above == "snapshots" and _COMMIT.fullmatch(below):
            _commits[repo, revision] = _commits[repo, below] = below


def _command(repo: str, revision: str | None, file: str | None = None) -> str:
    """What to run where there is a network, into the same cache. `VID_CACHE` is ours, the `hf` command knows `HF_HOME` only."""
    home = os.environ.get("HF_HOME", "")
    ours = [f"HF_HOME={shlex.quote(home)}"] if home and home == os.path.join(os.environ.get("VID_CACHE", ""), "huggingface") else []
    pin = ["--revision", revision] if revision else []
    return " ".join([*ours, shlex.join(["hf", "download", repo, *([file] if file else []), *pin])])


def _missing(reference: str, command: str) -> UsageError:
    return UsageError(f"{reference} is not in the local cache and the Hub cannot be reached", f"on a machine with network run: {command}")


def _listing(repo: str, revision: str) -> list[str]:
    try:
        return _call(repo, None, lambda hub: hub.HfApi().list_repo_files(repo, revision=revision))
    except UsageError:
        return []


def _call(reference: str, command: str | None, call: Callable[[Any], Any]) -> Any:
    """Runs `call` with the client; whatever the client raises becomes a UsageError of one line and never shows a token.

    Args:
        command: fetches what is missing, for reading; None for writing.
    """
    hub = _client()
    repo = reference.removeprefix(PREFIX)
    try:
        return call(hub)
    except hub.errors.LocalEntryNotFoundError:
        raise _missing(reference, command or "") from None
    except hub.errors.GatedRepoError:
        raise UsageError(f"access to {reference} has to be asked for", "on its page on the Hub, then log in with: hf auth login") from None
    except hub.errors.RepositoryNotFoundError:
        raise UsageError(f"there is no {reference}, or it is private", "check the name and your access (hf auth login, HF_TOKEN)") from None
    except hub.errors.RevisionNotFoundError:
        raise UsageError(f"{reference}: no such revision", "name a branch, a tag or a commit after @") from None
    except hub.errors.EntryNotFoundError:
        raise UsageError(
            f"{reference}: no such file in the repository", f"name one of its files: hf://{'/'.join(repo.split('/')[:2])}/FILE"
        ) from None
    except hub.errors.OfflineModeIsEnabled:
        raise UsageError(f"cannot reach {reference}: HF_HUB_OFFLINE is set", "run it where there is a network") from None
    except (*hub.errors.HfHubHTTPError.__bases__, OSError, ValueError, RuntimeError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = "check the name, the revision and your access (HF_TOKEN)"
        if status in (401, 403):
            raise UsageError(
                f"the Hub denies access to {reference} ({status})", "log in with a token that may do this: hf auth login"
            ) from None
        reason = _reason(hub, error)
        if "xet-write-token" in reason:
            hint = "if this Hub has no Xet storage, set HF_HUB_DISABLE_XET=1"
        raise UsageError(f"cannot {'get' if command else 'write'} {reference}: {reason}", hint) from None


def _client() -> Any:
    """huggingface_hub, imported late because it reads its environment then; it says errors only and shows bars on a terminal only."""
    import huggingface_hub as hub
    import huggingface_hub.errors
    from huggingface_hub.utils import disable_progress_bars, logging

    if not sys.stderr.isatty() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ and "HF_DEBUG" not in os.environ:
        logging.set_verbosity_error()
    return hub


def _reason(hub: Any, error: Exception) -> str:
    """The first line of what the client says, without tokens: a malformed one is quoted in full by the HTTP library."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    token = hub.get_token() or ""
    for secret in {token, repr(token)[1:-1], repr(token.encode())[2:-1]} - {""}:
        text = text.replace(secret, "***")
    return re.sub(r"hf_\w+|(?<=Bearer )[^'\"\s]+", "***", text)
