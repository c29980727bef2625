"""The tokenizer against that of transformers, by hand, and on files that hold something else."""

import gzip
import json
import random
import unicodedata

import pytest
from clip_toys import SENTENCES, tokenizer

from tasks.core.errors import UsageError
from tasks.core.text.bpe import BYTES, END, START, read_tokenizer, words
from tasks.core.text.learn import learn_tokenizer
from tasks.core.towers.clip_write import write_tokenizer

PIECES = [
    *["cat", "Dog's", "it's", "we'LL", "O'Reilly", "don't", "'s", "''s", "!'s", "I'M", "1999", "3.5", "running", "x_y", "#tag", "@me"],
    *["...", "--", "http://a.b/c?d=e", "UPPER", "mixedCase"],
    *["A&amp;B", "&lt;b&gt;", "&#39;s", "&nbsp;", "<|endof", "|>"],  # html entities stay what they are
    *["naïve", "ÇA", "Straße", "ΟΔΟΣ", "İstanbul", "ﬁne", "日本語", "안녕", "e\u0301", "\u212b", "½", "²", "Ⅷ", "\u0660\u0661"],
    *["🐶", "👩‍👩‍👧", "🇩🇪", "☀️", START, END],
]
BLANKS = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u2028", "\x1c", "\x85", "\x00", "\ufeff"]


def odd_texts(n: int) -> list[str]:
    """Texts of words, blanks and signs from everywhere in Unicode that this Python knows."""
    draw = random.Random(0)
    known = [c for c in map(chr, range(0xA0, 0x2A6DF)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    kinds = (
        lambda: draw.choice(PIECES),
        lambda: draw.choice(BLANKS),
        lambda: chr(draw.randrange(32, 127)),
        lambda: draw.choice(known),
        lambda: draw.choice(draw.choice(SENTENCES).split()),
    )
    return ["".join(draw.choice(kinds)() for _ in range(draw.randrange(60))) for _ in range(n)]


def test_a_thousand_odd_texts_are_as_in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    own = tokenizer()
    write_tokenizer(tmp_path, own)
    theirs = transformers.CLIPTokenizerFast.from_pretrained(tmp_path)
    texts = odd_texts(1000)
    expected = theirs(texts, truncation=True, max_length=77)["input_ids"]
    different = [text for text, ids in zip(texts, expected, strict=True) if own.whole(text, 77) != list(ids)]
    assert different == []
    assert sum(len(ids) == 77 for ids in expected) > 100  # cut off
    assert theirs(texts[0])["input_ids"] == [own.start, *own.encode(texts[0]), own.end]


def test_by_hand():
    own = learn_tokenizer(["low low low lower"] * 2, 514 + 3)
    assert own.merges == [("l", "o"), ("lo", "w</w>"), ("e", "r</w>")]  # of equally frequent pairs the first in the alphabet
    token = {number: name for name, number in own.vocabulary.items()}
    assert [token[i] for i in own.encode("Low  lower")] == ["low</w>", "lo", "w", "er</w>"]
    assert own.whole("low " * 50, 5) == [own.start, *own.encode("low") * 3, own.end]
    assert own.whole("", 5) == [own.start, own.end]
    assert len(own) == 514 + 3


def test_words():
    assert words("It's 42 dogs!?  we'll\u00a0see'd x''s") == ["it", "'s", "4", "2", "dogs", "!?", "we", "'ll", "see", "'d", "x", "''", "s"]
    assert words("ΟΔΟΣ ½日本") == ["οδοσ", "½", "日本"]


def test_a_word_of_a_million_letters_takes_no_time():
    own = tokenizer()
    assert len(own.whole("abcdefgh" * 125_000, 77)) == 77


def test_the_three_forms_of_a_vocabulary_are_one(tmp_path):
    """vocab.json and merges.txt, tokenizer.json, and OpenAI's list of merges, which the size of the model's vocabulary cuts off."""
    own = tokenizer()
    write_tokenizer(tmp_path, own)
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": own.vocabulary}
    joined, listed = ({**model, "merges": merges} for merges in ([" ".join(pair) for pair in own.merges], own.merges))
    for name, content in (("joined.json", joined), ("listed.json", listed)):
        (tmp_path / name).write_text(json.dumps({"model": content, "added_tokens": [{"id": own.end, "content": END}]}))
    lines = ["version", *(" ".join(pair) for pair in own.merges), "q z", "z q"]
    (tmp_path / "merges.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = [read_tokenizer(tmp_path / name, len(own)) for name in (".", "joined.json", "listed.json", "merges.txt.gz")]
    text = f"A running dog's photograph — 日本語 {END}"
    assert {tuple(each.encode(text)) for each in found} == {tuple(own.encode(text))}
    assert all(each.vocabulary == own.vocabulary for each in found)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vocab.json", None, "has no vocabulary"),
        ("vocab.json", b"{", "cannot be read"),
        ("vocab.json", b"[1]", "no JSON object"),
        ("vocab.json", b'{"a": "b"}', "not a vocabulary"),
        ("vocab.json", b'{"a": 1}', "lacks the token"),
        ("merges.txt", b"#version\na b c\n", "not two symbols"),
        ("merges.txt", b"#version\nx q\n", "lacks the token 'xq'"),
        ("merges.txt", b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_vocabulary(tmp_path, name, content, said):
    write_tokenizer(tmp_path, tokenizer())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_tokenizer(tmp_path)


def test_the_vocabulary_of_another_model(tmp_path):
    write_tokenizer(tmp_path, tokenizer())
    with pytest.raises(UsageError, match=f"has {len(tokenizer())} tokens, the model knows 515"):
        read_tokenizer(tmp_path, 515)
    (tmp_path / "word.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 1}}}))
    with pytest.raises(UsageError, match="not CLIP's tokenizer"):
        read_tokenizer(tmp_path / "word.json")
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"a b\n" * 1000)[:20])
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokenizer(tmp_path / "torn.txt.gz")


def test_every_byte_has_a_sign_of_its_own():
    assert len(set(BYTES.values())) == 256
    assert not any(sign.isspace() for sign in BYTES.values())
