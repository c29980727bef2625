"""Sentence encoders (MPNet, MiniLM, any BERT), which the package transformers runs, pooled as their folder says.

Source: Sentence-BERT (Reimers and Gurevych, EMNLP 2019, section 3).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core.checkpoint import bounded_by, links_stay_inside, require_finite
from tasks.core.convert import read_json
from tasks.core.errors import UsageError
from tasks.core.nn.precision import full_precision
from tasks.core.optional import require_transformers
from tasks.core.towers.clip_source import as_usage_error
from tasks.core.towers.identity import identity, tensors_hash

MODULES, LENGTH = "modules.json", "sentence_bert_config.json"
BATCH = 64
"""Texts that go through a tower at once."""


class SentenceTower(nn.Module):
    """An encoder of transformers whose token vectors are pooled into one.

    Args:
        network: gives `last_hidden_state`.
        tokenizer: of transformers.
        pooling: `mode` (`mean`: over the tokens of the text; `cls`: the first), `normalize` and `length` (tokens of a text, or None).
        source: of `identity`.

    Attributes:
        pooling, source: as given.
        dim: length of a vector.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, pooling: dict[str, Any], source: dict[str, Any]):
        super().__init__()
        self.network, self.tokenizer, self.pooling, self.source = network, tokenizer, pooling, source
        self.dim = network.config.hidden_size

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts to vectors `(N, dim)` float32; of length 1 where the folder says so."""
        parts = [self._encode(list(texts[first : first + BATCH])) for first in range(0, len(texts), BATCH)]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim, device=self.network.device)

    def _encode(self, texts: list[str]) -> torch.Tensor:
        length = self.pooling["length"]
        given = self.tokenizer(texts, padding=True, truncation=length is not None, max_length=length, return_tensors="pt")
        given = given.to(self.network.device)
        tokens = full_precision(self.network(**given).last_hidden_state)
        if self.pooling["mode"] == "cls":
            found = tokens[:, 0]
        else:
            mask = given["attention_mask"][..., None].to(tokens.dtype)
            found = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(found, dim=1) if self.pooling["normalize"] else found


def read_sentence_tower(folder: Path, reference: str) -> SentenceTower:
    """The sentence encoder in a folder of sentence-transformers, or of transformers alone: then the mean over tokens, not normalised.

    Raises:
        UsageError: transformers is not installed; the folder cannot be read, or asks for parts that are not known here.
    """
    transformers = require_transformers("a sentence encoder")
    links_stay_inside(folder)
    with as_usage_error(reference):
        inner, pooling = _read_pooling(folder)
    if not any(inner.glob("*.safetensors")):
        raise UsageError(f"{reference} has no weights as safetensors", "save it again with transformers: save_pretrained(FOLDER)")
    try:
        with bounded_by(inner), _quiet(), torch.device("cpu"):
            network, told = transformers.AutoModel.from_pretrained(
                inner, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(inner, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise UsageError(f"{reference} cannot be loaded as a sentence encoder: {(str(error) or 'damaged').splitlines()[0]:.160}") from None
    if missing := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
        raise UsageError(f"{reference} is no sentence encoder: its weights lack {missing[0]}")
    if not hasattr(network.config, "hidden_size") or getattr(network.config, "is_encoder_decoder", False):
        raise UsageError(f"{reference} is a {network.config.model_type}, not an encoder of text")
    limit = getattr(network.config, "max_position_embeddings", None)
    pooling["length"] = pooling["length"] or (min(limit, tokenizer.model_max_length) if limit else None)
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("pooler.")}
    require_finite(weights, reference)
    vocabulary = sorted(tokenizer.get_vocab().items())
    found = tensors_hash(weights, [network.config.model_type, vocabulary, pooling])
    return SentenceTower(network, tokenizer, pooling, identity(reference, "sentence", found))


def _read_pooling(folder: Path) -> tuple[Path, dict[str, Any]]:
    """(folder of the network, how its tokens are pooled) by `modules.json`, whose parts may be a network, a pooling and a normalisation."""
    pooling: dict[str, Any] = {"mode": "mean", "normalize": False, "length": None}
    inner = folder
    for part in _read_modules(folder / MODULES):
        kind, path = str(part.get("type", "")).rpartition(".")[2], _below(folder, part.get("path", ""))
        if kind == "Transformer":
            inner = path
        elif kind == "Pooling":
            pooling["mode"] = _mode(read_json(path / "config.json"), path)
        elif kind == "Normalize":
            pooling["normalize"] = True
        else:
            raise UsageError(f"{folder / MODULES}: the part '{kind:.40}' is not known here", "known: Transformer, Pooling, Normalize")
    if (inner / LENGTH).is_file():
        length = read_json(inner / LENGTH).get("max_seq_length")
        pooling["length"] = length if type(length) is int and length > 0 else None
    return inner, pooling


def _read_modules(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, list) or not all(isinstance(part, dict) for part in found):
        raise UsageError(f"{file} is no list of parts")
    return found


def _below(folder: Path, path: Any) -> Path:
    found = folder / path if isinstance(path, str) else folder / ".."
    if not found.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{folder / MODULES} names a folder outside of its own: {path!r:.60}")
    return found


def _mode(config: dict[str, Any], path: Path) -> str:
    """`mean` or `cls`, by either spelling of sentence-transformers."""
    spelled = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    named = config.get("pooling_mode")
    modes = [named] if named else [spelled.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if modes not in (["mean"], ["cls"]):
        raise UsageError(
            f"{path}: tokens are pooled by {', '.join(map(str, modes)) or 'nothing'}, which is not known here", "known: mean, cls"
        )
    return modes[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it, transformers does not report to stderr what it loads."""
    from transformers.utils import logging as theirs

    level, bar = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bar:
            theirs.enable_progress_bar()
