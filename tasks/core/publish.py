"""From a run folder to the files that go to the Hub."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.cards import public_card, public_name, public_preset, read_card, scrub
from tasks.core.checkpoint import CARD, CONFIG, find_model, load_config, stay_inside
from tasks.core.errors import UsageError

DEFAULT_LICENCE = "apache-2.0"
MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Package:
    """What is sent.

    Attributes:
        files: path in the repository -> file, or its content where it was rewritten. left_out: files of the folder that are not sent.
    """

    repo: str
    title: str
    licence: str
    files: dict[str, Path | bytes]
    left_out: list[str]

    @property
    def card(self) -> str:
        return self.files[CARD].decode()

    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        return {name: len(found) if isinstance(found, bytes) else found.stat().st_size for name, found in self.files.items()}


def gather(run: Path, repo: str, licence: str | None = None) -> Package:
    """The files of a run's model (or of a model folder) as they are published.

    Args:
        repo: `org/name`. licence: of the weights; None: what the folder's card says, else Apache 2.0.

    Raises:
        UsageError: no finished model, links that leave the folder, weights that are no safetensors.
    """
    folder = find_model(str(run))
    found = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    for file in found:
        stay_inside(run, file)
    model = load_config(folder)
    context = folder.parent if folder.name == "model" else folder
    settings, result = _yaml(context / "config.yaml"), _json(context / "result.json")
    text = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    if init := settings.get("init"):
        text = text.replace(init, public_name(init))
    licence = str(licence or read_card(text).head.get("license") or DEFAULT_LICENCE)
    files: dict[str, Path | bytes] = {}
    left_out = []
    for file in found:
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".safetensors":
            check_header(file)
            files[name] = file
        elif file.suffix == ".json":
            files[name] = _clean(file)
        elif name != CARD:
            left_out.append(name)
    model = json.loads(files[CONFIG]) if isinstance(files[CONFIG], bytes) else model
    files[CARD] = public_card(text, model, result, settings, repo, licence).encode()
    return Package(repo, f"{model['task']} {model.get('method') or 'model'}", licence, files, left_out)


def check_header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: tensor names, types, shapes, metadata. UsageError where it is not one."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= MAX_HEADER else None
    except (OSError, struct.error, ValueError):
        header = None
    if not isinstance(header, dict):
        raise UsageError(f"{file} is not a safetensors file", "only safetensors are published")
    return header


def _clean(file: Path) -> Path | bytes:
    """A JSON file as it is, or without the places on this machine that it names."""
    value = _json(file)
    cleaned = scrub(value)
    provenance = cleaned.get("provenance") if isinstance(cleaned, dict) else None
    if isinstance(provenance, dict) and {"preset", "init"} <= provenance.keys():
        origin = value["provenance"]
        cleaned["provenance"] = {**provenance, "preset": public_preset(origin["preset"]), "init": public_name(origin["init"])}
    return file if cleaned == value else (json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n").encode()


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        raise UsageError(f"{file} is not valid JSON") from None


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found if isinstance(found, dict) else {}
