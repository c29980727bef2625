"""Plans of big runs: what is computed is checked by hand, what is measured on small files."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.core.clips.config import ClipConfig, DataConfig
from tasks.core.clips.loader import Picked
from tasks.core.config import Config
from tasks.core.data.rows import Row, Rows
from tasks.core.data.synthetic import encode
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.plan import Assumptions, assumptions, forecast
from tasks.core.engine.workload import Workload
from tasks.core.errors import UsageError


class BigConfig(Config):
    train: TrainConfig = TrainConfig(epochs=10, batch_size=32, precision="bf16")
    optim: OptimConfig = OptimConfig(base_lr=1e-4)
    data: DataConfig = DataConfig(clip=ClipConfig(frames=4, stride_frames=1))


WORK = Workload(
    parameters=2**28,
    trained=2**28,
    clips=32,
    forward={"encode": 1e11},
    training=3e11,
    held={"encode": 2**28, "loss": 2**20},
    temporary=2**27,
    copies=2**29,
    batch=2**27,
)
FROZEN = replace(WORK, trained=2**20)


def plan(config=None, work=WORK, world=64, rows=None, **assumed):
    lines = forecast(work, config or BigConfig(), world, rows, Assumptions(**assumed))
    return {line.key: line for line in lines}


def test_time_and_memory_by_hand():
    found = plan(videos=204_800, tflops=500, mfu=0.5, video_mb=2, videos_per_s=4)
    assert (found["effective_batch"].value, found["steps"].value) == (2048, 1000)
    assert found["learning_rate"].value == pytest.approx(8e-4)
    assert found["step"].value == pytest.approx(32 * 3e11 / (500e12 * 0.5))
    assert found["run"].value == pytest.approx(1000 * found["step"].value / 86400)
    memory = {key.removeprefix("memory_"): line.value for key, line in found.items() if key.startswith("memory_")}
    assert memory["weights"] == 1.5  # 2^28 numbers of four bytes and of two
    assert memory["gradients"] == memory["optimizer"] == 2.0
    assert (memory["activations_encode"], memory["activations_loss"], memory["backward"]) == (1 / 4, 1 / 1024, 1 / 8)
    assert memory["batch"] == 9 / 4 / 8  # a byte a number, and four of them twice
    parts = sum(value for key, value in memory.items() if key != "per_gpu")
    assert memory["per_gpu"] == pytest.approx(1.15 * parts)
    assert "fits in 80 GB" in found["memory_per_gpu"].how
    assert found["videos_needed"].value == pytest.approx(2048 / found["step"].value)
    assert found["decode_cores"].value == pytest.approx(2048 / found["step"].value / 4)
    assert found["videos_disk"].value == pytest.approx(0.4096)
    assert {found[key].origin for key in ("peak", "mfu", "video_size", "decoding")} == {"given"}
    assert {found[key].origin for key in ("parameters", "forward_encode", "training", "memory_backward", "memory_batch")} == {"counted"}


def test_what_nobody_said_is_assumed_or_unknown():
    found = plan(videos=1000)
    assert (found["peak"].origin, found["mfu"].origin, found["gpu_memory"].origin) == ("assumed",) * 3
    assert (found["video_size"].origin, found["decoding"].origin, found["decode_cores"].value) == ("unknown", "unknown", None)
    assert "assumed" in found["run"].how
    assert "DOES NOT FIT" in plan(videos=1000, gpu_gb=6)["memory_per_gpu"].how
    with pytest.raises(UsageError, match="how many videos"):
        plan()


def test_one_process_in_full_precision():
    config = BigConfig(train=TrainConfig(precision="fp32", ema=0.99), optim=OptimConfig(name="sgd"))
    found = plan(config, replace(WORK, copies=0), world=1, videos=1000)
    assert (found["memory_weights"].value, found["memory_gradients"].value) == (1.0, 1.0)
    assert (found["memory_optimizer"].value, found["memory_average"].value) == (1.0, 1.0)
    assert found["exchange"].value == 0
    assert plan(config, FROZEN, world=1, videos=1000)["memory_gradients"].value == 2**-8


def test_split_weights_take_their_share():
    config = BigConfig(train=BigConfig().train.model_copy(update={"shard": True, "accumulate": 2}))
    found, whole = plan(config, videos=204_800), plan(videos=204_800)
    assert found["memory_weights"].value == 1 / 64 + 0.5  # and 16-bit copies
    assert (found["memory_gradients"].value, found["memory_optimizer"].value) == (1 / 64, 2 / 64)
    sent = {key: lines["exchange"].value * lines["step"].value for key, lines in (("whole", whole), ("split", found))}
    assert sent["whole"] == pytest.approx(2 * 2**30 * 63 / 64 / 1e9)
    assert sent["split"] == pytest.approx(sent["whole"] / 2 * 5)  # gathered four times, scattered once


def test_full_precision_has_another_peak():
    full = BigConfig(train=TrainConfig(precision="fp32"))
    assert plan(full, videos=1000)["peak"].value == plan(videos=1000)["peak"].value / 2
    assert "float32" in plan(full, videos=1000)["peak"].how


def test_checkpoints_hold_weights_and_what_the_optimizer_keeps_of_those_that_change():
    assert plan(videos=1000)["checkpoints"].value == pytest.approx(2 * 3 * 2**30 / 1e9)
    assert plan(work=FROZEN, videos=1000)["checkpoints"].value == pytest.approx(2 * (2**30 + 2 * 2**22) / 1e9)
    sgd = BigConfig(optim=OptimConfig(name="sgd"))
    assert plan(sgd, videos=1000)["checkpoints"].value == pytest.approx(2 * 2 * 2**30 / 1e9)


def test_repeated_clips_of_a_video_count_for_the_gpu_and_not_for_the_reader():
    once, twice = (plan(BigConfig(data=DataConfig(repeats=n)), videos=204_800) for n in (1, 2))
    assert twice["step"].value == pytest.approx(2 * once["step"].value)
    assert twice["videos_needed"].value == pytest.approx(once["videos_needed"].value / 2)
    assert twice["steps"].value == once["steps"].value


def test_files_are_measured(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    for number in range(2):
        (tmp_path / f"{number}.mp4").write_bytes(encode(pictures, 12))
    size = (tmp_path / "0.mp4").stat().st_size
    rows = Rows.of([Row(str(tmp_path / name)) for name in ("0.mp4", "1.mp4", "missing.mp4")])
    found = plan(rows=rows)
    assert (found["videos"].value, found["video_size"].origin) == (3, "measured")
    assert found["video_size"].value == pytest.approx(size / 1e6)
    assert found["decoding"].origin == "measured"
    assert found["decoding"].value > 0
    nowhere = plan(rows=Rows.of([Row("/nowhere/1.mp4")]))
    assert (nowhere["video_size"].origin, nowhere["decoding"].origin) == ("unknown", "unknown")


class Noting:
    """A picker that leaves a file behind."""

    def __init__(self, file):
        self.file = file

    def __call__(self, pts, rng, row):
        self.file.touch()
        return Picked(np.zeros((1, 3), np.int64))


def test_decoding_is_measured_on_the_frames_that_the_method_takes(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode(np.zeros((6, 32, 32, 3), np.uint8), 12))
    rows = Rows.of([Row(str(tmp_path / "a.mp4"))])
    forecast(WORK, BigConfig(), 1, rows, Assumptions(), picker=Noting(tmp_path / "picked"))
    assert (tmp_path / "picked").exists()


def test_peak_is_measured_where_asked():
    found = {line.key: line for line in forecast(WORK, BigConfig(), 1, None, Assumptions(videos=1000), measure=True)}
    assert found["peak"].origin == "measured"
    assert 1e-4 < found["peak"].value < 1e4


def test_assumptions_are_checked():
    assert assumptions(["device=h200", "mfu=0.5"]) == Assumptions(device="h200", mfu=0.5)
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        assumptions(["h200"])
    with pytest.raises(UsageError) as error:
        assumptions(["vidoes=3", "mfu=2"])
    assert "did you mean 'videos'" in error.value.message
    assert "mfu" in error.value.message
