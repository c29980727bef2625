"""How well clips and sentences find each other: retrieval in both directions, and sentences put to their time in a video."""

import math
from collections.abc import Sequence

import numpy as np

from tasks.core.metrics.retrieval import recall_at

RANKS = (1, 5)


def retrieval(similarity: np.ndarray, sentence: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Recall among the first of a ranking in both directions, percent, beside chance and beside sentences that were dealt to other clips.

    Args:
        similarity: (N, S), of N clips and S different sentences.
        sentence: (N,) int64, the number of each clip's sentence; every sentence has a clip.
        seed: of the dealing.

    Returns:
        `v2t_r1` and `v2t_r5`: clips whose sentence is among the 1 or 5 most similar; `t2v_r1`, `t2v_r5`: sentences of which a clip is among
        these; `chance_...` of each, what a random ranking gives in the mean; `shuffled_v2t_r1`, `shuffled_t2v_r1`.
    """
    own = sentence[:, None] == np.arange(similarity.shape[1])
    dealt = own[np.random.default_rng(seed).permutation(len(own))]
    found = {}
    for name, scores, matching, wrong in (("v2t", similarity, own, dealt), ("t2v", similarity.T, own.T, dealt.T)):
        found |= {f"{name}_r{k}": share for k, share in recall_at(scores, matching, RANKS).items()}
        found |= {f"chance_{name}_r{k}": chance(matching, k) for k in RANKS}
        found[f"shuffled_{name}_r1"] = recall_at(scores, wrong, (1,))[1]
    return found


def chance(matching: np.ndarray, k: int) -> float:
    """What `recall_at` is in the mean over all rankings: one less the probability that none of a row's n matches is among k of G."""
    n, size = matching.sum(1), matching.shape[1]
    missed = [math.comb(size - int(each), min(k, size)) / math.comb(size, min(k, size)) for each in n]
    return float((1 - np.mean(missed)) * 100)


def alignment(similarities: Sequence[np.ndarray], parts: Sequence[np.ndarray]) -> dict[str, float]:
    """Sentences put to the second of their video that is most similar (HTM-Align; Han, Xie, Zisserman, CVPR 2022, section 5).

    Args:
        similarities: of each video, (sentences, seconds).
        parts: of each video, (sentences, 2), where each sentence holds, seconds.

    Returns:
        `align_r1`: sentences whose second is one of floor(start) to ceil(end), both included, percent; `align_chance`, the mean share of a
        video's seconds that are right; `align_n`, sentences.
    """
    hits, shares = [], []
    for similarity, part in zip(similarities, parts, strict=True):
        seconds = np.arange(similarity.shape[1])
        right = (seconds >= np.floor(part[:, :1])) & (seconds <= np.ceil(part[:, 1:]))
        hits += right[np.arange(len(right)), similarity.argmax(1)].tolist()
        shares += right.mean(1).tolist()
    return {"align_r1": float(np.mean(hits) * 100), "align_chance": float(np.mean(shares) * 100), "align_n": len(hits)}
