"""What a model folder says of its model: how videos are brought to it, where it comes from, and its card."""

from statistics import median
from typing import Any

from tasks.core.cards import hardware
from tasks.core.clips.config import ClipConfig, DataConfig
from tasks.core.config import Config
from tasks.core.engine.run import Run, last_logged
from tasks.core.world import world


def stride_seconds(clip: ClipConfig, rows: list, decoder: str) -> float | None:
    """Distance between the frames of a clip in seconds: as given, or the frame stride times the median frame interval of up to 8
    training videos.
    """
    from tasks.core.errors import InputError
    from tasks.core.video.open import open_video

    if clip.stride_s is not None:
        return clip.stride_s
    if clip.sampling != "dense":
        return None
    intervals = []
    for row in rows[:: max(1, len(rows) // 8)][:8]:
        try:
            with open_video(row.path, decoder) as video:
                if video.n_frames > 1:
                    intervals.append((video.pts[-1] - video.pts[0]) / (video.n_frames - 1))
        except InputError:
            continue
    return round(float(median(intervals)) * (clip.stride_frames or 1), 6) if intervals else None


def preprocessing(config: Any, rows: list) -> dict[str, Any]:
    """How videos must be brought to a model trained with this configuration."""
    from tasks.core.clips.prepare import flow_input

    clip = config.data.clip
    return {
        "image_size": config.model.image_size,
        "frames": clip.frames,
        "sampling": clip.sampling,
        "stride_frames": clip.stride_frames,
        "stride_s": stride_seconds(clip, rows, config.data.decoder),
        "stretch": clip.stretch,
        "crop": config.augment.crop if config.augment.crop == "motion" else "center",
        "motion_margin": config.augment.motion_margin,
        "flow": config.augment.flow,
        "flow_input": flow_input(config.data.flow),
        "short_side": config.data.short_side,
        "mean": list(config.augment.mean),
        "std": list(config.augment.std),
        "color": "RGB",
    }


def provenance(run: Run, config: Config) -> dict[str, Any]:
    """Where a model comes from, for its config.json; what came from the Hub at its commit (`vid publish` takes local paths out)."""
    facts = run.facts()
    kept = ("task", "verb", "preset", "commit", "versions", "data_hash", "videos", "device")
    rows = {name: facts[name] for name in ("fraction", "balance") if name in facts}
    init = facts.get("pinned", {}).get(config.init, config.init)
    return {**{k: facts.get(k) for k in kept}, **rows, "hardware": hardware(world().size), "seed": config.train.seed, "init": init}


def trained_length(run: Run, config: Config) -> dict[str, Any]:
    """How long a run has trained, which need not be as long as it was told to: `epochs` and `steps`, of each part of a run that has parts;
    what the configuration says where nothing was logged.
    """
    parts = [run.metrics_file] if run.metrics_file.exists() else sorted(run.folder.glob("*/metrics.jsonl"))
    last = {path.parent.name: found for path in parts if (found := last_logged(path))}
    if not last:
        return {"epochs": config.train.epochs}
    named = {"epochs": [(part, f"{found['epoch']:.4g}") for part, found in last.items()]}
    named["steps"] = [(part, str(found["step"])) for part, found in last.items()]
    single = len(parts) == 1 and parts[0] == run.metrics_file
    return {key: values[0][1] if single else ", ".join(f"{part} {value}" for part, value in values) for key, values in named.items()}


def drawn(config: Any) -> dict[str, str]:
    """What is reported where a run is not fed its training set as it is: `fraction`, the share of it; `balance`, that rows are repeated."""
    from tasks.core.data.fraction import fraction_text

    data = getattr(config, "data", None)
    if not isinstance(data, DataConfig):
        return {}
    texts = {
        "fraction": fraction_text(data.fraction, data.fraction_seed),
        "balance": "rows of rarer classes repeated" if data.balance else "",
    }
    return {name: text for name, text in texts.items() if text}


def card(title: str, facts: dict[str, Any], use: str, metadata: dict[str, Any]) -> str:
    """A model card: YAML metadata, what the model is, a table of facts, how to use it."""
    import yaml

    rows = "\n".join(f"| {k} | {v} |" for k, v in facts.items())
    head = yaml.safe_dump({"library_name": "vid", **metadata}, sort_keys=False)
    return f"---\n{head}---\n\n# {title}\n\n| | |\n|---|---|\n{rows}\n\n## Use\n\n```sh\n{use}\n```\n"
