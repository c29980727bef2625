"""Class names as words, and the words as token numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tasks.core.convert import read_json
from tasks.core.errors import InputError
from tasks.core.reporter import Reporter
from tasks.core.text.bpe import Tokenizer
from tasks.core.towers.image_text import is_cut, room_of
from tasks.core.towers.text_tower import TextTower

_JOINED = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class NameTokens:
    """Names as a text tower takes them.

    Attributes:
        ids: (C, N) int64, without start and end, padded with zeros.
        lengths: (C,) int64, at least 1.
        marks: (2,) int64, the numbers of the start and of the end token.
        cut: the names that were too long.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    marks: torch.Tensor
    cut: tuple[str, ...] = ()


def plain_words(label: str) -> str:
    """A label as words: `brush_hair` is brush hair, `BaseballPitch`, as UCF-101 and THUMOS14 write, Baseball Pitch."""
    words = label.replace("_", " ")
    return _JOINED.sub(" ", words) if words[:1].isupper() and " " not in words else words


def words_of(labels: Sequence[str], file: str | None = None, known: Mapping[str, str] | None = None) -> list[str]:
    """The words for labels: those in a JSON file or in `known`, else `plain_words`.

    Raises:
        InputError: two labels have the same words, a label has none, or the file is not a mapping of texts.
    """
    given = dict(known or {})
    if file is not None:
        given |= read_json(Path(file))
        if strange := next((label for label, words in given.items() if not isinstance(words, str)), None):
            raise InputError(f"{file}: the name of '{strange}' is no text", 'it maps labels to words: {"brush_hair": "brush hair"}')
    found: dict[str, str] = {}
    for label in labels:
        words = " ".join(given.get(label, plain_words(label)).split())
        if not words:
            raise InputError(f"the class '{label}' has no name", "--set names=FILE.json says which words stand for a label")
        if other := next((known for known, same in found.items() if same.lower() == words.lower()), None):
            raise InputError(
                f"the classes '{other}' and '{label}' have the same name, {words!r:.60}", "--set names=FILE.json can tell them apart"
            )
        found[label] = words
    return list(found.values())


def tokens_of(names: Sequence[str], tokenizer: Tokenizer, room: int, reporter: Reporter | None = None) -> NameTokens:
    """Token numbers of names, each cut to `room` tokens.

    Args:
        names: words.
        tokenizer: of the text tower.
        room: tokens that fit between start, prompts and end.
        reporter: told what was cut.

    Raises:
        InputError: a name has no token, or there is no room for any.
    """
    if room < 1:
        raise InputError("the prompts leave no token for a name", "give fewer: model.prompts.before, model.prompts.after")
    rows = [tokenizer.encode(name) for name in names]
    if empty := [name for name, row in zip(names, rows, strict=True) if not row]:
        raise InputError(f"the name {empty[0]!r:.60} has no token")
    cut = tuple(name for name, row in zip(names, rows, strict=True) if len(row) > room)
    if cut and reporter is not None:
        reporter.warn(f"{len(cut)} of {len(names)} texts are cut to the {room} tokens that fit beside the prompts: {cut[0]!r:.60}")
    return pad([row[:room] for row in rows], tokenizer.start, tokenizer.end, cut)


def pad(rows: Sequence[Sequence[int]], start: int, end: int, cut: tuple[str, ...] = ()) -> NameTokens:
    """Rows of token numbers as tensors."""
    ids = torch.zeros((len(rows), max(map(len, rows), default=0)), dtype=torch.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = torch.tensor(row, dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return NameTokens(ids, lengths, torch.tensor([start, end]), cut)


def tell_cut(texts: Sequence[str], tower: TextTower, reporter: Reporter) -> None:
    """Warns of texts that a tower will cut."""
    if cut := [text for text in texts if is_cut(tower, text)]:
        reporter.warn(
            f"{len(cut)} of {len(texts)} texts are cut to the {room_of(tower)} tokens of {tower.source['reference']}: {cut[0]!r:.60}"
        )
