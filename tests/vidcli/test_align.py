"""`vid pretrain` of an aligner with towers and `vid align` as a user calls them."""

import json

import numpy as np
import pytest
import torch
from clips_with_sound import write_clip
from safetensors.torch import load_file

from vidcli import app

EVENTS = {
    "a": [(1.0, 2.6, "low"), (3.4, 5.0, "high")],
    "b": [(0.6, 2.0, "high")],
    "c": [(2.0, 3.0, "low"), (3.8, 5.4, "high")],
}
SMALL = (
    "model={width: 16, heads: 2, dual_layers: 1, joint_layers: 1, positions: 64, standardize: true}",
    "text={embedding: 8, hidden: 16, width: 12}",
    "method.first_epochs=2",
    "data={max_length: 40, workers: 0}",
)


def srt(events: list, late_s: float = 0.0) -> str:
    """Subtitles that say which tone it is."""
    cues = [f"{n}\n00:00:0{a + late_s:.3f} --> 00:00:0{b + late_s:.3f}\nthe {kind} tone\n" for n, (a, b, kind) in enumerate(events, 1)]
    return "\n".join(cues).replace(".", ",")


def pretrain(*more):
    sets = [part for value in SMALL for part in ("--set", value)]
    return app.main(
        ["pretrain", "--preset", "alignment/narrated", "--data", "m.csv", "--epochs", "2", "--batch-size", "2", "-q", *sets, *more]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with videos, their subtitles, and a run that has learned next to nothing from them."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("narrated")
    patch.chdir(folder)
    patch.setenv("VID_CACHE", str(folder / "cache"))
    patch.setattr("sys.argv", ["vid"])
    for name, events in EVENTS.items():
        write_clip(folder / f"{name}.mp4", events)
        (folder / f"{name}.srt").write_text(srt(events))
    write_clip(folder / "mute.mp4", [], sound=False)
    (folder / "m.csv").write_text("path,subtitles\n" + "".join(f"{name}.mp4,{name}.srt\n" for name in EVENTS))
    assert pretrain("--out", "run") == 0
    yield folder
    patch.undo()


def align(vid, *arguments):
    code, out, err = vid("align", *arguments, "--json")
    return code, [json.loads(line) for line in out.splitlines()], err


def test_a_run_has_features_and_both_stages(trained):
    for stage in ("1-tan", "2-tan-cotrain"):
        assert (trained / "run" / stage / "model" / "model.safetensors").is_file()
    saved = json.loads((trained / "run" / "model" / "config.json").read_text())
    assert (saved["method"], saved["vocabulary"]) == ("tan-cotrain", ["the", "tone", "high", "low"])
    assert (trained / "run" / "features" / "audio" / "features.json").is_file()


def test_the_same_command_goes_on_where_it_was(trained):
    """With the first stage and its features there, and no result, only the second is trained."""
    first, last = (trained / "run" / folder / "model.safetensors" for folder in ("1-tan/model", "model"))
    before, weights = first.stat().st_mtime_ns, load_file(last)
    (trained / "run" / "result.json").unlink()
    (trained / "run" / "2-tan-cotrain" / "model" / "model.safetensors").unlink()
    assert pretrain("--out", "run") == 0
    assert first.stat().st_mtime_ns == before
    for name, tensor in load_file(last).items():
        assert torch.equal(tensor, weights[name])


def test_files_of_a_video(trained, vid):
    code, [record], _ = align(vid, "a.mp4", "--text", "a.srt", "--model", "run", "--out", "found", "--write", "srt,vtt,html,npz")
    assert code == 0
    assert [item["text"] for item in record["sentences"]] == ["the low tone", "the high tone"]
    assert all(0 <= item["score"] <= 1 and item["start"] <= item["t"] <= item["end"] for item in record["sentences"])
    assert sorted(path.name for path in (trained / "found").iterdir()) == [
        f"a.alignment.{kind}" for kind in ("html", "json", "npz", "srt", "vtt")
    ]
    found = (trained / "found" / "a.alignment.srt").read_text()
    assert [line for line in found.splitlines() if "-->" not in line] == [
        line for line in srt(EVENTS["a"]).splitlines() if "-->" not in line
    ]
    with np.load(trained / "found" / "a.alignment.npz") as arrays:
        assert arrays["similarity"].shape == (2, 60)
        assert float(arrays["stride_s"]) == pytest.approx(0.1)
    page = (trained / "found" / "a.alignment.html").read_text()
    assert page.count("the low tone") >= 2
    assert "data:image/png" in page
    assert align(vid, "a.mp4", "--text", "a.srt", "--model", "run", "--out", "found", "--write", "srt")[1][0]["skipped"]


def test_text_without_times_in_its_order(trained, vid):
    (trained / "steps.txt").write_text("the high tone\nthe low tone\n\nthe high tone\n")
    code, [record], _ = align(vid, "c.mp4", "--text", "steps.txt", "--model", "run", "--order", "monotone", "--min-score", "0")
    starts = [item["start"] for item in record["sentences"]]
    assert code == 0
    assert starts == sorted(starts)
    assert "given_start" not in record["sentences"][0]


def test_a_manifest_is_aligned_and_scored(trained, vid):
    code, records, _ = align(vid, "m.csv", "--model", "run", "--out", "all")
    assert (code, len(records)) == (0, 3)
    truth = {name: [[1, a, b, f"the {kind} tone"] for a, b, kind in events] for name, events in EVENTS.items()}
    (trained / "truth.json").write_text(json.dumps(truth))
    code, out, _ = vid("eval", "alignment", "--predictions", "all", "--ground-truth", "truth.json", "--json")
    assert code == 0
    assert json.loads(out)["n_sentences"] == 5


def test_without_a_model_subtitles_are_moved_together(trained, vid):
    (trained / "late.srt").write_text(srt(EVENTS["a"], 1.5))
    code, [record], _ = align(vid, "a.mp4", "--text", "late.srt", "--out", "moved", "--write", "srt")
    assert (code, record["method"]) == (0, "sound-activity")
    assert record["shift"]["offset_s"] == pytest.approx(-1.5, abs=0.15)
    assert [item["start"] for item in record["sentences"]] == pytest.approx([1.0, 3.4], abs=0.15)
    assert (trained / "late.srt").read_text() == srt(EVENTS["a"], 1.5)


def test_the_file_that_was_given_is_not_overwritten(trained, vid):
    (trained / "own").mkdir()
    own = trained / "own" / "b.alignment.srt"
    own.write_text(srt(EVENTS["b"], 0.5))
    call = ("align", "b.mp4", "--text", "own/b.alignment.srt", "--out", "own", "--write", "srt")
    code, _, err = vid(*call)
    assert code == 2
    assert "would be overwritten" in err
    assert own.read_text() == srt(EVENTS["b"], 0.5)
    assert vid(*call, "--overwrite")[0] == 0
    assert own.read_text() != srt(EVENTS["b"], 0.5)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("a.mp4", "--text", "plain.txt"), 2, "has no times, and without a model"),
        (("a.mp4", "--text", "gone.srt", "--model", "run"), 3, "gone.srt: cannot be read"),
        (("a.mp4", "b.mp4", "--text", "a.srt", "--model", "run"), 2, "the sentences of one video"),
        (("a.mp4", "--model", "run"), 3, "no sentences to align"),
        (("mute.mp4", "--text", "a.srt"), 3, "no sound"),
        (("mute.mp4", "--text", "a.srt", "--model", "run"), 3, "no sound"),
        (("a.mp4", "--text", "a.srt", "--min-score", "0.5"), 2, "are for a model"),
        (("a.mp4", "--text", "a.srt", "--model", "run", "--features", "visual=run/features/audio"), 2, "has no stream 'visual'"),
        (("a.mp4", "--text", "a.srt", "--model", "nowhere"), 2, "no model at 'nowhere'"),
        (("a.mp4", "--text", "a.srt", "--write", "srt"), 2, "needs a folder"),
    ],
)
def test_what_cannot_be_aligned_is_told(trained, vid, words, code, said):
    (trained / "plain.txt").write_text("the low tone\n")
    found, _, err = vid("align", *words)
    assert (found, said in err) == (code, True), err
    assert "Traceback" not in err


def test_the_second_stage_asks_for_the_first(trained, vid):
    sets = ["--set", "method.name=tan-cotrain", "--set", "data.streams.audio.folder=run/features/audio", "--set", "towers={}"]
    code, _, err = vid("pretrain", "--preset", "alignment/narrated", "--data", "m.csv", *sets, "--dry-run")
    assert code == 2
    assert "stage 2 learns from what stage 1 has learned" in err
