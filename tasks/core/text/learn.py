"""Merges of byte pairs learned from texts, for models whose text is trained here (Sennrich et al., ACL 2016, algorithm 1)."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tasks.core.text.bpe import BYTES, END, END_OF_WORD, START, Tokenizer, join_pair, word_symbols, words


def learn_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of at most so many tokens, 514 at least: the symbols of bytes, the most frequent merges, start and end.

    Args:
        texts: of which it is learned.
        size: of the vocabulary. Pairs that are met once only are not merged.
    """
    counts = Counter(word for text in texts for word in words(text))
    split = {word: word_symbols(word) for word in counts}
    merges: list[tuple[str, str]] = []
    known = [symbol + ending for ending in ("", END_OF_WORD) for symbol in BYTES.values()]
    while len(known) + 2 < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        pair, often = min(pairs.items(), key=lambda item: (-item[1], item[0]), default=(("", ""), 0))
        if often < 2:
            break
        merges.append(pair)
        known.append(pair[0] + pair[1])
        split = {word: join_pair(symbols, pair) for word, symbols in split.items()}
    vocabulary = {token: number for number, token in enumerate([*dict.fromkeys(known), START, END])}
    return Tokenizer(vocabulary, merges, "texts")
