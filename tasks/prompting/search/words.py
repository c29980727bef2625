"""Sentences ranked by the words of a query: BM25 (Robertson and Zaragoza, 2009, section 3.4), every sentence a document."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

K1, B = 1.2, 0.75
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:'[^\W_{_UNSPACED}]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text, without capitals and in one spelling of each letter; of writing without spaces (Chinese, Japanese, Thai) the
    signs. There is no stemming: `dog` does not find `dogs`.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


def bm25(query: str, texts: Sequence[str]) -> np.ndarray:
    """(n,) float64: how well each text answers a query; 0 where they share no word.

    A word that is in few texts weighs more, ln(1 + (n - df + 0.5) / (df + 0.5)), and a text that repeats it, or is short, is better.
    """
    wanted = set(words_of(query))
    lengths, counts = np.zeros(len(texts)), {word: np.zeros(len(texts)) for word in wanted}
    for number, text in enumerate(texts):
        words = words_of(text)
        lengths[number] = len(words)
        if not wanted.isdisjoint(words):
            for word, count in Counter(words).items():
                if word in wanted:
                    counts[word][number] = count
    scores, norm = np.zeros(len(texts)), K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9)) if len(texts) else lengths
    for count in counts.values():
        df = int((count > 0).sum())
        weight = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
        scores += weight * count * (K1 + 1) / (count + norm)
    return scores
