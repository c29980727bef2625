"""Importers of published annotations: pickles as data only, Kinetics-GEBD raw and processed, TAPOS."""

import io
import json
import os
import pickle
import struct

import numpy as np
import pytest

from tasks.boundaries.annotations import add_paths, import_annotations, place
from tasks.boundaries.changes import changes
from tasks.core.errors import InputError, UsageError
from tasks.core.pickles import read_pickle

EVENT = "EventChange (Timestamp/Range): Change of Action"
RANGE = "ShotChangeGradualRange: Change due to Cut"
SHOT = "ShotChangeImmediateTimestamp: Change due to Pan"


def mark(label, start, end=None):
    return {"start_time": start, "end_time": start if end is None else end, "label": label}


def raw_entry(n_raters=3, **change):
    marks = [mark(EVENT, 2.0, 3.0), mark(SHOT, 6.0)]
    return {
        "fps": 25.0,
        "num_frames": 250.0,
        "video_duration": 10.0,
        "path_video": "class/vid_000001_000011.mp4",
        "f1_consis": [0.5, 0.6, 0.7, 0.8][:n_raters],
        "f1_consis_avg": 0.6,
        "substages_timestamps": [marks] * n_raters,
        **change,
    }


def written(path, content, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


# pickles

PLAIN = {
    "text": ["ü", 1, 2.5, True, None, (1, 2), {3}, frozenset({4})],
    "bytes": b"\x00\xff",
    "empty": b"",
    "scalars": [np.float64(29.97), np.float32(0.5), np.int64(-3), np.bool_(True), np.str_("vid")],
    "arrays": [np.array([1.5, 2.5]), np.array([], dtype=np.float32), np.arange(6, dtype=">i4").reshape(2, 3), np.arange(4).reshape(2, 2).T],
}


@pytest.mark.parametrize(("protocol", "core"), [*((protocol, None) for protocol in range(6)), (0, "numpy.core"), (2, "numpy.core")])
def test_plain_data_and_arrays_come_through(protocol, core):
    data = pickle.dumps(PLAIN, protocol=protocol)
    if core:  # as numpy 1 writes it; numpy 2 has _core
        data = data.replace(b"numpy._core.", f"{core}.".encode())
    found = read_pickle(data, "file")
    assert found["text"] == PLAIN["text"]
    assert (found["bytes"], found["empty"]) == (b"\x00\xff", b"")
    assert found["scalars"] == [29.97, 0.5, -3, True, "vid"]
    assert [type(value) for value in found["scalars"]] == [float, float, int, bool, str]
    assert found["arrays"] == [[1.5, 2.5], [], [[0, 1, 2], [3, 4, 5]], [[0, 2], [1, 3]]]


def test_pickles_of_python_2_come_through():
    text = b"(dp0\nS'vid'\np1\n(lp2\nF1.5\naI3\naVname\nas."
    assert read_pickle(text, "file") == {"vid": [1.5, 3, "name"]}
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + repr(struct.pack("<2d", 1.5, 2.5))[2:-1].encode() + b"'\ntb."
    )
    assert read_pickle(array, "file") == [1.5, 2.5]


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self.reduced


def test_a_pickle_that_asks_for_anything_else_is_refused_before_it_runs(tmp_path):
    flag = tmp_path / "flag"
    hostile = {
        "posix.system": Calls(os.system, f"touch {flag}"),
        "builtins.eval": Calls(eval, f"open({str(flag)!r}, 'w')"),
        "builtins.getattr": Calls(getattr, {}, "clear"),
        "io.open": Calls(io.open, str(flag), "w"),
        "numpy.load": Calls(np.load, str(flag)),
        "numpy.fromfile": Calls(np.fromfile, str(flag)),
        "builtins.bytearray": Calls(bytearray, 10),
    }
    for name, thing in hostile.items():
        for protocol in (2, 4):
            data = pickle.dumps({"vid": [1.0, thing]}, protocol=protocol)
            asked = name.split(".")[1]
            with pytest.raises(UsageError, match=rf"official\.pkl: the pickle asks for [\w.]*\b{asked}; only plain data"):
                read_pickle(data, "official.pkl")
    assert not flag.exists()


def global_named(module, name):
    return f"c{module}\n{name}\n".encode()


def test_what_the_allowed_names_stand_for_can_neither_be_changed_nor_misused():
    change_a_function = global_named("_codecs", "encode") + b"}S'__defaults__'\n(I1\ntsb."
    with pytest.raises(InputError, match="cannot be changed"):
        read_pickle(change_a_function, "file")
    dtype = global_named("numpy", "dtype")
    for code in ("O", "O8", "V16", "U99999999"):
        with pytest.raises(InputError, match=f"a pickled array of type '{code}'"):
            read_pickle(dtype + f"(S'{code}'\ntR.".encode(), "file")
    for objects in (np.array([{"a": 1}], dtype=object), np.array([(1, 2.0)], dtype="i4,f8")):
        with pytest.raises(InputError, match="only arrays of numbers and text"):
            read_pickle(pickle.dumps(objects), "file")
    scalar = global_named("numpy.core.multiarray", "scalar") + b"(" + dtype + b"(S'f8'\ntRS'abc'\ntR."
    with pytest.raises(InputError, match="not a readable pickle"):
        read_pickle(scalar, "file")
    too_long = pickle.dumps(np.arange(3.0), protocol=4).replace(b"K\x03\x85", b"K\x7f\x85")
    with pytest.raises(InputError, match="does not fit its shape"):
        read_pickle(too_long, "file")
    utf7 = global_named("_codecs", "encode") + b"(Vabc\nS'rot13'\ntR."
    with pytest.raises(InputError, match="unexpected encoding"):
        read_pickle(utf7, "file")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x04", b"\x80\x04N", b"\x80\x63N.", b"\x80\x04}(.", b"\x80\x04\x95\xff"])
def test_damaged_pickles_are_unusable_input(data):
    with pytest.raises(InputError, match=r"cut\.pkl: not a readable pickle"):
        read_pickle(data, "cut.pkl")


# Kinetics-GEBD


def test_marks_become_their_middles_away_from_the_ends():
    items = [mark(EVENT, 0.1, 0.4), mark(EVENT, 0.3), mark(SHOT, 9.7), mark(SHOT, 9.71), mark(RANGE, 4.0, 5.0), mark(EVENT, 7.0, 7.5)]
    for rules in ("public", "written"):
        assert changes(items, 10.0, rules) == pytest.approx([0.3, 4.5, 7.25, 9.7])


def test_close_changes_become_one():
    assert changes([mark(EVENT, 3.0), mark(EVENT, 3.5), mark(EVENT, 3.625), mark(EVENT, 5.0)], 10.0) == [3.0, 3.625, 5.0]
    assert changes([mark(EVENT, 0.6), mark(EVENT, 1.2)], 10.0) == [0.6]  # exactly 0.6 s apart
    assert changes([mark(SHOT, 5.0), mark(SHOT, 4.5)], 10.0) == [4.5]
    # overlapping gradual changes are one, and hide what is inside and 0.3 s around them
    ranges = [mark(RANGE, 2.0, 3.0), mark(RANGE, 3.0, 5.0), mark(RANGE, 4.0, 4.5)]
    assert changes(ranges, 10.0) == [3.5]
    assert changes([*ranges, mark(EVENT, 5.25), mark(SHOT, 6.0), mark(SHOT, 1.75)], 10.0) == [3.5, 6.0]


def test_the_slips_of_the_public_script_are_kept_unless_the_written_rules_are_asked_for():
    near_last_shot = [mark(SHOT, 2.0), mark(SHOT, 8.0), mark(EVENT, 2.5), mark(EVENT, 8.5)]
    assert changes(near_last_shot, 10.0) == [2.0, 8.0, 8.5]
    assert changes(near_last_shot, 10.0, "written") == [2.0, 8.0]
    both_inside = [mark(RANGE, 3.0, 6.0), mark(EVENT, 4.0), mark(EVENT, 5.0)]
    assert changes(both_inside, 10.0) == [4.5, 5.0]
    assert changes(both_inside, 10.0, "written") == [4.5]
    unsorted = [mark(RANGE, 6.0, 7.0), mark(RANGE, 2.0, 3.0)]
    assert changes(unsorted, 10.0) == [6.5]
    assert changes(unsorted, 10.0, "written") == [2.5, 6.5]


def test_raw_annotations(tmp_path):
    content = {"two": raw_entry(2), "three": raw_entry(3), "four": raw_entry(4), "blind": raw_entry(3, fps=None)}
    content["numpy"] = raw_entry(3, fps=np.float64(25.0), video_duration=np.float32(10.0))
    found = import_annotations(written(tmp_path / "k400_val_raw_annotation.pkl", content))
    assert found.format == "gebd-raw"
    assert dict(found.left_out) == {"fewer than 3 annotators": 1, "no fps": 1}
    assert list(found.truth) == ["three", "four", "numpy"]
    assert found.truth["four"] == {
        "fps": 25.0,
        "num_frames": 250,
        "video_duration": 10.0,
        "f1_consis": [0.5, 0.6, 0.7, 0.8],
        "f1_consis_avg": 0.6,
        "substages_timestamps": [[2.5, 6.0]] * 4,
        "path_video": "class/vid_000001_000011.mp4",
    }
    json.dumps(found.truth)


def test_raw_annotations_that_cannot_be_used_are_named(tmp_path):
    for change in (
        {"substages_timestamps": [[{"start_time": 1.0}]] * 3},
        {"substages_timestamps": [[1.0]] * 3},
        {"f1_consis": [0.5]},
        {"num_frames": "many"},
        {"video_duration": float("nan")},
    ):
        with pytest.raises(InputError, match="'clip'"):
            import_annotations(written(tmp_path / "raw.pkl", {"clip": raw_entry(3, **change)}), "gebd-raw")


def test_processed_annotations_with_seconds_or_frames(tmp_path):
    entry = raw_entry(
        3, substages_timestamps=[[1.0], [], [2.0, 3.0]], substages_myframeidx=[[25.0], [], [50.0, 75.0]], path_frame="class/vid"
    )
    found = import_annotations(written(tmp_path / "k400_mr345.pkl", {"vid": entry}))
    assert (found.format, found.truth["vid"]["substages_timestamps"]) == ("gebd", [[1.0], [], [2.0, 3.0]])
    assert not {"substages_myframeidx", "path_frame"} & set(found.truth["vid"])
    del entry["substages_timestamps"]
    assert import_annotations(written(tmp_path / "early.pkl", {"vid": entry})).truth == found.truth
    for change in ({"fps": 0}, {"fps": None}, {"substages_myframeidx": [1.0]}):
        with pytest.raises(InputError, match="'vid': fps and lists of frames"):
            import_annotations(written(tmp_path / "early.pkl", {"vid": {**entry, **change}}))
    (tmp_path / "truth.json").write_text(json.dumps(found.truth))
    again = import_annotations(tmp_path / "truth.json")
    assert (again.truth, again.format) == (found.truth, "gebd")
    with pytest.raises(UsageError, match="holds one split"):
        import_annotations(tmp_path / "truth.json", split="val")


# TAPOS


def tapos(**instances):
    return {"abcdefghijk": instances}


def test_tapos_as_its_authors_publish_it(tmp_path):
    content = tapos(
        s00001_79_481_81_895={"subset": "val", "total_frames": 72, "substages": [0, 51, 72], "shot_timestamps": [5.0, 90.0]},
        s00002_0_000_2_000={"subset": "val", "total_frames": 50, "substages": [0, 50]},
        s00003_0_000_4_000={"subset": "train", "total_frames": 100, "substages": [0, 25, 75, 100]},
    )
    path = tmp_path / "tapos_annotation.json"
    path.write_text(json.dumps(content))
    found = import_annotations(path)
    assert (found.format, list(found.truth), dict(found.left_out)) == (
        "tapos",
        ["abcdefghijk_s00001_79_481_81_895"],
        {"no boundary inside": 1},
    )
    entry = found.truth["abcdefghijk_s00001_79_481_81_895"]
    assert entry["video_duration"] == pytest.approx(2.414)
    assert entry["fps"] == pytest.approx(72 / 2.414)
    assert entry["substages_timestamps"][0] == pytest.approx([51 * 2.414 / 72])
    assert (entry["num_frames"], entry["f1_consis"], entry["f1_consis_avg"]) == (72, [1.0], 1.0)
    train = import_annotations(path, split="train").truth
    assert train["abcdefghijk_s00003_0_000_4_000"]["substages_timestamps"] == [[1.0, 3.0]]
    with pytest.raises(UsageError, match="no instances of split 'test'") as caught:
        import_annotations(path, split="test")
    assert caught.value.hint == "it has: train, val"


def test_tapos_with_the_frames_of_the_gebd_authors(tmp_path):
    item = {
        "subset": "val",
        "substages": [0, 9, 20],
        "substages_myframeidx": [100, 125, 149],
        "myfps": 25.0,
        "substages_timestamps": [4, 5, 6],
    }
    path = tmp_path / "tapos_annotation_timestamps_myfps.json"
    path.write_text(json.dumps(tapos(s00001_4_000_6_000=item)))
    entry = import_annotations(path).truth["abcdefghijk_s00001_4_000_6_000"]
    assert (entry["num_frames"], entry["video_duration"], entry["substages_timestamps"]) == (50, 2.0, [[1.0]])


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("s00001_0_000_2_000", {"subset": "val", "substages": [0, 1, 2]}),
        ("s00001", {"subset": "val", "substages": [0, 1, 2], "total_frames": 2}),
        ("s00001_2_000_2_000", {"subset": "val", "substages": [0, 1, 2], "total_frames": 2}),
        ("s00001_0_000_2_000", {"substages": [0, 1, 2]}),
    ],
)
def test_instances_that_cannot_be_used_are_named(tmp_path, name, item):
    path = tmp_path / "tapos.json"
    path.write_text(json.dumps(tapos(**{name: item})))
    with pytest.raises(InputError, match=f"instance {name} of abcdefghijk cannot be used"):
        import_annotations(path)


@pytest.mark.real
def test_the_tapos_validation_truth_is_what_the_importer_makes(real_data, tmp_path):
    truth = json.loads((real_data / "tapos" / "val.json").read_text())
    content: dict[str, dict] = {}
    for name, entry in truth.items():
        frames = [round(time * entry["fps"]) for time in entry["substages_timestamps"][0]]
        item = {"subset": "val", "total_frames": entry["num_frames"], "substages": [0, *frames, entry["num_frames"]]}
        content.setdefault(name[:11], {})[name[12:]] = item
    (tmp_path / "tapos.json").write_text(json.dumps(content))
    found = import_annotations(tmp_path / "tapos.json").truth
    assert len(found) == 1755
    assert found == truth


# files and formats


def test_files_that_are_no_annotations(tmp_path):
    for text, message in (
        ("{}", "no annotations"),
        ("[1]", "no annotations"),
        ('{"a": 1}', "no annotations"),
        ('{"a": {"b": 1}}', "format of these annotations is not known"),
        ("{", "not valid JSON"),
        ('{"a": {}, "a": {}}', "'a' occurs twice"),
    ):
        (tmp_path / "some.json").write_text(text)
        with pytest.raises(InputError, match=message):
            import_annotations(tmp_path / "some.json")
    with pytest.raises(InputError, match="no such file"):
        import_annotations(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="is a directory"):
        import_annotations(tmp_path)
    (tmp_path / "bad.pkl").write_text("hello")
    with pytest.raises(InputError, match="not a readable pickle"):
        import_annotations(tmp_path / "bad.pkl")


@pytest.mark.parametrize(
    "change",
    [
        {"substages_timestamps": None},
        {"substages_timestamps": 5},
        {"path": 5},
        {"num_frames": "many"},
        {"substages_timestamps": [1.0, 2.0, 3.0]},
        {"fps": "25"},
    ],
)
def test_entries_of_the_truth_that_cannot_be_used_are_named(tmp_path, change):
    content = {"clip": {**raw_entry(substages_timestamps=[[1.0]] * 3), **change}}
    for kind in ("auto", "gebd", "gebd-raw", "tapos"):
        (tmp_path / "truth.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="clip"):
            import_annotations(tmp_path / "truth.json", kind)


# videos


def test_videos_are_found_by_their_names(tmp_path):
    for name in ("class/one_000001_000011.mp4", "two.webm", "deep/er/three_000005_000015.mkv", "other.mp4", "four.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    truth = {
        "one": {"path_video": "else/one_000001_000011.mp4"},
        "two": {},
        "three": {},
        "gone": {"path": "gone.mp4"},
        "4": {"path_video": "x/four.mp4"},
    }
    assert add_paths(truth, tmp_path / "videos") == ["gone"]
    place(truth, tmp_path, relative=True)
    assert {name: entry.get("path") for name, entry in truth.items()} == {
        "one": "videos/class/one_000001_000011.mp4",
        "two": "videos/two.webm",
        "three": "videos/deep/er/three_000005_000015.mkv",
        "gone": None,
        "4": "videos/four.mp4",
    }
    (tmp_path / "videos" / "class" / "two.mp4").touch()
    with pytest.raises(InputError, match="could be 'two'"):
        add_paths(truth, tmp_path / "videos")
