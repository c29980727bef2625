"""`vid doctor`."""

import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.core.errors import UsageError
from vidcli import __version__, options
from vidcli.console import console

EXAMPLES = options.examples("vid doctor", "vid doctor --json", "srun vid doctor --slurm --folder /scratch/me/runs")

PACKAGES = {  # distribution: (needed for, whether nothing works without it)
    "torch": ("everything that trains or tests", True),
    "torchvision": ("augmentation", True),
    "accelerate": ("training", True),
    "safetensors": ("model folders", True),
    "numpy": ("everything", True),
    "pydantic": ("configuration", True),
    "PyYAML": ("presets", True),
    "av": ("reading videos", True),
    "huggingface_hub": ("models and presets from hf://", True),
    "scikit-learn": ("metrics", True),
    "matplotlib": ("pictures and reports", True),
    "decord": ("the decord reader (PyAV reads everything without it)", False),
    "opencv-contrib-python-headless": ("optical flow", False),
    "diffusers": ("pseudo-anomalies by inpainting", False),
    "transformers": ("text models: pip install 'vid-suite[text]'", False),
    "h5py": ("features as h5: pip install 'vid-suite[h5]'", False),
    "tensorboard": ("TensorBoard logs: pip install 'vid-suite[tensorboard]'", False),
}
INSTEAD = {  # other distributions of the same module
    "opencv-contrib-python-headless": ("opencv-contrib-python", "opencv-python-headless", "opencv-python"),
    "decord": ("decord2", "eva-decord"),
}


Slurm = typer.Option("--slurm", help="Show what a batch user needs to know: queue, job, meeting place, signals, limits, storage, Hub.")
Folder = typer.Option("--folder", metavar="FOLDER", help="With --slurm: where runs will be written [default: here].")


def command(
    slurm: Annotated[bool, Slurm] = False,
    folder: Annotated[Path | None, Folder] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show what this machine has, and what is missing for what.

    Versions, devices, video readers, the Hub cache. Exit code 1: something essential is missing."""
    reporter = console()
    if slurm:
        return cluster(folder or Path())
    if folder is not None:
        raise UsageError("--folder belongs to --slurm", "vid doctor --slurm --folder FOLDER")
    rows = [_row("vid", "vid", __version__), _row("python", "python", platform.python_version())]
    rows += [*packages(), *devices(), *readers(), *caches()]
    reporter.table(rows, ["part", "name", "state", "note"])
    broken = [row for row in rows if not row["ok"]]
    for row in broken:
        reporter.error(f"{row['name']}: {row['state']}", f"needed for {row['note']}")
    return 1 if broken else 0


def cluster(folder: Path) -> int:
    """Prints the rows of `vidcli.cluster`; 1 where one of them is an error."""
    from vidcli.cluster import report

    reporter, rows = console(), report(folder)
    reporter.table(rows, ["part", "name", "state", "note"])
    for row in rows:
        if row["level"] == "warning":
            reporter.warn(f"{row['name']}: {row['state']}: {row['note']}")
        elif row["level"] == "error":
            reporter.error(f"{row['name']}: {row['state']}", row["note"])
    return int(any(row["level"] == "error" for row in rows))


def packages() -> list[dict[str, Any]]:
    """Installed versions; what is missing says what it is for."""
    rows = []
    for name, (purpose, essential) in PACKAGES.items():
        found = next((item for item in map(_installed, (name, *INSTEAD.get(name, ()))) if item), None)
        rows.append(_row("package", name, found or "missing", "" if found else purpose, found is not None or not essential))
    return rows


def devices() -> list[dict[str, Any]]:
    """What torch can compute on."""
    try:
        import torch
    except Exception as error:
        return [_row("device", "torch", f"cannot be imported: {error}", "everything that trains or tests", False)]
    rows = [_row("device", "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        rows.append(_row("device", f"cuda:{index}", facts.name, f"{facts.total_memory / 2**30:.0f} GiB, {bf16}, CUDA {torch.version.cuda}"))
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        rows.append(_row("device", "cuda", "none", f"torch is built for {built}"))
    if torch.backends.mps.is_available():
        rows.append(_row("device", "mps", "available"))
    return rows


def readers() -> list[dict[str, Any]]:
    """Which libraries can read videos here: imported, not only installed."""
    rows = []
    try:
        import av

        rows.append(_row("reader", "pyav", "usable", f"FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"))
    except Exception as error:
        rows.append(_row("reader", "pyav", f"cannot be imported: {error}", "reading videos", False))
    try:
        import decord  # noqa: F401 - importing it is the test

        rows.append(_row("reader", "decord", "usable", "by --decoder decord; vid data check says on which files it is exact"))
    except Exception as error:
        rows.append(_row("reader", "decord", f"not usable: {error}", "PyAV reads everything without it"))
    rows.append(_row("reader", "frame folders", "usable" if _installed("pillow") else "missing pillow"))
    return rows


def caches() -> list[dict[str, Any]]:
    """Where downloads are kept and how large they are."""
    try:
        from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
    except Exception as error:
        return [_row("cache", "Hub", f"huggingface_hub cannot be imported: {error}", "models and presets from hf://", False)]
    size = sum(path.lstat().st_size for path in Path(HF_HUB_CACHE).rglob("*") if path.is_file() and not path.is_symlink())
    return [_row("cache", "Hub", str(HF_HUB_CACHE), f"{size / 2**20:.0f} MiB" + (", offline mode" if HF_HUB_OFFLINE else ""))]


def _row(part: str, name: str, state: str, note: str = "", ok: bool = True) -> dict[str, Any]:
    return {"part": part, "name": name, "state": state, "note": note, "ok": ok}


def _installed(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
