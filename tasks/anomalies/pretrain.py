"""`vid pretrain` of an anomaly detector: its parts one after the other, each a run of the loop in a folder of its own."""

import shutil
from typing import Any

import torch

from tasks.anomalies.config import PretrainConfig
from tasks.anomalies.footage import Footage, PseudoFolder, find_footage
from tasks.anomalies.model import Autoencoder
from tasks.anomalies.parts import Session, parts_of_run, train_of
from tasks.anomalies.stream import Networks
from tasks.core.checkpoint import find_model, load_config, load_strict
from tasks.core.data.manifest import read_sources
from tasks.core.engine import setup
from tasks.core.engine.description import stride_seconds
from tasks.core.engine.optim import checkpoint_bytes
from tasks.core.engine.run import Run, hash_rows, last_logged
from tasks.core.engine.schedule import run_length
from tasks.core.errors import UsageError
from tasks.core.world import world


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    setup.training_rows(config.data)
    if config.data.val:
        read_sources(config.data.val, "val")
    if config.pseudo:
        PseudoFolder(config.pseudo)
    if not parts_of_run(config):
        raise UsageError("the semantic part needs an encoder and pseudo-anomalies", "add --set semantic.encoder=MODEL --set pseudo=FOLDER")
    if config.init:
        found = load_config(find_model(config.init))
        wanted = config.model.model_dump(exclude={"norm"})
        own = found["architecture"]["autoencoder"] if found["task"] == "anomalies" else None
        if not isinstance(own, dict) or {k: own.get(k) for k in wanted} != wanted:
            raise UsageError(
                f"{config.init} is not an anomaly model with autoencoders of this size", "take over its model settings with --config"
            )


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    rows = setup.training_rows(config.data)
    pseudo = PseudoFolder(config.pseudo) if config.pseudo else None
    footage, skipped = find_footage(rows, config.model.frames, config.data.decoder, pseudo)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Autoencoder(config.model).parameters())
    clips = sum(len(item.starts(config.model.frames)) for item in footage)
    items = {"appearance": clips, "motion": clips, "semantic": sum(item.high - item.low for item in footage if item.frames) * 2}
    told: dict[str, Any] = {"parts": parts_of_run(config), "parameters": parameters, "videos": len(rows), "unusable_videos": len(skipped)}
    for part in told["parts"]:
        train = train_of(config, part)
        per_epoch = setup.micro_per_epoch(max(1, items[part]), config.model_copy(update={"train": train}))
        told |= {f"{part}_items": items[part], f"{part}_steps": run_length(train, per_epoch)[1]}
        told[f"{part}_batch"] = train.batch_size * train.accumulate * world().size
    twins = {kind: sum(getattr(item, kind) is not None for item in footage) for kind in ("frames", "flow", "flow_pseudo")}
    return {
        **told,
        **{f"videos_with_pseudo_{kind}": count for kind, count in twins.items() if kind != "flow"},
        "data_hash": hash_rows(rows),
        "checkpoint_mib": round(checkpoint_bytes(parameters, parameters, config) / 2**20, 1),
        "writes": "config.yaml run.json log.txt appearance/ motion/ semantic/ (metrics.jsonl, checkpoints/) model/",
    }


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains the parts, calibrates the detector on normal footage and writes `model/`; returns the result."""
    check(config)
    rows = setup.training_rows(config.data)
    pseudo = PseudoFolder(config.pseudo) if config.pseudo else None
    footage, skipped = find_footage(rows, config.model.frames, config.data.decoder, pseudo)
    normal, unusable = held_out(config) if config.data.val else (footage, [])
    run.record_data(rows)
    run.record(seed=config.train.seed, pseudo=pseudo.facts if pseudo else None)
    session = Session(config, run, footage, normal, pseudo)
    if run.main:
        run.skip(skipped + unusable, config.train.strict)
        _say(run, config, session)
    parts = parts_of_run(config)
    weights: dict[str, torch.Tensor] = {}
    for part in parts:
        weights |= {f"{part}.{name}": tensor for name, tensor in session.train(part).items()}
    if run.main:
        publish(run, config, session, weights, rows, pseudo)
        run.finish(summary(run, config, parts))
        for part in parts:
            shutil.rmtree(run.folder / part / "prepared", ignore_errors=True)
    session.wait()
    return run.result


def held_out(config: PretrainConfig) -> tuple[list[Footage], list[tuple[str, str]]]:
    """Footage of `data.val`, for calibration, and (path, reason) of its unusable videos; errors as `find_footage`."""
    data = config.data
    return find_footage(read_sources(data.val, "val"), config.model.frames, data.decoder, None, "validation")


def _say(run: Run, config: PretrainConfig, session: Session) -> None:
    """What is trained on, and what is missing for more."""
    footage = session.footage
    clips = sum(len(item.starts(config.model.frames)) for item in footage)
    run.reporter.info(f"{', '.join(parts_of_run(config))}: {len(footage)} videos, {clips} clips of {config.model.frames} frames")
    for part, kind in (("appearance", "frames"), ("motion", "flow_pseudo")):
        lacking = sum(getattr(item, kind) is None for item in footage)
        if config.pseudo and part in config.parts and lacking:
            run.reporter.warn(f"{lacking} of {len(footage)} videos have no pseudo-anomalies in {kind}/: {part} sees them as they are")
    if "semantic" in config.parts and "semantic" not in parts_of_run(config):
        run.reporter.info("no semantic part: it needs semantic.encoder and pseudo")


def summary(run: Run, config: PretrainConfig, parts: list[str]) -> dict[str, Any]:
    """Steps and last logged loss of every part."""
    told: dict[str, Any] = {"run": str(run.folder), "model": str(run.folder / "model"), "parts": parts}
    for part in parts:
        last = last_logged(run.folder / part / "metrics.jsonl")
        told |= {f"{part}_steps": last["step"], f"{part}_loss": last["loss"]}
    return {**told, "pseudo": config.pseudo, "n_skipped": len(run.skipped)}


def publish(
    run: Run, config: PretrainConfig, session: Session, weights: dict[str, torch.Tensor], rows: list, pseudo: PseudoFolder | None
) -> None:
    """Writes the model folder: all parts, the frozen frame encoder, fusion weights, and what normal footage scores."""
    architecture = session.architecture()
    weights = weights | session.encoder_weights()
    networks = Networks(architecture)
    load_strict(networks, weights, "this run")
    calibration = session.calibration(networks.to(session.device).eval())
    saved = {
        "task": "anomalies",
        "method": "pseudo-anomalies" if pseudo else "reconstruction",
        "architecture": architecture,
        "weights": list(config.weights),
        "calibration": calibration,
        "preprocessing": {
            "image_size": config.model.image_size,
            "frames": config.model.frames,
            "stride_frames": 1,
            "stride_s": stride_seconds(config.data.clip, rows, config.data.decoder),
            "crop": "none",
            "short_side": config.data.short_side,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "color": "RGB",
        },
        "pseudo": {"p_s": config.p_s, "p_t": config.p_t, **pseudo.facts} if pseudo else None,
    }
    encoder = architecture["semantic"]["encoder"]["source"] if architecture["semantic"] else "none"
    facts = {
        "task": "one-class video anomaly detection, one score per frame",
        "parts": ", ".join(architecture["parts"]),
        "input": f"{config.model.frames} frames of {config.model.image_size} px",
        "pseudo-anomalies": f"p_s {config.p_s:g}, p_t {config.p_t:g}; see config.json" if pseudo else "none",
        "frame encoder": encoder,
        "fusion weights": ", ".join(f"{value:g}" for value in config.weights),
    }
    card = setup.Card("Video anomaly detector", facts, "vid detect-anomalies VIDEO --model {run}", ["video", "anomaly-detection"])
    setup.publish(run, config, weights, saved, card, rows)
