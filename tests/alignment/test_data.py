"""Sentences of manifests, windows and what of them is right."""

import numpy as np
import pytest
import torch
from alignment_toys import config

from tasks.alignment.data import SentenceCropper, Windows, inside, narrated, weights_of
from tasks.core.data.captions import Sentence
from tasks.core.data.rows import Row
from tasks.core.errors import InputError

TIMES = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], 1)


def test_seconds_belong_to_a_sentence_by_their_middle():
    """On a grid of seconds as rounding start and end, of which the end does not count."""
    found = inside(np.array([[2.2, 4.9], [2.6, 4.4], [7.0, 8.0]]), TIMES)
    assert [np.flatnonzero(row).tolist() for row in found] == [[2, 3, 4], [3], [7]]


def test_a_sentence_between_two_features_gets_the_nearest():
    found = weights_of(np.array([[2.6, 2.9], [20.0, 21.0]]), TIMES, 0.0)
    assert [np.flatnonzero(np.isfinite(row)).tolist() for row in found] == [[2], []]


def test_a_spread_is_a_gaussian_around_the_middle():
    found = weights_of(np.array([[4.0, 5.0]]), TIMES, 1.5)[0]
    assert found[4] == 0
    assert found[6] == pytest.approx(-((2 / 1.5) ** 2) / 2)
    assert np.isneginf(found[8])
    assert np.isfinite(found[7])


def rows(folder) -> list[Row]:
    (folder / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nadd salt\n\n2\n00:00:03,000 --> 00:00:04,000\nstir\n")
    return [Row("/a.mp4", subtitles=str(folder / "a.srt")), Row("/b.mp4"), Row("/c.mp4", text="bake", start_s=2.0, end_s=5.0)]


def test_sentences_of_a_manifest(tmp_path):
    found = narrated(rows(tmp_path))
    assert {path: [s.text for s in several] for path, several in found.sentences.items()} == {
        "/a.mp4": ["add salt", "stir"],
        "/c.mp4": ["bake"],
    }
    assert [(path, "no sentences" in reason) for path, reason in found.skipped] == [("/b.mp4", True)]
    with pytest.raises(InputError, match="none of 1 videos has sentences"):
        narrated([Row("/b.mp4")])
    with pytest.raises(InputError, match=r"missing\.srt"):
        narrated([Row("/b.mp4", subtitles=str(tmp_path / "missing.srt"))])


def test_windows_begin_with_a_sentence():
    times = np.stack([np.arange(100.0), np.arange(1.0, 101.0)], 1)
    sentences = [Row("a", start_s=s) for s in (3.0, 41.0, 97.0)]
    drawn = {SentenceCropper()(times, 20, np.random.default_rng(seed), sentences) for seed in range(30)}
    assert drawn == {3, 41}
    assert 0 <= SentenceCropper()(times, 20, np.random.default_rng(0), [Row("a", start_s=99.0)]) <= 80


def made(**window) -> dict:
    """Two windows, the second without a sentence."""
    sentences = {"a": [Sentence(1, 3, "add salt"), Sentence(4, 6, "stir"), Sentence(30, 31, "later")], "b": [Sentence(50, 51, "bake")]}
    windows = Windows(config(window=window), sentences, lambda texts: torch.arange(len(texts))[:, None] + 1, {"visual": None})
    times = torch.from_numpy(np.stack([TIMES, TIMES])).float()
    batch = {"path": ["a", "b"], "times": times, "length": torch.tensor([10, 8]), "features": torch.zeros(2, 10, 6)}
    batch["mask"] = torch.arange(10) < batch["length"][:, None]
    return windows(batch, torch.device("cpu"))


def test_batches_hold_the_sentences_of_their_windows():
    found = made()
    assert found["text"][..., 0].tolist() == [[1, 2], [0, 0]]
    assert found["text_mask"].tolist() == [[True, True], [False, False]]
    assert [row.nonzero()[:, 0].tolist() for row in found["given"][0]] == [[1, 2], [4, 5]]
    assert torch.equal(torch.isfinite(found["right"]), found["given"])


def test_with_a_spread_more_features_may_be_right():
    found = made(spread_s=2.0)
    assert (torch.isfinite(found["right"]) >= found["given"]).all()
    assert torch.isfinite(found["right"][0, 0]).sum() == 7
