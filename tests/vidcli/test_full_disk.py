"""Results on a disk that is full or read-only: one clear line, nothing half written, and the same command completes them."""

import subprocess
from pathlib import Path

import pytest
from small_disk import fill, small_disk

from tasks.core.data.synthetic import render_motion_set

COMMANDS = {
    "detect-boundaries": ("--write", "json,csv,edl", "--save-scores", "--workers", "0"),
    "detect-anomalies": ("--normal", "{normal}", "--write", "json,csv", "--workers", "0"),
    "gen-pseudo": ("--spatial", "patch", "--masks", "random", "--temporal", "none", "--workers", "0"),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    render_motion_set(folder, 2, 0, 32, 16, splits={"val": 0.5, "unlabelled": 0.5})
    return folder


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as place:
        yield place


def line(name: str, videos: Path, out: Path) -> list[str]:
    inputs = sorted(str(path) for path in (videos / "unlabelled").glob("*.mp4"))[:2]
    return [name, *inputs, "--out", str(out), *(word.format(normal=videos / "val") for word in COMMANDS[name])]


def files(folder: Path) -> dict[str, int]:
    """Name -> bytes of the results; hidden files are of the command's own and name the folder."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix(): path.stat().st_size for name, path in found.items() if not any(p.startswith(".") for p in name.parts)}


@pytest.mark.parametrize(("name", "free_kib"), [("detect-boundaries", 0), *((name, 8) for name in COMMANDS)])
def test_a_full_disk_and_the_same_command_again(disk, videos, vid, tmp_path, name, free_kib):
    filler = fill(disk, free_kib)
    code, _, err = vid(*line(name, videos, disk / "out"))
    assert code == 1, err
    assert "error: No space left on device: " in err
    assert "bug" not in err
    assert "Traceback" not in err
    assert not list(disk.rglob("*.tmp"))
    filler.unlink()
    code, _, err = vid(*line(name, videos, disk / "out"))
    assert code == 0, err
    assert vid(*line(name, videos, tmp_path / "roomy"))[0] == 0
    assert files(disk / "out") == files(tmp_path / "roomy")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_takes_nothing(disk, videos, vid, tmp_path, name):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (tmp_path / "file").write_text("mine")
    for out in (disk / "out", tmp_path / "file", tmp_path / "file" / "out"):
        code, _, err = vid(*line(name, videos, out))
        assert (code, f"cannot write to {out}: " in err) == (2, True), err
    assert (tmp_path / "file").read_text() == "mine"
