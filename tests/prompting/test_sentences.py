"""Videos with sentences: what is read, what makes a batch, the loss, and the ranks."""

import numpy as np
import prompting_toys as toys
import pytest
import torch
from clip_toys import text_config, tokenizer
from pinned import same_everywhere

from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError
from tasks.core.nn.clip import TextTransformer
from tasks.prompting.config import PromptedConfig
from tasks.prompting.method import SentencePrompting
from tasks.prompting.names import pad
from tasks.prompting.sentences import captioned, pairs


def sentence_method(text=None, **settings) -> SentencePrompting:
    torch.manual_seed(0)
    return SentencePrompting(toys.config(method="retrieval", **settings), text or toys.tower(), toys.DIM)


def sentence_batch() -> dict[str, torch.Tensor]:
    clips = toys.batch(4)
    words = tokenizer()
    tokens = pad([words.encode(text)[:16] for text in toys.SENTENCES[:4]], words.start, words.end)
    return {"clip": clips["clip"], "gap": clips["gap"], "ids": tokens.ids, "lengths": tokens.lengths}


def vectors(method: SentencePrompting, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Videos and sentences, each of length 1."""
    video = method.model.video_features(batch["clip"], batch["gap"])
    text = method.model.text_features(method.text.tower.network, batch["ids"], batch["lengths"], method.marks)
    return tuple(each / each.norm(dim=1, keepdim=True) for each in (video, text))


@pytest.mark.usefixtures("float64")
def test_the_loss_is_that_of_the_definition():
    method, batch = sentence_method(), sentence_batch()
    video, text = vectors(method, batch)
    total = 0.0
    for number in range(4):
        cosines = torch.stack([video[number] @ other for other in text]) / 0.07
        total -= cosines[number] - cosines.exp().sum().log()
    assert toys.losses(method, batch)["loss"].item() == pytest.approx(total.item() / 4, abs=1e-9)


@pytest.mark.usefixtures("float64")
def test_symmetric_compares_sentences_with_videos_too():
    method, batch = sentence_method(symmetric=True), sentence_batch()
    video, text = vectors(method, batch)
    logits, own = video @ text.T / 0.07, torch.arange(4)
    both = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    assert toys.losses(method, batch)["loss"].item() == pytest.approx(both.item(), abs=1e-9)


PINNED = [2.206191067, 0.952649075, 0.437403571, 0.263951092]


@pytest.mark.usefixtures("float64")
def test_pinned_losses():
    method, batch = sentence_method(toys.tower(same_everywhere(TextTransformer(text_config()), 0.1))), sentence_batch()
    same_everywhere(method.model, 0.1)
    optimizer = torch.optim.AdamW(method.optimizers()["main"].groups, lr=0.01)
    found = []
    for _ in range(4):
        loss = toys.losses(method, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == pytest.approx(PINNED, abs=1e-7)


def test_the_tower_is_frozen_and_kept_nowhere():
    method, batch = sentence_method(), sentence_batch()
    before = {name: tensor.clone() for name, tensor in method.text.tower.state_dict().items()}
    optimizer = torch.optim.AdamW(method.optimizers()["main"].groups, lr=0.01)
    toys.losses(method.train(), batch)["loss"].backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.text.tower.state_dict().items())
    assert all(name.startswith("model.") for name in method.state_dict())


def test_equal_videos_and_sentences_are_at_chance():
    method, batch = sentence_method(), sentence_batch()
    same = {name: values[:1].expand_as(values).contiguous() for name, values in batch.items()}
    assert toys.losses(method, same)["loss"].item() == pytest.approx(np.log(4), abs=1e-5)


def test_rows_of_a_video_are_sentences_about_it():
    rows = [
        Row("/a.mp4", text=" one\n thing "),
        Row("/b.mp4", text="two"),
        Row("/a.mp4", text="three"),
        Row("/a.mp4", None, 1, 2, text="4"),
    ]
    found = captioned(Rows.of(rows), "test")
    assert [(row.path, row.start_s, row.end_s) for row in found.videos] == [
        ("/a.mp4", None, None),
        ("/b.mp4", None, None),
        ("/a.mp4", 1, 2),
    ]
    assert found.texts == [["one thing", "three"], ["two"], ["4"]]


def test_rows_that_have_no_sentence():
    with pytest.raises(InputError, match=r"2 of 3 test rows have no text, the first is /b.mp4"):
        captioned(Rows.of([Row("/a.mp4", text="one"), Row("/b.mp4"), Row("/c.mp4", text="  ")]), "test")
    with pytest.raises(InputError, match="nothing to tell apart"):
        captioned(Rows.of([Row("/a.mp4", text="one"), Row("/a.mp4", text="two")]), "test")


def test_a_batch_has_a_sentence_of_every_video():
    words, texts = tokenizer(), [["a red square"], ["a dog", "the dog is running in the rain and in the rain"]]
    prepare = pairs(PromptedConfig(frames=2, gaps=(1,)), texts, words, 4)
    drawn = set()
    for seed in range(20):
        given = {
            "features": torch.randn(2, 5, toys.DIM),
            "length": torch.tensor([5, 3]),
            "uid": torch.tensor([1, 0]),
            "seed": torch.tensor([seed, 7]),
        }
        made = prepare(given, torch.device("cpu"))
        assert made["clip"].shape == (2, 2, toys.DIM)
        rows = [ids[:length].tolist() for ids, length in zip(made["ids"], made["lengths"], strict=True)]
        assert rows[1] == words.encode("a red square")[:4]
        drawn.add(tuple(rows[0]))
    assert drawn == {tuple(words.encode(text)[:4]) for text in texts[1]}
