"""BM25 by hand, and what counts as a word."""

import math

import numpy as np
import pytest

from tasks.prompting.search.words import bm25, words_of

TEXTS = ("The dog barks.", "A dog and another dog run", "Cats sleep", "")


def test_scores_by_hand():
    found = bm25("dog barks", TEXTS)
    average = (3 + 6 + 2 + 0) / 4
    dog, barks = math.log(1 + 2.5 / 2.5), math.log(1 + 3.5 / 1.5)
    first = (dog + barks) * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / average))
    second = dog * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 6 / average))
    np.testing.assert_allclose(found, [first, second, 0, 0], rtol=1e-12)


def test_rare_words_short_texts_and_repeats_count_more():
    rare, usual = bm25("zebra dog", ["zebra here", "dog here", "dog there", "dog again"])[:2]
    assert rare > usual
    short, long = bm25("dog", ["dog", "dog in a very long sentence about much else", "no", "none"])[:2]
    assert short > long
    once, twice = bm25("dog", ["dog cat", "dog dog", "no", "none"])[:2]
    assert twice > once


def test_a_word_of_the_query_counts_once():
    np.testing.assert_array_equal(bm25("dog dog DOG", TEXTS), bm25("dog", TEXTS))


def test_nothing_to_search():
    assert bm25("dog", []).shape == (0,)
    assert not bm25("...", TEXTS).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's the DOG’s café, naïve_day!", ["it's", "the", "dog's", "café", "naïve", "day"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("犬が吠える", ["犬", "が", "吠", "え", "る"]),
        ("ＡＢＣ 12.5", ["abc", "12", "5"]),
        ("🐶 – …", []),
        ("cafe\u0301", ["café"]),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_scripts_without_spaces_are_found_within_a_sentence():
    assert bm25("犬", ["猫が寝る", "犬が吠える"]).argmax() == 1
