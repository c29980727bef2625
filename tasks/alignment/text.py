"""From sentences to what the aligner takes: a bag of words that learns with it, or vectors of a frozen tower."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from tasks.alignment.config import WordsConfig

_WORD = re.compile(r"[\w']+")


def split_words(sentence: str) -> list[str]:
    """Lower-case words of letters, digits, underscores and apostrophes."""
    return _WORD.findall(sentence.lower())


def vocabulary_of(sentences: Iterable[str]) -> list[str]:
    """The words of sentences, the most frequent first, ties in the order of the alphabet."""
    counts = Counter(word for sentence in sentences for word in split_words(sentence))
    return sorted(counts, key=lambda word: (-counts[word], word))


class Tokenizer:
    """Words to numbers from 1 on; 0 is padding and words that are not known.

    Args:
        words: the vocabulary; the number of a word is its place plus 1.
        longest: words of a sentence; further ones are cut off.
    """

    def __init__(self, words: Sequence[str], longest: int):
        self.words, self.longest = list(words), longest
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """(N, longest) int64."""
        found = torch.zeros((len(sentences), self.longest), dtype=torch.int64)
        for row, sentence in zip(found, sentences, strict=True):
            numbers = [self._numbers.get(word, 0) for word in split_words(sentence)[: self.longest]]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return found

    def cut(self, sentences: Sequence[str]) -> list[str]:
        """Those with more words than are read."""
        return [sentence for sentence in sentences if len(split_words(sentence)) > self.longest]


class BagOfWords(nn.Module):
    """Word numbers to sentence vectors, as MIL-NCE's text tower.

    Args:
        config: sizes and pooling.
        words: in the vocabulary.
    """

    def __init__(self, config: WordsConfig, words: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(words + 1, config.embedding)
        self.embedding.weight.requires_grad_(not config.frozen)
        self.fc1 = None if config.hidden is None else nn.Linear(config.embedding, config.hidden)
        self.fc2 = nn.Linear(config.hidden or config.embedding, config.width)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(..., L) int64 to (..., width); of a sentence without a known word all places count."""
        known = numbers > 0
        known = known | ~known.any(-1, keepdim=True)
        x = self.embedding(numbers)
        x = x if self.fc1 is None else F.relu(self.fc1(x))
        if self.config.pool == "mean":
            weights = known.to(x.dtype)[..., None]
            return self.fc2((x * weights).sum(-2) / weights.sum(-2))
        return self.fc2(x.masked_fill(~known[..., None], -torch.inf).amax(-2))
