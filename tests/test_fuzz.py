"""The machinery of scripts/fuzz on a few files: it makes the same files again, and finds what it is there to find."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import campaign, commands, frames, mutations, sources

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    names = ("closed.mp4", "asp.avi", "h264.mkv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_SETTINGS", {name: sources._SETTINGS[name] for name in names})
        patch.setenv("VID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield sources.render(tmp_path_factory.mktemp("sound"))


def content(path):
    return [file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def test_a_seed_stands_for_the_same_files(sounds, tmp_path):
    made = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        (tmp_path / name).mkdir()
        made.append([mutations.mutate(number, seed, sounds, tmp_path / name) for number in range(20)])
    first, again, other = ([content(path) for path, _, _ in batch] for batch in made)
    assert first == again != other
    for path, kind, name in made[0]:
        harmless = kind in mutations.HARMLESS
        assert (content(path) == content(sounds[name].path)) == harmless or kind in ("absurd_count", "absurd_time"), path
    assert [kind for _, kind, _ in made[0]] == list(mutations.KINDS)


def test_a_campaign_reads_every_kind_and_fills_the_table(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "render", lambda folder: sounds)
    monkeypatch.setenv("VID_CACHE", "")
    names = (campaign.READER, "data index")
    done = campaign.campaign(campaign.Settings(seed=1, count=20, batch=20, keep=tmp_path / "kept", names=names))
    assert (done.defects, done.files) == ([], 20)
    assert {kind for kind, _ in done.table} == set(mutations.KINDS)
    assert done.table["unharmed", campaign.READER]["ok"] == done.table["no_bytes", campaign.READER]["reported"] == 1
    assert done.frames["unharmed"][frames.RIGHT] == sources.FRAMES
    assert "0 defects" in campaign.shown(done)


@pytest.mark.parametrize("fault", ["late", "seeks"])
def test_a_reader_that_is_wrong_is_found(sounds, monkeypatch, fault):
    def wrong(path):
        reader = real(path)
        get, stream = reader.get, reader.frames
        if fault == "late":  # each frame is called by the number of the one before
            reader.frames = lambda: ((number, t, get([max(0, number - 1)])[0]) for number, t, _ in stream())
        else:
            reader.get = lambda numbers, short_side=None: get([0] * len(numbers), short_side)
        return reader

    real = frames.open_video
    monkeypatch.setattr(frames, "open_video", wrong)
    found = frames.judge(frames.Job(sounds["closed.mp4"].path, sounds["closed.mp4"]), lambda note: None)
    assert found[frames.WRONG if fault == "late" else frames.ELSEWHERE] > 5
    assert found["examples"]


def run(tmp_path, command, files=(), timeout_s=60.0, memory_mib=4000.0):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path\nmissing.mp4\n")
    return commands.run(command, commands.Place(manifest, tmp_path, tmp_path, tmp_path / "out"), list(files), timeout_s, memory_mib, {})


def test_an_exit_code_that_was_not_promised_is_a_defect(tmp_path):
    refused = commands.Command(lambda place: ["data", "check", str(place.out / "nothing.csv")])
    assert run(tmp_path, refused).defects[0].startswith("exit code 3: error:")


MINUTES = commands.Command(lambda place: ["demo", "--out", str(place.out)])


def test_a_command_that_does_not_end_is_ended(tmp_path):
    assert run(tmp_path, MINUTES, timeout_s=0.1).defects == ["no end after 0 s"]


def test_memory_is_watched(tmp_path):
    (found,) = run(tmp_path, MINUTES, memory_mib=1.0).defects
    assert found.endswith("MiB of memory")


def test_silence_about_a_file_is_a_defect(tmp_path):
    check = commands.Command(commands.COMMANDS["data check"].line, codes=(3,))
    named, unnamed = tmp_path / "missing.mp4", tmp_path / "other.mp4"
    ended = run(tmp_path, check, [named, unnamed])
    assert ended.told == {str(named): commands.REPORTED}
    assert ended.defects == [f"nothing was said of {unnamed}"]


def test_a_table_where_json_lines_were_promised_is_a_defect(tmp_path):
    talks = commands.Command(lambda place: ["presets", "list", "tiny"])
    (found,) = run(tmp_path, talks, [tmp_path / "missing.mp4"]).defects
    assert found.startswith("stdout holds what is not a record of a video: name")


@pytest.mark.parametrize(
    "arguments", [["fuzz", "--count", "0"], ["fuzz", "--batch", "-1"], ["soak", "--kills", "0"], ["soak", "--processes", "0"]]
)
def test_nothing_to_do_is_no_success(arguments):
    done = subprocess.run([sys.executable, str(SCRIPTS / arguments[0]), *arguments[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "at least 1" in done.stderr
