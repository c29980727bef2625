"""Sentences of a person's files."""

import json

import pytest

from tasks.alignment.sentences import read_script
from tasks.core.errors import InputError

ENTRIES = (
    "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Add salt</i>\r\n",
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n\r\n",
    "3\r\n00:00:03,500 --> 00:00:05,000\r\nשלום 🧂 hi\r\n",
)
SRT = "\r\n".join(ENTRIES)


def test_subtitles_keep_everything_but_their_times(tmp_path):
    """Also what has no text, markup, ends of lines, right-to-left text and emoji."""
    file = tmp_path / "a.srt"
    file.write_bytes(SRT.encode())
    script = read_script(file)
    assert script.texts == ["Add salt", "שלום 🧂 hi"]
    assert script.times == [(1, 2.5), (3.5, 5)]
    moved = script.retimed([(11, 12.5), (0.25, 1.75)])
    assert moved == SRT.replace("00:00:01,000 --> 00:00:02,500", "00:00:11,000 --> 00:00:12,500").replace(
        "00:00:03,500 --> 00:00:05,000", "00:00:00,250 --> 00:00:01,750"
    )


def test_plain_text_is_a_sentence_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("Add  salt.\n\n Stir it for a very long time until it is done\n")
    script = read_script(tmp_path / "a.txt")
    assert script.texts == ["Add salt.", "Stir it for a very long time until it is done"]
    assert script.times is None
    assert script.durations == [0.8, 4.4]
    assert script.retimed([(0, 1), (1, 2)]) is None


def test_another_encoding_is_said(tmp_path):
    (tmp_path / "a.txt").write_bytes("crème brûlée".encode("cp1252"))
    script = read_script(tmp_path / "a.txt")
    assert (script.texts, script.notes) == (["crème brûlée"], ["a.txt is not in UTF-8: it was read as Windows-1252"])


@pytest.mark.parametrize(
    ("content", "texts", "times"),
    [
        (["a", " ", "b"], ["a", "b"], None),
        ({"sentences": [{"text": "a", "start": 1, "end": 2}]}, ["a"], [(1, 2)]),
        ([[1, 2, 3.5, "a b"], [0, 4, 5, "c"]], ["a b", "c"], [(2, 3.5), (4, 5)]),
    ],
)
def test_json(tmp_path, content, texts, times):
    (tmp_path / "a.json").write_text(json.dumps(content))
    script = read_script(tmp_path / "a.json")
    assert (script.texts, script.times) == (texts, times)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "\n \n", "no sentences"),
        ("a.srt", "1\n00:00:05,000 --> 00:00:04,000\nhi\n", "line 2: the entry ends"),
        ("a.srt", "1\n00:00:03,000 --> 00:00:04,000\n\n", "say nothing"),
        ("a.json", "[", "cannot be read as JSON"),
        ("a.json", "[]", "no sentences"),
        ("a.json", '[{"text": "a", "start": 3, "end": 1}]', "sentence 1 ends at 1 s"),
        ("a.json", '[{"text": "a", "start": 3, "end": 4}, "b"]', "1 of 2 sentences have times"),
        ("a.json", "[3]", "sentence 1 has no text"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told):
        read_script(tmp_path / name)
