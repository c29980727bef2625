"""Words for labels, and their tokens."""

import json

import pytest
from clip_toys import CONTEXT, tokenizer

from tasks.core.errors import InputError
from tasks.core.reporter import Quiet
from tasks.prompting.names import tokens_of, words_of


class Told(Quiet):
    """Keeps what it is warned of."""

    def __init__(self):
        self.warnings = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_labels_become_words(tmp_path):
    assert words_of(["brush_hair", "a  dog"]) == ["brush hair", "a dog"]
    (tmp_path / "names.json").write_text(json.dumps({"brush_hair": "brush hairs"}))
    assert words_of(["brush_hair", "run"], str(tmp_path / "names.json")) == ["brush hairs", "run"]
    assert words_of(["brush_hair"], None, {"brush_hair": "as in training"}) == ["as in training"]


def test_names_that_cannot_be_told_apart(tmp_path):
    with pytest.raises(InputError, match="'a_dog' and 'A dog' have the same name"):
        words_of(["a_dog", "cat", "A dog"])
    with pytest.raises(InputError, match="'_' has no name"):
        words_of(["_"])
    (tmp_path / "names.json").write_text('{"a": 3}')
    with pytest.raises(InputError, match="name of 'a' is no text"):
        words_of(["a"], str(tmp_path / "names.json"))


def test_long_names_are_cut_and_said():
    told, long = Told(), "the dog's running, isn't it? " * 4
    tokens = tokens_of(["dog", long, "🐶"], tokenizer(), CONTEXT - 8, told)
    assert tokens.lengths.max() == CONTEXT - 8
    assert tokens.ids.shape == (3, CONTEXT - 8)
    assert tokens.ids[1].tolist() == tokenizer().encode(long)[: CONTEXT - 8]
    assert tokens.lengths[2] >= 1
    assert tokens.cut == (long,)
    assert "1 of 3 texts are cut" in told.warnings[0]


def test_no_room():
    with pytest.raises(InputError, match="leave no token for a name"):
        tokens_of(["dog"], tokenizer(), 0)


def test_labels_as_words():
    labels = ["brush_hair", "BaseballPitch", "YoYo", "CleanAndJerk", "BMX", "iPhone", "a MacBook falls", "Playing_YoYo"]
    words = ["brush hair", "Baseball Pitch", "Yo Yo", "Clean And Jerk", "BMX", "iPhone", "a MacBook falls", "Playing YoYo"]
    assert words_of(labels) == words
