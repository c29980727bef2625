import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tasks.core.data import feature_files
from tasks.core.data.feature_files import FeatureError
from tasks.core.data.feature_record import check_encoder, record_of
from tasks.core.data.features import FeatureFolder, Grid, write_features
from tasks.core.data.inputs import gather
from tasks.core.data.rows import Row
from tasks.core.errors import UsageError

GRID = Grid(0.5, 1.0, 0.25)
ENCODER = {"reference": "runs/mine", "weights_hash": "00aa", "crops": 1}


def values(n=6, d=4, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def write(folder, name="a", n=6, grid=GRID, encoder=ENCODER, **settings):
    return write_features(folder, name, values(n), grid, encoder, **settings)


def test_a_grid_says_when_each_feature_is():
    times = GRID.times(3)
    np.testing.assert_array_equal(times, [[0.25, 1.25], [0.75, 1.75], [1.25, 2.25]])
    assert times.dtype == np.float64
    np.testing.assert_array_equal(GRID.centers(3), times.mean(1))
    np.testing.assert_allclose(GRID.index_of(GRID.centers(50)), np.arange(50), atol=1e-12)
    assert GRID.index_of(1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "bad", [(0, 1, 0), (-1, 1, 0), (1, -0.1, 0), (float("nan"), 1, 0), (1, float("inf"), 0), (1, 1, None), ("1", 1, 0)]
)
def test_a_grid_is_checked(bad):
    with pytest.raises(UsageError, match="grid of features"):
        Grid(*bad)


def test_the_part_of_a_row_is_the_features_whose_middle_lies_in_it():
    """Against counting, with edges on and beside the middles 0.75, 1.25, ... 3.25."""
    centers = GRID.centers(6)
    for start in (None, -3.0, 0.0, 0.75, 0.76, 1.25, 3.0):
        for end in (None, 0.8, 1.25, 1.26, 3.25, 9.0):
            low, high = GRID.part(6, start, end)
            inside = (centers >= (-9 if start is None else start)) & (centers < (99 if end is None else end))
            if inside.any():
                assert list(range(low, high)) == np.flatnonzero(inside).tolist()
            else:
                assert high == low + 1
    assert GRID.part(6, 1.3, 1.4) == (1, 2)
    assert GRID.part(6, 1.6, 1.7) == (2, 3)
    assert GRID.part(6, 3.3, None) == (5, 6)
    assert GRID.part(6, 0.75 + 1e-9, 1.26) == (0, 2)  # rounding leaves no feature out


@pytest.mark.parametrize("format", ["npz", "npy", "h5"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_what_is_written_is_read(tmp_path, format, dtype):
    given, seen = values(dtype=dtype), np.stack([GRID.times(6)[:, 0], GRID.times(6)[:, 1] - 0.1], 1)
    files = write_features(tmp_path / "f", "a", given, GRID, ENCODER, format, t=seen, record={"video": "a.mp4"})
    assert all(file.is_file() for file in files)
    assert files[0].name == "a.features.json"
    folder = FeatureFolder(tmp_path / "f")
    assert (folder.names, len(folder), list(folder), folder.dim, folder.grid.facts()["offset_s"]) == (["a"], 1, ["a"], 4, 0.0)
    assert folder.encoder == ENCODER
    found = folder.get("a")
    assert found.values.dtype == (np.float16 if dtype == np.float16 else np.float32)
    np.testing.assert_array_equal(found.values, given.astype(found.values.dtype))
    assert found.grid == GRID
    np.testing.assert_array_equal(found.times, GRID.times(6))
    assert json.loads(files[0].read_text())["video"] == "a.mp4"
    if format == "npy":
        assert isinstance(found.values, np.memmap)
        np.testing.assert_array_equal(np.load(files[2]), seen)
    if format == "npz":
        with np.load(files[1], allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["t"], seen)


def test_every_video_begins_where_it_begins(tmp_path):
    write(tmp_path, "a", grid=Grid(0.5, 1.0, 0.25))
    write(tmp_path, "b", grid=Grid(0.5, 1.0, 7.0))
    folder = FeatureFolder(tmp_path)
    assert [folder.get(name).times[0, 0] for name in folder] == [0.25, 7.0]


def test_one_feature_per_video(tmp_path):
    write_features(tmp_path, "a", values(1)[0], None, ENCODER)
    folder = FeatureFolder(tmp_path)
    assert folder.whole
    assert folder.grid is None
    assert folder.get("a").values.shape == (1, 4)
    assert folder.get("a").times is None
    with pytest.raises(ValueError, match="on a grid"):
        write_features(tmp_path, "b", values(1)[0], GRID, ENCODER)


def test_a_stride_in_frames_gives_every_video_its_own_grid(tmp_path):
    steps = {"stride_s": 0.5, "span_s": None}
    write(tmp_path, "a", grid=Grid(0.5, 0.64), steps=steps)
    write(tmp_path, "b", grid=Grid(0.5, 0.53), steps=steps)
    folder = FeatureFolder(tmp_path)
    assert folder.grid is None
    assert folder.steps == steps
    assert [folder.get(name).grid.span_s for name in folder] == [0.64, 0.53]
    with pytest.raises(UsageError, match=r"stride 0.5 s, span by frame rate.* stride 0.25 s"):
        write(tmp_path, "c", grid=Grid(0.25, 0.53), steps={"stride_s": 0.25, "span_s": None})


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": {**ENCODER, "weights_hash": "00bb"}},
        {"encoder": {**ENCODER, "crops": 3}},
        {"grid": Grid(0.25, 1.0)},
        {"grid": Grid(0.5, 2.0)},
        {"format": "npy"},
    ],
)
def test_two_kinds_are_not_mixed_in_one_folder(tmp_path, other):
    write(tmp_path, "a")
    with pytest.raises(UsageError) as raised:
        write(tmp_path, "b", **other)
    assert "holds runs/mine (00aa), stride 0.5 s, span 1 s as npz float32 (a); this is runs/mine" in raised.value.message
    assert "choose another folder" in raised.value.hint
    assert FeatureFolder(tmp_path).names == ["a"]
    write(tmp_path, "b", encoder={**ENCODER, "reference": "moved/mine"})  # the same weights


def test_another_number_of_channels_is_refused(tmp_path):
    write(tmp_path, "a")
    with pytest.raises(UsageError, match="features of 4 channels, not 5"):
        write_features(tmp_path, "b", values(6, 5), GRID, ENCODER)


def test_a_folder_is_taken_over_where_all_of_it_is_redone(tmp_path):
    """What is not redone yet is refused, not mixed."""
    write(tmp_path, "a")
    write(tmp_path, "b")
    other = {**ENCODER, "weights_hash": "00bb"}
    with pytest.raises(UsageError, match=r"\(b\)"):
        write(tmp_path, "a", encoder=other, redone=("a", "c"))
    write(tmp_path, "a", encoder=other, format="npy", redone=("a", "b"))
    folder = FeatureFolder(tmp_path)
    assert folder.names == ["a"]
    assert not (tmp_path / "a.features.npz").exists()
    write(tmp_path, "c", encoder=other, format="npy", redone=("a", "b", "c"))
    np.save(tmp_path / "b.features.npy", values())
    with pytest.raises(FeatureError, match=r"b.features.json: these features are not those that features.json describes"):
        FeatureFolder(tmp_path).get("b")


def test_features_without_a_record_do_not_count(tmp_path, monkeypatch):
    """A process that is killed between the two files leaves neither half features nor an old record beside new ones."""
    write(tmp_path, "a")
    write(tmp_path, "b")
    monkeypatch.setattr("tasks.core.data.features.write_json", lambda path, value: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "a", n=9)
    monkeypatch.undo()
    assert FeatureFolder(tmp_path).names == ["b"]
    monkeypatch.setattr(feature_files.np, "savez", lambda out, **arrays: out.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, "b", n=9)
    assert sorted(path.name for path in tmp_path.iterdir() if "b" in path.name) == []


WRITER = """
import sys
from pathlib import Path
import numpy as np
from tasks.core.data.features import Grid, write_features
for i in range(int(sys.argv[2]), 40, 4):
    write_features(Path(sys.argv[1]), f"v{i:02}", np.full((3, 2), i, np.float32), Grid(1, 1), {"reference": "x", "weights_hash": "0"})
"""


def test_several_processes_write_into_one_folder(tmp_path):
    folder = tmp_path / "new" / "folder"
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(k)]) for k in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    found = FeatureFolder(folder)
    assert found.names == [f"v{i:02}" for i in range(40)]
    assert all((found.get(name).values == int(name[1:])).all() for name in found)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_rows_find_their_features(tmp_path):
    """Names as `gather` gives them, two videos of one name included."""
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "same.mp4").touch()
    (tmp_path / "x" / "b.c.mkv").touch()
    inputs = gather([str(tmp_path / "x"), str(tmp_path / "y")])
    for n, item in enumerate(inputs, 1):
        write(tmp_path / "f", item.name, n)
    folder = FeatureFolder(tmp_path / "f")
    assert [len(folder.of(item.row).values) for item in inputs] == [1, 2, 3]
    assert folder.find(Row("/elsewhere/b.c.mkv", start_s=1.0, end_s=2.0)) == "b.c"
    with pytest.raises(FeatureError, match=r"/elsewhere/same.mp4: no features in .*: neither same nor same-\w{8} is there \(there are 3"):
        folder.find(Row("/elsewhere/same.mp4"))
    write(tmp_path / "f", "part-1-2.5", 4)
    write(tmp_path / "f", "b.c-1-2", 4)
    assert FeatureFolder(tmp_path / "f").find(Row("/elsewhere/b.c.mkv", start_s=1.0, end_s=2.0)) == "b.c"
    assert FeatureFolder(tmp_path / "f").find(Row("/elsewhere/part.mp4", start_s=1.0, end_s=2.5)) == "part-1-2.5"
    assert pickle.loads(pickle.dumps(folder)).names == folder.names


def save(path, array, format="npy"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "npy":
        np.save(path, array)
    elif format == "npz":
        np.savez(path, feats=array, other=np.zeros(2))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["feats"], file["other"] = array, np.zeros(2)


@pytest.mark.parametrize("format", ["npy", "npz", "h5"])
@pytest.mark.parametrize("layout", ["nd", "dn"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_other_programs(tmp_path, format, layout, dtype):
    given = values(dtype=dtype)
    save(tmp_path / "train" / f"v_abc_rgb.{format}", given if layout == "nd" else given.T, format)
    save(tmp_path / "train" / f"v_abc_flow.{format}", given, format)
    key = None if format == "npy" else "feats"
    folder = FeatureFolder(tmp_path, GRID, files=f"v_{{name}}_rgb.{format}", layout=layout, key=key, encoder="i3d")
    assert (folder.names, folder.dim, folder.grid) == (["train/abc"], 4, GRID)
    found = folder.of(Row("/any/train/abc.mp4"))
    np.testing.assert_array_equal(found.values, given)
    assert found.values.dtype == dtype
    assert folder.find(Row("/any/abc.mp4")) == "train/abc"
    assert folder.encoder == {"reference": "i3d", "weights_hash": None}


def test_a_subfolder_tells_files_of_the_same_name_apart(tmp_path):
    for place in ("train", "val"):
        save(tmp_path / place / "abc.npy", values())
    folder = FeatureFolder(tmp_path, GRID)
    assert folder.find(Row("/data/val/abc.mp4")) == "val/abc"
    with pytest.raises(FeatureError, match=r"several features in .*: train/abc, val/abc"):
        folder.find(Row("/data/abc.mp4"))
    with pytest.raises(FeatureError, match=r"neither abd nor abd.mp4 is there"):
        folder.find(Row("/data/abd.mp4"))


def test_a_grid_is_never_guessed(tmp_path):
    save(tmp_path / "a.npy", values())
    with pytest.raises(UsageError, match=r"features.json") as raised:
        FeatureFolder(tmp_path, where="data.streams.visual.grid")
    assert "set data.streams.visual.grid.stride_s, data.streams.visual.grid.span_s and" in raised.value.hint
    write(tmp_path / "ours")
    for settings in ({"grid": Grid(1, 1)}, {"files": "{name}.npz"}, {"layout": "dn"}, {"key": "x"}, {"encoder": "y"}):
        with pytest.raises(UsageError, match=r"features.json"):
            FeatureFolder(tmp_path / "ours", **settings)
    assert FeatureFolder(tmp_path / "ours", Grid(0.5, 1.0)).get("a").grid == GRID


def test_wrong_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "two" / "a.npy", values())
    save(tmp_path / "two" / "a.npz", values(), "npz")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "features.json").write_text("{")
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / "features.json").write_text(
        '{"encoder": {}, "format": "npz", "dtype": "float32", "grid": {}, "id": "", "dim": 1}'
    )
    for name, settings, told in (
        ("nowhere", {}, "no such folder of features"),
        ("empty", {}, "no features in this folder"),
        ("two", {"files": "x_{name}.npy"}, "no features in this folder by the name x_{name}.npy"),
        ("two", {"files": "name.npy"}, "cannot be named 'name.npy'"),
        ("two", {}, "two files for a: a.npy and a.npz"),
        ("two", {"layout": "td"}, "layout 'td'"),
        ("bad", {}, "cannot be read"),
        ("worse", {}, "'grid' is missing or of the wrong kind"),
    ):
        with pytest.raises(UsageError) as raised:
            FeatureFolder(tmp_path / name, GRID, **settings)
        assert told in raised.value.message
    with pytest.raises(UsageError, match="cannot write features as 'mat'"):
        write(tmp_path, format="mat")


def test_files_that_hold_something_else(tmp_path):
    save(tmp_path / "a_good.npy", values())
    save(tmp_path / "flat.npy", values()[0])
    save(tmp_path / "turned.npy", values(4, 9))
    save(tmp_path / "cube.npy", np.zeros((2, 3, 4)))
    save(tmp_path / "whole.npy", np.zeros((2, 4), np.int32))
    save(tmp_path / "none.npy", np.zeros((0, 4)))
    save(tmp_path / "many.npz", values(), "npz")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    folder = FeatureFolder(tmp_path, GRID)
    for name, told in (
        ("turned", "has 9 channels, the others 4; is a column a feature? Then set layout to dn"),
        ("cube", "has the shape (2, 3, 4)"),
        ("whole", "holds int32"),
        ("none", "holds no features"),
        ("many", "has no array 'features': it holds feats, other"),
        ("objects", "cannot be read (not an array, or one of Python objects, which are never read)"),
        ("torn", "cannot be read"),
        ("a_goood", "has no features of a_goood; did you mean a_good?"),
    ):
        with pytest.raises(FeatureError) as raised:
            folder.get(name)
        assert told in str(raised.value)
        assert pickle.loads(pickle.dumps(raised.value)).reason == raised.value.reason


def test_h5_does_not_lead_to_other_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret.bin").write_bytes(np.ones((2, 2)).tobytes())
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("features", (2, 2), "f8", external=[(str(tmp_path / "secret.bin"), 0, 32)])
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink("raw.h5", "features")
    folder = FeatureFolder(tmp_path, GRID)
    for name in ("raw", "link"):
        with pytest.raises(FeatureError, match=r"other files|a link"):
            folder.get(name)


def test_h5_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="h5py") as raised:
        write(tmp_path, format="h5")
    assert "vid-suite[h5]" in raised.value.hint
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.h5").write_bytes(b"")
    with pytest.raises(UsageError, match="h5py"):
        FeatureFolder(tmp_path / "x", GRID).get("a")


def test_a_model_refuses_features_of_another_encoder(tmp_path):
    write(tmp_path / "mine")
    mine = json.loads(json.dumps(record_of(FeatureFolder(tmp_path / "mine"))))
    assert mine == {"encoder": ENCODER, "dim": 4, "grid": {"stride_s": 0.5, "span_s": 1.0}}
    write(tmp_path / "moved", encoder={**ENCODER, "reference": "hf://org/mine"}, grid=Grid(0.5, 1.0, 3.0), format="npy")
    check_encoder(mine, FeatureFolder(tmp_path / "moved"))
    save(tmp_path / "foreign" / "a.npy", values())
    for name, made, told in (
        ("weights", {"encoder": {**ENCODER, "weights_hash": "00bb", "reference": "b"}}, "another encoder"),
        ("sees", {"encoder": {**ENCODER, "crops": 3}}, r"it sees something else \(crops\)"),
        ("stride", {"grid": Grid(0.25, 1.0)}, "another stride"),
        ("span", {"grid": Grid(0.5, 1.5)}, "another span"),
        ("own", {"steps": {"stride_s": 0.5, "span_s": None}}, "another span"),
    ):
        write(tmp_path / name, **made)
        with pytest.raises(UsageError, match=told) as raised:
            check_encoder(mine, FeatureFolder(tmp_path / name))
        assert "the model learned from runs/mine (00aa), 4 channels, stride 0.5 s, span 1 s" in raised.value.message
    write_features(tmp_path / "whole", "a", values(1)[0], None, ENCODER)
    with pytest.raises(UsageError, match="features of windows against features of whole videos"):
        check_encoder(mine, FeatureFolder(tmp_path / "whole"))
    with pytest.raises(UsageError, match="another encoder"):
        check_encoder(mine, FeatureFolder(tmp_path / "foreign", GRID, encoder="i3d"))
    i3d = record_of(FeatureFolder(tmp_path / "foreign", GRID, encoder="i3d"))
    check_encoder(i3d, FeatureFolder(tmp_path / "foreign", GRID, encoder="i3d"))
    with pytest.raises(UsageError, match="another encoder"):
        check_encoder(i3d, FeatureFolder(tmp_path / "foreign", GRID, encoder="c3d"))
    save(tmp_path / "wider" / "a.npy", values(6, 5))
    with pytest.raises(UsageError, match="5 channels, not 4"):
        check_encoder(i3d, FeatureFolder(tmp_path / "wider", GRID, encoder="i3d"))
