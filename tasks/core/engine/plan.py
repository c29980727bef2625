"""What a big run would take, computed without starting it: `vid pretrain --plan`.

Every line says where its number comes from: `counted` on a step of the method without numbers (`core.engine.workload`), `computed` from
that and the configuration, `given`, `measured` here and now, or `assumed`.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import Field

from tasks.core.config import Config, build
from tasks.core.engine.optim import checkpoint_bytes, moments
from tasks.core.engine.schedule import run_length, scaled
from tasks.core.engine.sharding import fsdp_enabled
from tasks.core.engine.workload import Workload
from tasks.core.errors import UsageError

DEVICES = {  # NVIDIA's data sheets: dense TFLOP/s of matrix products in bf16 (V100: fp16) and of float32 (TF32; V100: as it is), 10^9 bytes
    "v100": (125.0, 15.7, 32.0),
    "a100": (312.0, 156.0, 80.0),
    "h100": (989.0, 494.5, 80.0),
    "h200": (989.0, 494.5, 141.0),
}
GIB = 2**30
FLOAT = 4


class Assumptions(Config):
    """What `--assume KEY=VALUE` sets; unset facts about the data are measured on the files of `--data` where there are any."""

    device: Literal["v100", "a100", "h100", "h200", "cpu"] = Field(
        "a100", description="peak and memory as in its data sheet; cpu: this machine's, measured"
    )
    tflops: float | None = Field(None, gt=0, description="peak of matrix products of one GPU, instead of the device's")
    gpu_gb: float | None = Field(None, gt=0, description="memory of one GPU, 10^9 bytes, instead of the device's")
    mfu: float = Field(0.4, gt=0, le=1, description="share of that peak which the counted operations reach")
    overhead: float = Field(0.15, ge=0, description="memory for what is not counted, as a share of what is")
    videos: int | None = Field(None, ge=1, description="training videos, where no --data is given")
    classes: int = Field(400, ge=1, description="classes, where no --data is given")
    video_mb: float | None = Field(None, gt=0, description="mean size of a video file, 10^6 bytes")
    videos_per_s: float | None = Field(None, gt=0, description="videos that one core reads and decodes in a second")


@dataclass(frozen=True)
class Line:
    """One number of a plan; `value` None: not known. `origin`: counted, computed, given, measured, assumed, unknown."""

    key: str
    value: float | int | str | None
    unit: str
    origin: str
    how: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def assumptions(texts: Sequence[str]) -> Assumptions:
    """From `KEY=VALUE` texts; UsageError with every problem."""
    given = {}
    for text in texts:
        key, found, value = text.partition("=")
        if not found:
            raise UsageError(f"--assume {text}: expected KEY=VALUE", f"keys: {', '.join(Assumptions.model_fields)}")
        given[key.strip()] = value.strip()
    try:
        return build(Assumptions, given)
    except UsageError as error:
        raise UsageError(error.message.replace("configuration", "--assume", 1), f"keys: {', '.join(Assumptions.model_fields)}") from None


def forecast(
    work: Workload,
    config: Any,
    world: int,
    rows: Any,
    assumed: Assumptions,
    measure: bool = False,
    picker: Callable[..., Any] | None = None,
) -> list[Line]:
    """The plan of a run of `config` on `world` GPUs.

    Args:
        work: of one micro-batch of one process.
        rows: `Rows` of the training set, or None: `assumed.videos` counts.
        measure: measure the peak of this machine.
        picker: of the frames of a video, where they are not what `data.clip` says.

    Raises:
        UsageError: nothing says how many videos there are.
    """
    if rows is None and assumed.videos is None:
        raise UsageError("nothing says how many videos there are", "add --data PATH, or --assume videos=N")
    train, data = config.train, config.data
    given = assumed.model_fields_set
    videos = len(rows) if rows is not None else assumed.videos
    batch = train.batch_size * train.accumulate * world
    per_epoch, steps = run_length(train, max(1, videos // (train.batch_size * world)))
    clips = batch * data.repeats
    rate = scaled(config.optim.base_lr, batch, config.optim.scale_lr)
    lines = [
        Line("gpus", world, "", "given"),
        Line("videos", videos, "", "computed" if rows is not None else "given"),
        Line("effective_batch", batch, "videos", "computed", f"{train.batch_size} x {train.accumulate} x {world}"),
        Line("steps", steps, "", "computed", f"{per_epoch} an epoch, {train.epochs} epochs"),
        Line("learning_rate", rate, "", "computed", "after scaling"),
        Line("parameters", work.parameters, "", "counted"),
    ]
    lines += [Line(f"forward_{part}", flops / 1e9, "GFLOP/clip", "counted") for part, flops in work.forward.items()]
    lines.append(Line("training", work.training / 1e9, "GFLOP/clip", "counted", "forward and backward"))
    memory, peak_gb = memory_lines(work, config, world), assumed.gpu_gb or memory_of(assumed.device)
    lines += memory
    needed = sum(line.value for line in memory) * (1 + assumed.overhead)
    known = "measured" if assumed.device == "cpu" else "given" if {"gpu_gb", "device"} & given else "assumed"
    lines.append(Line("gpu_memory", peak_gb, "GB", known, "of this machine" if assumed.device == "cpu" else assumed.device))
    fits = f"{'fits' if needed * GIB < peak_gb * 1e9 else 'DOES NOT FIT'} in {peak_gb:.4g} GB; {assumed.overhead:.0%} for workspace assumed"
    lines.append(Line("memory_per_gpu", needed, "GiB", "computed", fits))
    peak, origin, how = peak_of(assumed, given, measure, mixed(train.precision, assumed.device))
    lines.append(Line("peak", peak, "TFLOP/s", origin, how))
    lines.append(Line("mfu", assumed.mfu, "", "given" if "mfu" in given else "assumed", "share of the peak; --assume mfu=X"))
    step_s = work.training * clips / world / (peak * 1e12 * assumed.mfu)
    days = step_s * steps / 86400
    speed = "from assumed speed" if "assumed" in (origin, lines[-1].origin) else "from speed given or measured"
    lines += [
        Line("step", step_s, "s", "computed", speed),
        Line("run", days, "days", "computed", f"{speed}; {days * 24 * world:.0f} GPU hours" if assumed.device != "cpu" else speed),
        Line("exchange", exchanged(work, train, world) / step_s / 1e9, "GB/s", "computed", "each way per GPU, to hide the exchange"),
    ]
    return lines + data_lines(config, rows, videos, batch / step_s, assumed, given, picker) + disk_lines(work, config)


def mixed(precision: str, device: str = "a100") -> bool:
    """Whether a device would train with 16-bit products: GPUs unless they are told otherwise."""
    return precision != "fp32" and device != "cpu"


def memory_of(device: str) -> float:
    """Of one device, 10^9 bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if device == "cpu" else DEVICES[device][2]


def device_here(gpus: int | None) -> str:
    """The device of `Assumptions` that a plan is for where nobody says it: GPUs that are asked for are those of this machine or A100s;
    otherwise what this machine has.
    """
    name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
    known = next((device for device in DEVICES if device in name), None)
    return known or ("a100" if gpus or name else "cpu")


def memory_lines(work: Workload, config: Any, world: int) -> list[Line]:
    """Memory of one GPU by what holds it; of split weights a GPU keeps its share, and 16-bit copies of all while it computes."""
    sgd, split = config.optim.name == "sgd", world > 1 and fsdp_enabled(config.train)
    share, among = (world, f", split over {world}") if split else (1, "")
    weights, gradients = work.parameters * FLOAT // share, work.trained * FLOAT // share
    parts = {
        "weights": (weights + work.copies, f"float32{among}{', and 16-bit copies' if work.copies else ''}"),
        "gradients": (gradients, f"float32{among}")
        if split or world == 1
        else (2 * gradients, "float32, and the buckets they are exchanged in"),
        "optimizer": (gradients * moments(config), f"{'SGD: momentum' if sgd else 'AdamW: two moments'}{among}"),
        "average": (work.parameters * FLOAT if config.train.ema else 0, "moving average"),
        **{f"activations_{part}": (size, f"{work.clips} clips") for part, size in work.held.items()},
        "backward": (work.temporary, "for a moment"),
        "batch": (work.batch * (1 + 2 * FLOAT) // FLOAT, "clips in uint8, and twice in float32"),
    }
    counted = ("activations", "backward", "batch")
    return [
        Line(f"memory_{part}", size / GIB, "GiB", "counted" if part.startswith(counted) else "computed", how)
        for part, (size, how) in parts.items()
        if size
    ]


def exchanged(work: Workload, train: Any, world: int) -> float:
    """Bytes that one GPU sends in a step: ring all-reduce of the gradients, or split weights gathered for both passes of every
    micro-batch and gradients scattered once.
    """
    sent = FLOAT * (work.trained + 2 * train.accumulate * work.parameters if fsdp_enabled(train) else 2 * work.trained)
    return (world - 1) / world * sent


def peak_of(assumed: Assumptions, given: set[str], measure: bool, half: bool) -> tuple[float, str, str]:
    """(TFLOP/s, origin, how) of one device."""
    if measure or (assumed.device == "cpu" and assumed.tflops is None):
        return measured_peak(half)
    if assumed.tflops is not None:
        return assumed.tflops, "given", "--assume tflops"
    return (
        DEVICES[assumed.device][0 if half else 1],
        "given" if "device" in given else "assumed",
        f"{assumed.device}{'' if half else ' in float32'}, data sheet; --measure for this machine",
    )


def measured_peak(half: bool, seconds: float = 1.0) -> tuple[float, str, str]:
    """Peak of square matrix products here: the fastest of those that fit into `seconds`."""
    cuda = torch.cuda.is_available()
    n, kind = (8192, torch.bfloat16 if half else torch.float32) if cuda else (1024, torch.float32)
    a, b = (torch.randn(n, n, dtype=kind, device="cuda" if cuda else "cpu") for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        started = time.perf_counter()
        a @ b
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    where = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    return 2 * n**3 / best / 1e12, "measured", f"{n} x {n} products in {str(kind).removeprefix('torch.')}, {where}"


def data_lines(
    config: Any, rows: Any, videos: int, needed: float, assumed: Assumptions, given: set[str], picker: Callable[..., Any] | None
) -> list[Line]:
    """What the videos take: disk, bytes a second, and the cores that keep up with `needed` videos a second."""
    lines = [Line("videos_needed", needed, "videos/s", "computed", "so that no GPU waits")]
    if "video_mb" in given:
        size, origin, how = assumed.video_mb, "given", "--assume video_mb"
    else:
        size, origin, how = measured_size(rows)
    lines.append(Line("video_size", size, "MB", origin, how))
    if size is not None:
        lines.append(Line("videos_disk", size * videos / 1e6, "TB", "computed"))
        lines.append(Line("videos_read", size * needed / 1e3, "GB/s", "computed", "from storage, all nodes together"))
    if "videos_per_s" in given:
        rate, origin, how = assumed.videos_per_s, "given", "--assume videos_per_s"
    else:
        rate, origin, how = measured_decoding(rows, config.data, picker)
    lines.append(Line("decoding", rate, "videos/s", origin, how))
    cores = None if rate is None else needed / rate
    lines.append(Line("decode_cores", cores, "", "computed" if cores else "unknown", "all nodes together"))
    return lines


def disk_lines(work: Workload, config: Any) -> list[Line]:
    """What the run writes."""
    kept = config.train.keep_last
    each = checkpoint_bytes(work.parameters, work.trained, config)
    return [Line("checkpoints", each * kept / 1e9, "GB", "computed", f"{kept} kept, of {each / 1e9:.2f} GB")]


def spread(rows: Any, count: int) -> Any:
    """At most `count` rows, evenly spaced."""
    return rows[:: max(1, len(rows) // count)][:count]


def measured_size(rows: Any, count: int = 64) -> tuple[float | None, str, str]:
    """Mean size of some of the files."""
    if rows is None:
        return None, "unknown", "add --data, or --assume video_mb=N"
    sizes = [os.path.getsize(row.path) for row in spread(rows, count) if os.path.isfile(row.path)]
    if not sizes:
        return None, "unknown", "no file of --data is here; --assume video_mb=N"
    return sum(sizes) / len(sizes) / 1e6, "measured", f"mean of {len(sizes)} files"


def measured_decoding(
    rows: Any, data: Any, picker: Callable[..., Any] | None = None, count: int = 16, limit_s: float = 30.0
) -> tuple[float | None, str, str]:
    """Videos that one loader process reads in a second: clips chosen, decoded and made small as in the run. Files are read twice and the
    second time counts, for which their indexes are there already, as in all epochs but the first.
    """
    from tasks.core.clips.loader import ClipDataset, collate
    from tasks.core.data.feed import data_loader

    if rows is None:
        return None, "unknown", "add --data, or --assume videos_per_s=N"
    alone = data.model_copy(update={"preload": False, "workers": 1})
    dataset = ClipDataset(spread(rows, count), alone, None, "train", picker=picker)
    n, started = len(dataset), time.perf_counter()
    arrived: list[float] = []
    for batch in data_loader(dataset, [[(number, epoch)] for epoch in range(2) for number in range(n)], alone, collate):
        now = time.perf_counter()
        arrived += [] if batch["skipped"] else [now]
        if now - started > limit_s:
            break
    if len(arrived) < 2:
        return None, "unknown", f"too few of {n} videos could be read; --assume videos_per_s=N"
    first = len(arrived) // 2
    return (len(arrived) - first) / (arrived[-1] - arrived[first - 1]), "measured", f"{len(arrived) - first} videos, one core here"
