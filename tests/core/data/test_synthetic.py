import csv
import json

import numpy as np
import pytest

from tasks.core.data import synthetic
from tasks.core.data.synthetic import CLASSES, encode, motion, render_clip, render_motion_set
from tasks.core.errors import UsageError

SHARES = {"train": 0.6, "val": 0.2, "unlabelled": 0.2}


def decode(path):
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def rows_of(manifest):
    with open(manifest, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def motion_set(tmp_path_factory):
    return render_motion_set(tmp_path_factory.mktemp("motion"), n_per_class=50, seed=3, splits=SHARES)


@pytest.fixture(scope="module")
def decoded(motion_set):
    """split -> (clips uint8 (n, T, S, S, 3), class numbers (n,)) of the labelled splits, as a reader of the files sees them."""
    found = {}
    for split in ("train", "val"):
        rows = [row for row in rows_of(motion_set) if row["split"] == split]
        clips = np.stack([decode(motion_set.parent / row["path"]) for row in rows])
        found[split] = clips, np.array([CLASSES.index(row["label"]) for row in rows])
    return found


def test_manifest_lists_every_class_in_every_labelled_split(motion_set):
    rows = rows_of(motion_set)
    assert len(rows) == 500
    assert len({row["path"] for row in rows}) == 500
    assert all((motion_set.parent / row["path"]).is_file() for row in rows)
    for split, count in (("train", 30), ("val", 10)):
        labels = [row["label"] for row in rows if row["split"] == split]
        assert {label: labels.count(label) for label in labels} == dict.fromkeys(CLASSES, count)
    assert {row["label"] for row in rows if row["split"] == "unlabelled"} == {""}
    assert not list(motion_set.parent.rglob("*.tmp"))


def test_videos_are_closed_gop_h264(motion_set):
    import av

    with av.open(str(motion_set.parent / "train" / "left_0000.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.0)
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    assert len(packets) == 24
    assert len(keys) >= 2
    for key in keys:
        assert all(packet.pts > packets[key].pts for packet in packets[key + 1 :])


def test_a_decoded_video_looks_like_the_rendered_clip(motion_set):
    clip = render_clip("down", np.random.default_rng([3, 1, CLASSES.index("down"), 2]))
    read = decode(motion_set.parent / "val" / "down_0002.mp4")
    assert read.shape == clip.shape == (24, 64, 64, 3)
    assert np.abs(read.astype(float) - clip).mean() < 12


def test_same_seed_same_bytes_other_seed_other_videos(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        render_motion_set(path, 3, seed, frames=16, splits={"train": 0.67, "val": 0.33})
    files = [sorted(path.rglob("*.mp4")) for path in paths]
    a, b, c = ([file.read_bytes() for file in group] for group in files)
    assert a == b
    assert not set(a) & set(c)
    assert len(set(a)) == len(a) == 30


def test_a_complete_set_is_reused_and_an_interrupted_one_is_continued(tmp_path, monkeypatch):
    kwargs = {"n_per_class": 3, "seed": 0, "size": 32, "frames": 6, "splits": {"train": 0.67, "val": 0.33}}
    manifest = render_motion_set(tmp_path, **kwargs)
    text, lost = manifest.read_bytes(), tmp_path / "val" / "grow_0000.mp4"
    before = lost.read_bytes()
    lost.unlink()
    manifest.unlink()
    rendered = []
    monkeypatch.setattr(synthetic, "encode", lambda *args: rendered.append(1) or encode(*args))
    assert render_motion_set(tmp_path, **kwargs).read_bytes() == text
    assert lost.read_bytes() == before
    assert len(rendered) == 1
    render_motion_set(tmp_path, **kwargs)
    assert len(rendered) == 1


def test_a_folder_with_other_settings_is_refused(tmp_path):
    render_motion_set(tmp_path, 3, 0, size=32, frames=6, splits={"train": 0.67, "val": 0.33})
    with pytest.raises(UsageError, match="other settings"):
        render_motion_set(tmp_path, 3, 1, size=32, frames=6, splits={"train": 0.67, "val": 0.33})
    (tmp_path / "motion_set.json").write_text("{half")
    with pytest.raises(UsageError, match="other settings"):
        render_motion_set(tmp_path, 3, 0, size=32, frames=6, splits={"train": 0.67, "val": 0.33})


@pytest.mark.parametrize(
    "changes", [{"n_per_class": 1}, {"size": 33}, {"frames": 1}, {"splits": {"train": 0.5}}, {"splits": {"train": 1.0, "val": 0.0}}]
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, changes):
    with pytest.raises(UsageError):
        render_motion_set(tmp_path / "new", **({"n_per_class": 5, "seed": 0} | changes))
    assert not (tmp_path / "new").exists()


def test_settings_are_written_beside_the_videos(motion_set):
    settings = json.loads((motion_set.parent / "motion_set.json").read_text())
    assert settings["seed"] == 3
    assert settings["classes"] == list(CLASSES)
    assert settings["splits"] == SHARES


@pytest.mark.parametrize("frame", [0, 11, 23])
def test_the_state_in_one_frame_is_uniform_for_every_class(frame):
    """Kolmogorov-Smirnov distance of position, angle and scale from the uniform distribution, 500 draws: 0.073 is the 1 % level."""
    from scipy.stats import kstest

    for number, label in enumerate(CLASSES):
        draws = [motion(label, 24, np.random.default_rng([frame, number, i])) for i in range(500)]
        for name, period in (("x", 1), ("y", 1), ("angle", 2 * np.pi), ("scale", 1)):
            values = [getattr(draw, name)[frame] % period / period for draw in draws]
            assert kstest(values, "uniform").statistic < 0.09, (label, name)


def linear_accuracy(train, train_labels, val, val_labels, strength=1.0):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    return model.fit(train, train_labels).score(val, val_labels)


def frames_at(clips, cells):
    n, frames, side = clips.shape[:3]
    block = side // cells
    return clips.reshape(n, frames, cells, block, cells, block, 3).mean((3, 5))


def motion_moments(clips):
    """Per clip: mean flow, its turning, its curl and its divergence about the moving thing's centre, from brightness gradients alone."""
    grey = clips.astype(np.float32).mean(-1) / 255
    side = grey.shape[-1]
    middle = (grey[:, 1:] + grey[:, :-1]) / 2
    change, dy, dx = grey[:, 1:] - grey[:, :-1], np.gradient(middle, axis=2), np.gradient(middle, axis=3)
    weight = change**2 * ((dx**2 + dy**2) > 1e-4)
    norm = dx**2 + dy**2 + 1e-3
    u, v = -change * dx / norm, -change * dy / norm
    total = weight.sum((2, 3)) + 1e-6
    around = np.exp(2j * np.pi * np.arange(side) / side)
    x0, y0 = (np.angle((weight.sum(axis) * around).sum(-1)) / (2 * np.pi) * side for axis in (2, 3))
    x = (np.arange(side) - x0[..., None, None] + side / 2) % side - side / 2
    y = (np.arange(side)[:, None] - y0[..., None, None] + side / 2) % side - side / 2

    def mean(field):
        return (weight * field).sum((2, 3)) / total

    flow_u, flow_v = mean(u), mean(v)
    turning = flow_u[:, :-4] * flow_v[:, 4:] - flow_v[:, :-4] * flow_u[:, 4:]
    moments = [flow_u, flow_v, turning, mean(x * v - y * u), mean(x * u + y * v)]
    return np.stack([np.median(m, 1) for m in moments] + [m.mean(1) for m in moments], 1)


def test_single_frames_do_not_tell_the_classes_apart_and_motion_does(decoded):
    (train, train_labels), (val, val_labels) = decoded["train"], decoded["val"]
    picks = [2, 12, 21]
    for cells in (8, 16):
        features = [frames_at(clips[:, picks], cells).reshape(len(clips) * len(picks), -1) for clips in (train, val)]
        labels = [np.repeat(numbers, len(picks)) for numbers in (train_labels, val_labels)]
        assert linear_accuracy(features[0], labels[0], features[1], labels[1], 0.01) < 0.18
    moved = linear_accuracy(motion_moments(train), train_labels, motion_moments(val), val_labels)
    assert moved > 0.5
