"""References to the Hugging Face Hub: `hf://org/repo[/path][@revision]`."""

import re
from pathlib import Path

from tasks.core.errors import UsageError

PREFIX = "hf://"
_REFERENCE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<path>[^@]+))?(?:@(?P<revision>[\w./-]+))?$")


def parse(reference: str) -> tuple[str, str | None, str | None]:
    """(repository, path in it, revision) of a reference; UsageError when it is not one or its path leaves the repository."""
    match = _REFERENCE.match(reference)
    if not match:
        raise UsageError(f"'{reference}' is not a Hub reference", "write hf://org/repo, hf://org/repo/file or hf://org/repo@revision")
    path = match["path"]
    if path and (path.startswith("/") or ".." in Path(path).parts):
        raise UsageError(f"'{reference}' leaves its repository")
    return match["repo"], path, match["revision"]


def fetch_file(reference: str, path: str | None = None) -> Path:
    """Local copy of one file of a repository (from the cache when offline)."""
    repo, inner, revision = parse(reference)
    name = path or inner
    return Path(_fetch(reference, lambda hub: hub.hf_hub_download(repo, name, revision=revision), f"hf download {repo} {name}"))


def fetch_model(reference: str) -> Path:
    """Local copy of a model folder: weights as safetensors, JSON and the card, nothing else."""
    repo, inner, revision = parse(reference)
    patterns = [f"{inner}/{p}" if inner else p for p in ("*.safetensors", "*.json", "README.md")]
    folder = _fetch(reference, lambda hub: hub.snapshot_download(repo, revision=revision, allow_patterns=patterns), f"hf download {repo}")
    return Path(folder) / (inner or "")


def _fetch(reference: str, call, command: str) -> str:
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return call(hub)
    except LocalEntryNotFoundError:
        raise UsageError(
            f"{reference} is not in the local cache and the Hub cannot be reached", f"on a machine with network run: {command}"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UsageError(
            f"cannot get {reference}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "check the name, the revision and your access (HF_TOKEN)",
        ) from None
