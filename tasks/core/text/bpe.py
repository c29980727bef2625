"""CLIP's tokenizer: lower-case byte-pair encoding (Sennrich et al., ACL 2016) with a mark at the end of words."""

import gzip
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tasks.core.errors import UsageError

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY, MERGES, TOKENIZER, OPENAI = "vocab.json", "merges.txt", "tokenizer.json", "bpe_simple_vocab_16e6.txt.gz"
END_OF_WORD = "</w>"
_LARGEST = 50_000_000  # bytes
_LONGEST = 2048  # bytes of a word that are merged together: the time of that grows with their square
_SPACES = re.compile(r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_SPECIAL = re.compile(f"({re.escape(START)}|{re.escape(END)})")
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-zA]+|[0-9]|[^ a-zA0-9]+")
"""Of text in which letters beyond ASCII are A, digits 0 and other signs !: there is no other capital."""


class Tokenizer:
    """Text to token numbers.

    Args:
        vocabulary: token to number: the symbols of all 256 bytes, alone and with the end-of-word mark, what merges make of them, and the
            tokens for the start and the end of a text.
        merges: pairs of symbols, the first merged first.
        source: where they come from, for errors.

    Attributes:
        start, end: numbers of those two tokens.

    Raises:
        UsageError: the vocabulary lacks one of them.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], source: str):
        self.vocabulary, self.merges, self.source = dict(vocabulary), list(merges), source
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        symbols = [symbol + ending for symbol in BYTES.values() for ending in ("", END_OF_WORD)]
        made = (first + second for first, second in self.merges)
        if lacking := next((token for token in (START, END, *symbols, *made) if token not in self.vocabulary), None):
            raise UsageError(f"{source} is no vocabulary of CLIP: it lacks the token {lacking!r:.60}")
        self.start, self.end = self.vocabulary[START], self.vocabulary[END]
        self._word = lru_cache(1 << 16)(self._encode_word)

    def __len__(self) -> int:
        """One more than the highest number."""
        return max(self.vocabulary.values()) + 1

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, without those for its start and end; of the words `<|startoftext|>` and `<|endoftext|>` themselves theirs.

        An empty text has none.
        """
        return list(self._numbers(text))

    def whole(self, text: str, context: int) -> list[int]:
        """Start, the numbers of a text, end; cut so that there are at most `context`."""
        return [self.start, *islice(self._numbers(text), context - 2), self.end]

    def _numbers(self, text: str) -> Iterator[int]:
        for part in _SPECIAL.split(text):
            if part in (START, END):
                yield self.vocabulary[part]
            else:
                for word in words(part):
                    yield from self._word(word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        symbols = word_symbols(word)
        parts = (self._merge(symbols[first : first + _LONGEST]) for first in range(0, len(symbols), _LONGEST))
        return tuple(self.vocabulary[symbol] for part in parts for symbol in part)

    def _merge(self, symbols: list[str]) -> list[str]:
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            symbols = join_pair(symbols, pair)
        return symbols


def words(text: str) -> list[str]:
    """What byte pairs are merged within: runs of letters, single digits, runs of other signs, and English endings such as `'s`."""
    text = unicodedata.normalize("NFC", text)
    text = text.lower() if text.isascii() else "".join(map(str.lower, text))  # sign by sign: no final sigma
    text = _SPACES.sub(" ", text)
    kinds = text if text.isascii() else text.translate(_KINDS)
    return [text[found.start() : found.end()] for found in _WORDS.finditer(kinds)]


class _Kinds(dict):
    """For `str.translate`: a sign beyond ASCII as one that stands for its kind."""

    def __missing__(self, code: int) -> int:
        kind = unicodedata.category(chr(code))[0] if code > 127 else ""
        self[code] = {"L": ord("A"), "N": ord("0"), "": code}.get(kind, ord("!"))
        return self[code]


_KINDS = _Kinds()


def word_symbols(word: str) -> list[str]:
    """The symbols of a word's bytes, the last with the end-of-word mark."""
    symbols = [BYTES[byte] for byte in word.encode("utf-8", "surrogatepass")]
    return [*symbols[:-1], symbols[-1] + END_OF_WORD]


def join_pair(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """The symbols with every such pair, from the left, made one."""
    found, place = [], 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            found.append(pair[0] + pair[1])
            place += 2
        else:
            found.append(symbols[place])
            place += 1
    return found


def _byte_symbols() -> dict[int, str]:
    """A visible sign for every byte, as GPT-2 has it: those of Latin-1 that are visible stand for themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(others)}


BYTES = _byte_symbols()


def read_tokenizer(place: str | Path, size: int | None = None) -> Tokenizer:
    """The tokenizer in a folder, or in a file.

    Args:
        place: a folder with `vocab.json` and `merges.txt`, with `tokenizer.json` or with OpenAI's `bpe_simple_vocab_16e6.txt.gz`; or one of
            the last two.
        size: tokens that the model knows; of OpenAI's file, whose merges are more, as many are taken as it has room for.

    Raises:
        UsageError: there is none, it cannot be read, or it has more tokens than `size`.
    """
    place = Path(place)
    if place.is_dir():
        found = [names for names in ((VOCABULARY, MERGES), (TOKENIZER,), (OPENAI,)) if all((place / name).is_file() for name in names)]
        if not found:
            raise UsageError(
                f"{place} has no vocabulary for its text: neither {VOCABULARY} with {MERGES}, nor {TOKENIZER}, nor {OPENAI}",
                "put the one that the model was trained with into the folder",
            )
        files = [place / name for name in found[0]]
    else:
        files = [place]
    if len(files) == 2:
        tokenizer = Tokenizer(_numbered(_json(files[0]), files[0]), _pairs(_text(files[1]).splitlines(), files[1]), str(place))
    elif files[0].suffix == ".json":
        tokenizer = _of_tokenizers(files[0])
    else:
        tokenizer = _of_openai(files[0], size)
    if size is not None and len(tokenizer) > size:
        raise UsageError(f"{place} has {len(tokenizer)} tokens, the model knows {size}", "it is the vocabulary of another model")
    return tokenizer


def _of_tokenizers(file: Path) -> Tokenizer:
    """Of a `tokenizer.json`."""
    found = _json(file)
    model = found.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("end_of_word_suffix") != END_OF_WORD:
        raise UsageError(f"{file} is not CLIP's tokenizer: it has no byte pairs with the mark {END_OF_WORD}")
    added = {entry.get("content"): entry.get("id") for entry in found.get("added_tokens", []) if isinstance(entry, dict)}
    vocabulary = _numbered({**(model.get("vocab") or {}), **{token: added[token] for token in (START, END) if token in added}}, file)
    return Tokenizer(vocabulary, _pairs(model.get("merges") or [], file), str(file))


def _of_openai(file: Path, size: int | None) -> Tokenizer:
    """Of the merges that OpenAI published: the symbols of bytes come first, in the order of their signs, the two marks of a text last."""
    lines = _text(file).split("\n")[1:]
    symbols = list(BYTES.values())
    tokens = symbols + [symbol + END_OF_WORD for symbol in symbols]
    merges = _pairs(lines[: (size or 49_408) - len(tokens) - 2], file)
    tokens += [first + second for first, second in merges] + [START, END]
    return Tokenizer({token: number for number, token in enumerate(tokens)}, merges, str(file))


def _pairs(lines: Iterable[Any], file: Path) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        if isinstance(line, str) and (not line.strip() or line.startswith("#version")):
            continue
        pair = line.split() if isinstance(line, str) else line
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise UsageError(f"{file} is not a list of merges: {line!r:.60} is not two symbols")
        found.append((pair[0], pair[1]))
    return found


def _numbered(vocabulary: Any, file: Path) -> dict[str, int]:
    if not isinstance(vocabulary, dict) or not all(type(number) is int and number >= 0 for number in vocabulary.values()):
        raise UsageError(f"{file} is not a vocabulary: tokens with their numbers")
    return vocabulary


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is no JSON object")
    return found


def _text(file: Path) -> str:
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UsageError(f"{file} is larger than {_LARGEST // 1_000_000} MB", "it is no vocabulary")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
