"""Every method that can be trained, on toy footage; runnable: `python every_method.py FOLDER WORLD...` trains them in worlds of so many
processes, one after the other in `FOLDER/WORLD/METHOD`, with the same 8 videos a step. `N-shard` splits the weights, `N-split` and
`N-whole` go on with split or whole weights from the last checkpoint but one of `FOLDER/N` or `FOLDER/N-shard`. It needs the folders of the
tests on its path.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import alignment_toys
import anomaly_toys
import contrastive_helpers
import localization_toys
import masked_helpers
import predictive_toys
import pretrain_helpers
import prompting_toys
import tiny_models
import torch
import worlds

from tasks.boundaries.config import FinetuneConfig as BoundaryConfig
from tasks.classify.config import FinetuneConfig as ClassifyConfig
from tasks.contrastive.config import PretrainConfig as ContrastiveConfig
from tasks.core.engine.run import Run

VIDEOS, STEPS = 8, 4  # one step before the last TATS holds a step that it has not learned from
SHARDED = ("videomae", "mofo", "adamae", "tats", "classify", "mca", "turbo")
SAMPLERS = {
    "videomae": {"name": "tube"},
    "mofo": {"name": "mofo"},
    "adamae": {"name": "adamae", "heads": 2, "dropout": 0.0},
    "tats": {"name": "tats", "heads": 2, "warmup_epochs": 0, "every": 2, "lr": 1e-3},
}


def methods(data: Path, rows: int) -> Iterator[tuple[str, str, str, Any]]:
    """(name, task, verb, configuration) of every method, with `rows` videos per process. Noise that each process draws for itself
    (dropout, drop path) is off; batch norms are those of all processes.
    """
    train = {"epochs": STEPS, "batch_size": rows, "log_every_steps": 1, "precision": "fp32", "save_every_steps": 1}
    optim = {"base_lr": 1e-3, "scale_lr": False, "warmup_epochs": 0}
    videos = {"preload": True, "workers": 0, "train": [str(data / "videos.csv")]}
    shared = {"train": train, "optim": optim}
    for name, sampler in SAMPLERS.items():
        clip = {"frames": 4, "stride_frames": 1}
        yield name, "masked", "pretrain", masked_helpers.config(sampler, data={**videos, "clip": clip}, visualize=0, **shared)
    yield (
        "classify",
        "classify",
        "finetune",
        ClassifyConfig(
            model=masked_helpers.MODEL,
            head={"drop_path": 0.0, "init_scale": 1.0},
            data={**videos, "val": videos["train"], "clip": {"frames": 4, "stride_frames": 1}},
            augment={"mixup": 0.8, "cutmix": 1.0},
            views={"clips": 1, "crops": 1},
            **shared,
        ),
    )
    yield (
        "mca",
        "classify",
        "finetune",
        ClassifyConfig(
            model=masked_helpers.MODEL,
            head={"drop_path": 0.0, "init_scale": 1.0, "mca": {"heads": 2}},
            data={**videos, "val": videos["train"], "clip": {"frames": 4, "stride_frames": 1}, "boxes": {"control": "random"}},
            augment={"randaugment": (9, 0.5), "flip": 0.5},
            views={"clips": 1, "crops": 1},
            **shared,
        ),
    )
    yield (
        "turbo",
        "classify",
        "finetune",
        ClassifyConfig(
            model=masked_helpers.MODEL,
            head={"drop_path": 0.0, "init_scale": 1.0, "pool": "cls"},
            turbo={"mask": 0.75, "reconstruct": 0.25, "decoder": {"dim": 16, "depth": 1, "heads": 1}},
            data={**videos, "val": videos["train"], "clip": {"frames": 4, "stride_frames": 1}},
            views={"clips": 1, "crops": 1},
            **shared,
        ),
    )
    clip = {"frames": 2, "stride_frames": 1}
    contrast = {"norm": "sync", "queue": 48}
    slow = {"name": "sgd", "scale_lr": False, "base_lr": 1e-4}  # its gradients are steep: steps of any size double the last bit in no time
    pretrain = {"data": {**videos, "clip": clip}, "visualize": 0, "train": train, "optim": slow, "contrast": contrast}
    yield "cvclr", "boundaries", "pretrain", pretrain_helpers.config(**pretrain)
    yield (
        "gebd",
        "boundaries",
        "finetune",
        BoundaryConfig(
            model={"size": "resnet18", "width": 8, "image_size": 32, "motion": None},
            window={"before": 3, "stride_frames": 1},
            data={**videos, "val": videos["train"], "clip": {"frames": 10}, "repeats": 2},
            **shared,
        ),
    )
    everywhere = {"negatives": "all", "norm": "sync"}
    for name in predictive_toys.METHODS:
        small = {"model": {"image_size": 32}, "method_settings": everywhere, "data": videos, "augment": {"flip": 0.5}}
        yield name, "predictive", "pretrain", predictive_toys.config(name, **small, **shared)
    for name in ("infonce", "ubernce"):
        settings = {"norm": "sync", "queue": 16, "temperature": 1.0}  # 30 batch norms over few clips: sharper scores show rounding
        given = {"data": {**videos, "clip": {"frames": 4, "stride_frames": 1}}, "train": train}
        given["optim"] = {**slow, "base_lr": 1e-9}  # gradients of 1e4 on weights of 1e-2
        yield name, "contrastive", "pretrain", contrastive_helpers.config(name, method=settings, **given)
    words = {"name": "video-text", "text": {"tower": str(data / "frames" / "clip")}, "dim": 12}
    words["dropout"] = {"mask": 0.75, "reconstruct": 0.25, "decoder": {"dim": 16, "depth": 1, "heads": 1}}
    told = [str(data / "captions.csv")]
    given = {"data": {**videos, "train": told, "val": told, "clip": {"frames": 4, "stride_frames": 1}}, "model": {}, **shared}
    given["model"] = {"family": "vit", **masked_helpers.MODEL}
    yield "video-text", "contrastive", "pretrain", ContrastiveConfig(method=words, **given)
    parts = {"parts": ["appearance", "motion", "semantic"], "model": {"norm": "sync"}, "pseudo": str(data / "pseudo")}
    semantic = {"encoder": str(data / "vit"), "batch_size": rows, "epochs": 1}
    anomalies = anomaly_toys.config(data / "footage", semantic=semantic, train={"batch_size": rows, "max_steps": STEPS}, **parts)
    yield "anomalies", "anomalies", "pretrain", anomalies
    features = {"streams": {name: {"folder": str(data / name)} for name in localization_toys.DIMS}, "max_length": 32, "workers": 0}
    events = {**features, "train": [str(data / "events.csv")], "val": [str(data / "events.csv")]}
    yield "localization", "localization", "finetune", localization_toys.config(data=events, train=train, optim={**optim, "base_lr": 1e-4})
    spoken = {**features, "train": [str(data / "sentences.csv")]}
    stages = {"method": {"name": "tan-stages", "first_epochs": STEPS}, "window": {"spread_s": 2.0}}
    yield "alignment", "alignment", "pretrain", alignment_toys.config(data=spoken, train=train, optim=optim, **stages)
    words = {"streams": {"visual": {"folder": str(data / "frames" / "features")}}, "workers": 0}
    words |= {"train": [str(data / "frames" / "videos.csv")], "val": [str(data / "frames" / "videos.csv")]}
    prompted = {"data": words, "clip": str(data / "frames" / "clip"), "train": train, "optim": optim}
    yield "prompting", "prompting", "finetune", prompting_toys.FinetuneConfig(model=prompting_toys.SMALL, **prompted)
    for name, method in (("events", "localization"), ("captions", "retrieval")):
        own = {"streams": {"visual": {"folder": str(data / name / "features")}}}
        own |= {part: [f"{data / name / name}.csv@{part}"] for part in ("train", "val")}
        given = {"data": {**words, **own}, "method": method}
        yield (
            f"prompting-{name}",
            "prompting",
            "finetune",
            prompting_toys.FinetuneConfig(model=prompting_toys.SMALL, **{**prompted, **given}),
        )
    pictures = {"data": {**videos, "clip": {"frames": 1}}, "visualize": 0, "train": {**train, "epochs": 6}, "optim": optim}
    yield "ldm", "pseudo", "pretrain", tiny_models.config(revive_every=2, **pictures)


def write_data(folder: Path) -> Path:
    """Toy footage with labels and boundaries, pseudo-anomalies made from it, a frame encoder."""
    anomaly_toys.footage(folder / "footage", VIDEOS, 14)
    anomaly_toys.pseudo(folder / "pseudo", folder / "footage")
    anomaly_toys.vit_folder(folder / "vit")
    events = localization_toys.write_clips(folder, VIDEOS, 40)
    (folder / "sentences.csv").write_text("\n".join(["path,text,start,end", *events[1:]]) + "\n")  # labels as words
    prompting_toys.write_world(folder / "frames", VIDEOS * 3 // 2)
    prompting_toys.write_events(folder / "events", VIDEOS * 3 // 2)
    prompting_toys.write_captions(folder / "captions", VIDEOS * 2)
    rows = [f"footage/v{number},{'ab'[number % 2]},0.2;0.4" for number in range(VIDEOS)]
    told = [f"footage/v{number},the {word} moves" for number, word in enumerate("abcdefgh")]
    (folder / "captions.csv").write_text("\n".join(["path,text", *told]) + "\n")
    (folder / "videos.csv").write_text("\n".join(["path,label,boundaries", *rows]) + "\n")
    return folder


def train_all(data: Path, out: Path, names: tuple[str, ...] | None = None, shard: bool = False) -> None:
    """Trains every method (or those of `names`) as one process of the world it finds."""
    torch.set_num_threads(1)
    for name, task, verb, config in methods(data, VIDEOS // int(os.environ["WORLD_SIZE"])):
        if names is not None and name not in names:
            continue
        if shard:
            config = config.model_copy(update={"train": config.train.model_copy(update={"shard": True})})
        with closing(Run.open(out / name, config, task, verb, ["test"])) as run:
            import_module(f"tasks.{task}.{verb}").run(config, run)


def without_the_last_step(run: Path, copy: Path) -> None:
    """A finished run as it was before its last step."""
    shutil.copytree(run, copy)
    for checkpoint in copy.glob(f"checkpoints/step-{STEPS:08d}*"):
        shutil.rmtree(checkpoint)
    shutil.rmtree(copy / "model")
    (copy / "result.json").unlink()


def train_world(root: Path, world: str) -> None:
    """Trains in one kind of world, anew."""
    shutil.rmtree(root / world, ignore_errors=True)
    processes, _, kind = world.partition("-")
    if kind in ("split", "whole"):
        for name in SHARDED:
            without_the_last_step(root / (processes if kind == "split" else f"{processes}-shard") / name, root / world / name)
    chosen = {"names": SHARDED, "shard": kind != "whole"} if kind else {}
    worlds.fork_world(int(processes), partial(train_all, root / "data", root / world, **chosen))


if __name__ == "__main__":
    root = Path(sys.argv[1])
    write_data(root / "data")
    for world in sys.argv[2:]:
        try:
            train_world(root, world)
        except worlds.Hung as hung:  # seen with four processes on two busy cores, inside torch's backward pass, and not understood
            print(f"{hung}; once more", file=sys.stderr)
            train_world(root, world)
