"""How alike frozen features are."""

import numpy as np


def cosine(queries: np.ndarray, gallery: np.ndarray, center: str = "gallery") -> np.ndarray:
    """Cosine similarity `(queries, gallery)` of features `(n, dim)` after a mean was taken from them.

    Args:
        queries: of the test videos.
        gallery: of the training videos.
        center: `gallery`, the gallery's mean from both sets, as features of masked autoencoders share too much of it; `own`, each set's own
            mean (the public retrieval code of CoCLR); `none`.
    """
    if center != "none":
        mean = gallery.mean(0)
        queries, gallery = queries - (queries.mean(0) if center == "own" else mean), gallery - mean
    return _unit(queries) @ _unit(gallery).T


def _unit(features: np.ndarray) -> np.ndarray:
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)
