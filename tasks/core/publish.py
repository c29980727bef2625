"""From a run folder to the files that go to the Hub."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.cards import public_card, public_name, public_preset, read_card, scrub
from tasks.core.checkpoint import CARD, CONFIG, WEIGHTS, check_finite, find_model, load_config, stay_inside
from tasks.core.errors import UsageError
from tasks.core.hub import THEIR_WEIGHTS

DEFAULT_LICENCE = "apache-2.0"
ONNX = "model.onnx"


@dataclass(frozen=True)
class Package:
    """What is sent.

    Attributes:
        files: path in the repository -> file, or its content where it was rewritten.
        left_out: files of the folder that are not sent.
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


def gather(run: Path, repo: str, licence: str | None = None, theirs: Path | None = None) -> Package:
    """The files of a run's model, of a model folder, or of what `vid convert --to transformers | onnx` wrote, as they are published.

    Args:
        repo: `org/name`.
        licence: of the weights; None: what the folder's card says, else Apache 2.0.
        theirs: the same model as a transformers folder; what is published opens with both programs then.

    Raises:
        UsageError: no finished model, links that leave the folder, weights that are not safetensors.
    """
    folder, model, found = described(run)
    context = folder.parent if folder.name == "model" else folder
    settings, result = _yaml(context / "config.yaml"), _mapping(context / "result.json")
    text = _text(folder / CARD) or _first_card(folder, repo)
    text = re.sub(r"(from_pretrained\(|pipeline\('video-classification', )'[^']*'", rf"\1'{repo}'", text)
    if isinstance(init := settings.get("init"), str) and re.search(r"[\\/]", init):  # else it tells no place, and may be any word
        text = text.replace(init, public_name(init))
    licence = str(licence or read_card(text).head.get("license") or DEFAULT_LICENCE)
    files: dict[str, Path | bytes] = {}
    left_out = []
    for file in found:
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".safetensors":
            check_finite(file)
            files[name] = file
        elif (folder / ONNX).exists() and name in (ONNX, f"{ONNX}.data"):
            files[name] = file
        elif file.suffix == ".json":
            files[name] = _clean(file)
        elif name != CARD:
            left_out.append(name)
    if isinstance(files[CONFIG], bytes):
        model = _described(json.loads(files[CONFIG]))
    about = public_card(text, model, result, settings, repo, licence)
    if theirs is not None:
        files |= _both(files[CONFIG], theirs)
        about += _opens_with(_json(theirs / CONFIG)["architectures"][0], repo)
    files[CARD] = about.encode()
    return Package(repo, f"{model['task']} {model.get('method') or 'model'}", licence, files, left_out)


def described(run: Path) -> tuple[Path, dict[str, Any], list[Path]]:
    """(folder to publish, what its config.json says in our terms, its files). Raises UsageError, also where a link leaves the folder."""
    folder, model = _recognised(run)
    found = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    for file in found:
        stay_inside(run, file)
    return folder, model, found


def _recognised(run: Path) -> tuple[Path, dict[str, Any]]:
    config = _json(run / CONFIG) if run.is_dir() else {}
    if isinstance(config, dict) and "model_type" in config and "architecture" not in config:
        if not isinstance(config.get("vid"), dict):
            raise UsageError(
                f"{run} is a transformers folder of another program", "publish it with: hf upload, or bring it here first: vid convert"
            )
        return run, _described(config)
    if (run / ONNX).is_file():
        return run, load_config(run)
    folder = find_model(str(run))
    return folder, load_config(folder)


def _described(config: dict[str, Any]) -> dict[str, Any]:
    """UsageError where not even the task is said."""
    told = config if "architecture" in config else {"method": None, **config["vid"]}
    if not isinstance(told.get("task"), str):
        raise UsageError(f"{CONFIG} does not say which task the model is for", "make the folder again: vid convert RUN --to transformers")
    return told


def _first_card(folder: Path, repo: str) -> str:
    """For an ONNX folder, which has none."""
    if not (folder / ONNX).exists():
        return ""
    told = _json(folder / CONFIG).get("onnx", {})
    facts = "".join(f"| {key} | {told[key]} |\n" for key in ("input", "output", "opset") if key in told)
    return f"# A model in ONNX\n\n| | |\n|---|---|\n{facts}\n## Use\n\n```sh\nhf download {repo} {ONNX} {CONFIG}\n```\n"


def _both(own: Path | bytes, theirs: Path) -> dict[str, Path | bytes]:
    """What a model folder needs beside its own files so that transformers opens it: settings in config.json, weights, image processor."""
    ours = json.loads(own if isinstance(own, bytes) else own.read_text(encoding="utf-8"))
    added = {key: value for key, value in _json(theirs / CONFIG).items() if key != "vid"}
    if shared := ours.keys() & added.keys():
        raise UsageError(f"config.json and that of transformers both have {', '.join(sorted(shared))}", "add --no-transformers")
    config = json.dumps({**ours, **added, "transformers_weights": THEIR_WEIGHTS}, indent=2, ensure_ascii=False) + "\n"
    others = {file.name: file for file in sorted(theirs.glob("*.json")) if file.name != CONFIG}
    return {CONFIG: config.encode(), THEIR_WEIGHTS: theirs / WEIGHTS, **others}


def _opens_with(kind: str, repo: str) -> str:
    auto = "AutoModelForVideoClassification" if kind == "VideoMAEForVideoClassification" else kind
    lines = [f"from transformers import AutoImageProcessor, {auto}", ""]
    lines += [f'model = {auto}.from_pretrained("{repo}")', f'processor = AutoImageProcessor.from_pretrained("{repo}")']
    return "\n## With transformers\n\n```python\n" + "\n".join(lines) + "\n```\n"


def _clean(file: Path) -> Path | bytes:
    """A JSON file as it is, or without the places on this machine that it names."""
    value = _json(file)
    cleaned = scrub(value)
    provenance = cleaned.get("provenance") if isinstance(cleaned, dict) else None
    if isinstance(provenance, dict) and {"preset", "init"} <= provenance.keys():
        origin = value["provenance"]
        cleaned["provenance"] = {**provenance, "preset": public_preset(origin["preset"]), "init": public_name(origin["init"])}
    return file if cleaned == value else (json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n").encode()


def _text(file: Path) -> str:
    """Of a file; empty where there is none."""
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file) or "{}")
    except (ValueError, RecursionError):
        raise UsageError(f"{file} is not valid JSON") from None


def _mapping(file: Path) -> dict[str, Any]:
    found = _json(file)
    if not isinstance(found, dict):
        raise UsageError(f"{file} is no JSON object")
    return found


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(_text(file))
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"{file} is not valid YAML") from None
    return found if isinstance(found, dict) else {}
