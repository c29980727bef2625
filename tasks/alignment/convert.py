"""Checkpoints of the public code of Temporal Alignment Networks as model folders. Files are read as tensors only."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.alignment.config import AlignerConfig, WordsConfig
from tasks.alignment.learned import from_config
from tasks.core import convert as files
from tasks.core.checkpoint import save_model
from tasks.core.convert import Tensors
from tasks.core.engine.description import card
from tasks.core.errors import InputError
from tasks.core.reporter import Reporter

SOURCES = {"tan": "TengdaHan/TemporalAlignNet: a checkpoint of stage 1 or 2, with its word2vec text tower"}
HEADS, HEAD_LAYER = 8, 3
"""Of every published model; checkpoints do not say it."""
_ONLINE, _TARGET = "online.", "target."
_TEXT = ("lang_model.", "bert.")
"""How the text tower is called: by the training script, by the model."""
_ENCODERS = {"video_temporal_encoder.resblocks.": "dual.", "joint_temporal_encoder.resblocks.": "joint."}
_BLOCK = {
    "attn.in_proj_": "qkv.",
    "attn.out_proj.": "out.",
    "ln_1.": "norm1.",
    "ln_2.": "norm2.",
    "mlp.c_fc.": "fc1.",
    "mlp.c_proj.": "fc2.",
}
_PLACES = {
    "video_pre_proj.": "video_in.",
    "text_pre_proj.": "text_in.",
    "ln_video_init.": "norm_video.",
    "ln_text_init.": "norm_text.",
    "ln_position_init.": "norm_positions.",
    "ln_video_post_enc.": "norm_dual.",
    "ln_joint_post_enc.": "norm_joint.",
    "temporal_pos_embed": "positions",
    "binary_head.": "head.",
}
_WORDS = {"word_embd.": "embedding.", "fc1.": "fc1.", "fc2.": "fc2."}
_UNUSED = ("mlp.", "text_temporal_pos_embed")
"""Made by the public code, read by nothing as it is published (sentences get no positions)."""


def convert(file: Path, source: str, out: Path, reporter: Reporter, vocabulary: str | None = None) -> dict[str, Any]:
    """Writes a model folder that `--from` and `--model` take.

    Args:
        file: as published. Of stage 2 the network itself is taken, not its moving average.
        source: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.
        reporter: told what was written.
        vocabulary: MIL-NCE's list of words (`s3d_dict.npy`), or a text file with a word a line; without it the model can be trained further
            and has no words of its own.

    Raises:
        UsageError: unknown source, or `out` holds something else.
        InputError: the file is not what `source` says.
    """
    tensors = files.read_published(file, source, SOURCES, out)
    weights, stage = take(tensors, source, file)
    words = len(weights["text.embedding.weight"]) - 1
    known = read_vocabulary(Path(vocabulary), words) if vocabulary else None
    if known is None:
        reporter.warn("the file does not hold the words of its vocabulary: add --vocabulary s3d_dict.npy of MIL-NCE to align with it")
    saved = describe(weights, stage, known, file.name)
    files.check_source(lambda: from_config(saved), weights, file)
    save_model(out, weights, saved, _card(file, source, out))
    reporter.info(f"wrote {out}; start from it with --from {out}")
    parameters = sum(tensor.numel() for tensor in weights.values())
    return {"model": str(out), "task": "alignment", "source": source, "tensors": len(weights), "parameters": parameters}


def take(tensors: Tensors, source: str, file: Path) -> tuple[Tensors, int]:
    """Weights of an `AlignmentModel`, and the stage (1 or 2), of public tensors.

    Raises:
        InputError: they are not those of an aligner with a bag of words.
    """
    stage = 2 if any(name.startswith(_ONLINE) for name in tensors) else 1
    own = {}
    for name, tensor in tensors.items():
        if not name.startswith(_TARGET):
            own.setdefault(name.removeprefix(_ONLINE), tensor)
    text = {f"{old}{start}": f"text.{new}" for old in _TEXT for start, new in _WORDS.items()}
    blocks = {start: f"aligner.{new}" for start, new in _ENCODERS.items()}
    places = {**{start: f"aligner.{new}" for start, new in _PLACES.items()}, **text, **blocks}
    weights = files.place_tensors(own, places, source, file, _inside_block, _UNUSED)
    if "text.embedding.weight" not in weights or "aligner.video_in.weight" not in weights:
        raise InputError(f"{file} is not an aligner with a word2vec text tower", "those with BERT are not read")
    if "aligner.head.weight" not in weights:  # stage 1 has none
        width = weights["aligner.video_in.weight"].shape[0]
        weights |= {"aligner.head.weight": torch.zeros(1, width), "aligner.head.bias": torch.zeros(1)}
    return weights, stage


def _inside_block(rest: str) -> str:
    """`3.attn.in_proj_weight` to `3.qkv.weight`; names outside of blocks stay."""
    number, dot, inner = rest.partition(".")
    start = next((start for start in _BLOCK if inner.startswith(start)), None)
    return rest if start is None else f"{number}{dot}{_BLOCK[start]}{inner.removeprefix(start)}"


def describe(weights: Tensors, stage: int, vocabulary: list[str] | None, name: str) -> dict[str, Any]:
    """config.json of an aligner with these weights."""
    positions, width = weights["aligner.positions"].shape
    layers = {kind: len({n.split(".")[2] for n in weights if n.startswith(f"aligner.{kind}.")}) for kind in ("dual", "joint")}
    architecture = AlignerConfig(
        width=width,
        heads=HEADS,
        dual_layers=layers["dual"],
        joint_layers=layers["joint"],
        positions=positions,
        head_layer=min(HEAD_LAYER, layers["joint"]),
    )
    table, hidden = weights["text.embedding.weight"], weights["text.fc1.weight"]
    text = WordsConfig(embedding=table.shape[1], hidden=len(hidden), width=len(weights["text.fc2.weight"]), frozen=True)
    unknown = {"encoder": {"reference": None, "weights_hash": None}}
    return {
        "library": "vid",
        "task": "alignment",
        "method": "tan" if stage == 1 else "tan-cotrain",
        "architecture": architecture.model_dump(),
        "text": text.model_dump(),
        "vocabulary": vocabulary,
        "words": len(table) - 1,
        "text_dim": text.width,
        "tower": None,
        "streams": {"visual": {**unknown, "dim": weights["aligner.video_in.weight"].shape[1], "grid": {"stride_s": 1.0, "span_s": 1.0}}},
        "head_trained": stage == 2,
        "preprocessing": {"grid": {"stride_s": 1.0, "span_s": 1.0}, "align": "none", "window": 64},
        "provenance": {"source": "tan", "file": name},
    }


def read_vocabulary(file: Path, count: int) -> list[str]:
    """Words in the order of their numbers, from 1 on; InputError where they cannot be read or are not as many as the embeddings."""
    try:
        if file.suffix == ".npy":
            words = [str(word) for word in np.load(file, allow_pickle=False)]
        else:
            words = file.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as a list of words ({str(error).splitlines()[0]})") from None
    if len(words) != count:
        raise InputError(
            f"{file} has {len(words)} words, the checkpoint has embeddings of {count}", "give the list that it was trained with"
        )
    return words


def _card(file: Path, source: str, out: Path) -> str:
    facts = {"converted from": file.name, "source": SOURCES[source], "input": "features of a second each", "licence": "that of the source"}
    use = f"vid align VIDEO --text FILE --model {out.name} --features visual=FOLDER"
    return card("Sentence aligner", facts, use, {"tags": ["video", "temporal-alignment"]})
