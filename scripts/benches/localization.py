"""Localisers: training step and inference beside the public ActionFormer and UnAV, and memory against the length of a video.

The public code is that of a checkout (--actionformer, --unav), with the same random weights and the same features; its compiled suppression
is left out on both sides. Steps alternate, medians of the seconds of processor time are compared, which other programs disturb little.
UnAV's public code makes targets in its loader, which is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches import ROOT

LENGTHS = {"actionformer": 2304, "unav": 224}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--actionformer", type=Path, help="a checkout of happyharrycn/actionformer_release")
    parser.add_argument("--unav", type=Path, help="a checkout of ttgeng233/UnAV")
    parser.add_argument("--batch", type=int, default=2, help="videos of a training step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="memory of inference against length")
    parser.add_argument("--one-length", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    if args.one_length:
        return one_length(args.one_length)
    for name in ("actionformer", "unav"):
        if folder := getattr(args, name):
            compare(name, folder, args.batch, args.repeats)
    if args.memory:
        for hours in (1 / 6, 0.5, 1, 2):
            length = round(hours * 3600 / 0.32)
            command = [sys.executable, str(ROOT / "scripts/bench"), "localization", "--one-length", str(length)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
            print(json.dumps({"hours": round(hours, 2), **json.loads(done.stdout.splitlines()[-1])}))


def compare(name: str, folder: Path, batch: int, repeats: int) -> None:
    """Prints the seconds of both, and ours as a share of theirs."""
    import torch

    from tasks.core.engine.accelerator import keep_freed_memory

    keep_freed_memory()  # as in training; on both sides
    public, settings = public_model(name, folder)
    ours = our_method(name, public, settings)
    videos = [video(name, LENGTHS[name] - 40 * number, number) for number in range(batch)]
    rows: dict[str, dict[str, Callable[[], Any]]] = {
        "training step": {"public": public_step(name, public, videos), "ours": our_step(ours, name, videos)},
        "inference": {"public": public_answer(public, videos[0]), "ours": our_answer(ours, name, videos[0])},
    }
    for what, both in rows.items():
        taken: dict[str, list[float]] = {who: [] for who in both}
        for _ in range(repeats + 1):
            for who, step in both.items():
                started = time.process_time()
                step()
                taken[who].append(time.process_time() - started)
        seconds = {who: statistics.median(times[1:]) for who, times in taken.items()}
        shown = {who: round(value, 4) for who, value in seconds.items()}
        ratio = round(seconds["ours"] / seconds["public"], 3)
        print(json.dumps({"network": name, "what": what, "videos": batch, "threads": torch.get_num_threads(), **shown, "ratio": ratio}))


def public_model(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The public network with its published settings, and these settings."""
    import torch
    import yaml

    sys.path.insert(0, str(folder))
    for module in [module for module in sys.modules if module == "libs" or module.startswith("libs.")]:
        del sys.modules[module]
    package, utils = types.ModuleType("libs"), types.ModuleType("libs.utils")
    package.__path__ = [str(folder / "libs")]
    utils.batched_nms = None  # compiled; not reached with nms_method none
    sys.modules.update({"libs": package, "libs.utils": utils})
    torch.manual_seed(0)
    if name == "actionformer":
        from libs.core.config import load_config
        from libs.modeling import make_meta_arch as make

        settings = load_config(str(folder / "configs/thumos_i3d.yaml"))
    else:
        from libs.core.config import load_config
        from libs.modeling import make_multimodal_meta_arch as make

        settings = load_config(str(folder / "configs/avel_unav100.yaml"))
    settings["test_cfg"]["nms_method"] = "none"
    model = make(settings["model_name"], **settings["model"])
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(settings))))
    return model, settings


def our_method(name: str, public: Any, settings: dict[str, Any]) -> Any:
    """Ours with the weights and the losses of the public network."""
    import torch

    from tasks.localization.config import FinetuneConfig
    from tasks.localization.convert import take
    from tasks.localization.method import EventTraining
    from tasks.localization.public import PUBLISHED

    sizes = ("actionformer", 2048, 20) if name == "actionformer" else ("unav", 2048, 100)
    config, dims, classes, weights = take(public.state_dict(), name, PUBLISHED[sizes][1], Path(name))
    loss = {"first_positives": settings["train_cfg"]["init_loss_norm"], "center_radius": 1.5 if name == "actionformer" else None}
    method = EventTraining(FinetuneConfig(model=config, loss=loss), dims, classes)
    method.localizer.load_state_dict(weights)
    method.to(torch.float32)
    return method


def video(name: str, length: int, seed: int) -> dict[str, Any]:
    """Random features with ten events."""
    import torch

    torch.manual_seed(seed)
    starts = torch.rand(10) * length * 0.9
    segments = torch.stack([starts, starts + 2 + torch.rand(10) * length * 0.1], 1)
    labels = torch.randint(0, 20, (10,))
    seen, heard = torch.randn(2048, length), torch.randn(128, length)
    feats = seen if name == "actionformer" else {"visual": seen, "audio": heard}
    grid = {"fps": 30.0, "duration": 1e4, "feat_stride": 4, "feat_num_frames": 16}
    return {"video_id": str(seed), "feats": feats, "segments": segments, "labels": labels, **grid}


def streams(name: str, videos: list[dict[str, Any]]) -> dict[str, Any]:
    """What our network takes of the same videos."""
    import torch
    from torch.nn import functional as F

    seen = [each["feats"] if name == "actionformer" else each["feats"]["visual"] for each in videos]
    size = max(x.shape[1] for x in seen)
    found = {"video": torch.stack([F.pad(x, (0, size - x.shape[1])) for x in seen])}
    if name == "unav":
        found["audio"] = torch.stack([F.pad(each["feats"]["audio"], (0, size - x.shape[1])) for each, x in zip(videos, seen, strict=True)])
    found["mask"] = torch.arange(size) < torch.tensor([x.shape[1] for x in seen])[:, None]
    return {**found, "segments": [each["segments"] for each in videos], "labels": [each["labels"] for each in videos]}


def with_targets(name: str, public: Any, videos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The videos with what UnAV's public loader makes of them."""
    import torch

    from tasks.localization.targets import assign, make_points

    if name == "actionformer":
        return videos
    lengths = [public.max_seq_len // stride for stride in public.fpn_strides]
    points = make_points(lengths, public.reg_range)
    columns = torch.stack([points.at, points.low, points.high, points.stride], 1).split(lengths)
    made = []
    for each in videos:
        target = assign(points, each["segments"], each["labels"], public.num_classes, True)
        made.append({**each, "gt_cls_labels": target.classes, "gt_offsets": target.offsets, "points": list(columns)})
    return made


def public_step(name: str, model: Any, videos: list[dict[str, Any]]) -> Callable[[], None]:
    """One step as the public training loop takes it."""
    import torch

    ready = with_targets(name, model, videos)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        model([dict(each) for each in ready])["final_loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(method: Any, name: str, videos: list[dict[str, Any]]) -> Callable[[], None]:
    """One step as our training loop takes it."""
    import torch

    from tasks.core.engine.method import Progress
    from tasks.core.engine.optim import make_optimizer
    from tasks.core.engine.random import BatchRandom

    batch, spec = streams(name, videos), method.optimizers()["main"]
    optimizer = make_optimizer(spec.groups, method.config.optim, torch.device("cpu"))

    def step() -> None:
        method.train()
        optimizer.zero_grad(set_to_none=True)
        method(batch, BatchRandom(0, 0, 0, len(videos)), Progress(0, 0, 1, 1))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()

    return step


def public_answer(model: Any, one: dict[str, Any]) -> Callable[[], None]:
    """Candidates of one video, as the public code finds them."""
    import torch

    ready = with_targets("actionformer" if not isinstance(one["feats"], dict) else "unav", model, [one])

    def step() -> None:
        model.eval()
        with torch.no_grad():
            model(ready)

    return step


def our_answer(method: Any, name: str, one: dict[str, Any]) -> Callable[[], None]:
    """The same candidates."""
    import torch

    from tasks.localization.decode import decode

    given = streams(name, [one])

    def step() -> None:
        method.eval()
        with torch.inference_mode():
            decode(method.localizer(given["video"], given.get("audio"), given["mask"]), method.config.events)

    return step


def one_length(length: int) -> None:
    """Peak memory and seconds of events in so many features, by the UnAV-100 preset made narrow, seen in windows; as JSON."""
    import resource

    import torch

    from tasks.localization.decode import localize, settle
    from tasks.localization.model import EventLocalizer
    from vidcli.resolve import Given, resolve

    narrow = ["data.train=[unused]", "model.width=32", "model.head.width=32"]  # memory of windows; the width does not change with length
    config = resolve(Given("localization/del-unav100", (), {}, narrow), "finetune").config
    torch.manual_seed(0)
    model = EventLocalizer(config.model, {"visual": 2048, "audio": 128}, 20).eval()

    def read(first: int, last: int) -> dict[str, torch.Tensor]:
        return {"visual": torch.randn(2048, last - first), "audio": torch.randn(128, last - first)}

    read(0, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = settle(localize(model, read, length, config.events), config.events)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = {"features": length, "events": len(found["scores"])}
    print(json.dumps({**kept, "seconds": round(seconds, 1), "MiB before": before // 1024, "MiB peak": peak // 1024}))
