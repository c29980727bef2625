"""Rows with sentences, the clip around each, and what is made of their text."""

import numpy as np
import pytest
import torch
from clip_toys import clip_folder, tokenizer

from tasks.contrastive.sentences import MEMO, FrozenReader, SentencePicker, TokenReader, captioned, frames_around
from tasks.core.clips.clips import ClipSampler
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError
from tasks.core.towers import load_text_tower

PTS = np.arange(100) / 10  # ten seconds
CLIP = ClipSampler(8, stride_s=0.2)  # 1.6 s


def picked(row: Row, train: bool = True, jitter: float = 0.5, seed: int = 0, pts: np.ndarray = PTS) -> np.ndarray:
    """Times of the frames of a clip, seconds."""
    frames = SentencePicker(CLIP, jitter, train)(pts, np.random.default_rng(seed), row).frames
    assert frames.shape == (1, 8)
    return pts[frames[0]]


def test_a_clip_lies_inside_a_long_sentence():
    seen = [picked(Row("x", start_s=3.0, end_s=7.0), seed=seed) for seed in range(200)]
    assert all(times[0] >= 3.0 - 0.06 and times[-1] < 7.0 for times in seen)
    assert all(np.allclose(np.diff(times), 0.2, atol=0.11) for times in seen)
    assert min(times[0] for times in seen) < 3.2
    assert max(times[0] for times in seen) > 5.2
    middle = picked(Row("x", start_s=3.0, end_s=7.0), train=False)
    assert abs((middle[0] + middle[-1]) / 2 - 4.9) < 0.11


def test_around_a_short_sentence_or_a_moment_the_clip_moves_a_little():
    for row in (Row("x", start_s=4.9, end_s=5.1), Row("x", start_s=5.0)):
        centres = [np.mean(picked(row, seed=seed)) + 0.1 for seed in range(300)]
        assert 4.4 <= min(centres) < 4.6
        assert 5.4 < max(centres) <= 5.6
        still = [picked(row, train=False, seed=seed) for seed in range(5)]
        assert all(np.array_equal(still[0], times) for times in still)
        assert abs(np.mean(still[0]) + 0.1 - 5) < 0.06


def test_a_clip_stays_in_the_video():
    assert picked(Row("x", start_s=0.0, end_s=0.1))[0] >= 0
    assert picked(Row("x", start_s=9.9, end_s=30.0), jitter=0.0)[-1] == PTS[-1]
    assert picked(Row("x", start_s=9.9), jitter=0.0)[0] == pytest.approx(8.5)
    short = picked(Row("x"), pts=PTS[:3])
    assert short[0] == 0
    assert short[-1] == PTS[2]  # ends in a still
    assert picked(Row("x"), pts=PTS[:1]).tolist() == [0.0] * 8


def test_frames_around_a_time_by_hand():
    assert PTS[frames_around(PTS, 5.0, 4, 0.5)].tolist() == [4.0, 4.5, 5.0, 5.5]
    assert PTS[frames_around(PTS, 0.0, 4, 0.5)].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert np.allclose(PTS[frames_around(PTS, 99.0, 4, 0.5)], [8.4, 8.9, 9.4, 9.9])


def test_subtitles_become_rows(tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nHello <i>there</i>\n\n2\n00:00:04,000 --> 00:00:05,000\nBye\n")
    rows = Rows.of([Row("a.mp4", subtitles=str(tmp_path / "a.srt")), Row("b.mp4", text="a dog", start_s=1.0, end_s=2.0)])
    found = list(captioned(rows, "training"))
    assert [(row.path, row.text, row.start_s, row.end_s) for row in found] == [
        ("a.mp4", "Hello there", 1.0, 2.5),
        ("a.mp4", "Bye", 4.0, 5.0),
        ("b.mp4", "a dog", 1.0, 2.0),
    ]
    told = Rows.of([Row("b.mp4", text="a dog")])
    assert captioned(told, "training") is told


def test_rows_without_a_sentence_are_refused():
    with pytest.raises(InputError, match=r"1 of 2 training rows have no sentence, the first is b\.mp4"):
        captioned(Rows.of([Row("a.mp4", text="x"), Row("b.mp4")]), "training")


def test_a_frozen_reader_gives_what_the_tower_gives_and_remembers(tmp_path):
    tower = load_text_tower(clip_folder(tmp_path / "clip"))
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    reader, calls = FrozenReader(tower), []
    forward = tower.forward
    tower.forward = lambda texts: (calls.append(list(texts)), forward(texts))[1]
    texts = ["a red  square", "the blue circle", "a red square"]
    found = reader(texts, torch.device("cpu"))["text"]
    torch.testing.assert_close(found, forward(["a red square", "the blue circle", "a red square"]))
    assert calls == [["a red square", "the blue circle"]]
    assert torch.equal(reader(texts[::-1], torch.device("cpu"))["text"], found.flip(0))
    assert len(calls) == 1
    assert not found.requires_grad
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())


def test_a_frozen_reader_forgets_the_oldest(monkeypatch):
    assert MEMO > 1000
    monkeypatch.setattr("tasks.contrastive.sentences.MEMO", 2)
    seen = []

    class Letters(torch.nn.Module):
        dim, source = 1, {"weights_hash": "0"}

        def forward(self, texts):
            seen.extend(texts)
            return torch.tensor([[float(ord(text[0]))] for text in texts])

    reader = FrozenReader(Letters())
    for texts in (["a", "b"], ["a"], ["c"], ["a"], ["b"]):
        assert reader(texts, torch.device("cpu"))["text"].flatten().tolist() == [float(ord(text)) for text in texts]
    assert seen == ["a", "b", "c", "b"]


def test_a_tower_that_makes_no_number_of_a_sentence_is_named():
    class Broken(torch.nn.Module):
        dim, source = 1, {"weights_hash": "0"}

        def forward(self, texts):
            return torch.tensor([[float("nan") if text == "bad" else 1.0] for text in texts])

    with pytest.raises(InputError, match="no finite vector of 'bad'"):
        FrozenReader(Broken())(["good", "bad"], torch.device("cpu"))


def test_tokens_end_where_the_sentence_ends():
    found = TokenReader(tokenizer(), 6)(["a dog", "a red square moves to the left and rests"], torch.device("cpu"))
    assert found["ids"].shape == (2, 6)
    assert found["end"].tolist() == [len(tokenizer().encode("a dog")) + 1, 5]
    assert [int(row[end]) for row, end in zip(found["ids"], found["end"], strict=True)] == [tokenizer().end] * 2
