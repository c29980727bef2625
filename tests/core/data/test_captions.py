"""Subtitle files as timed sentences, with what people's files hold: marks, positions, empty entries, old encodings, damage."""

import math
import time

import pytest

from tasks.core.data.captions import FALLBACK, Sentence, read_subtitles, sentences_of, subtitles_digest
from tasks.core.data.rows import Row
from tasks.core.errors import InputError

SRT = """1
00:00:01,000 --> 00:00:02,500 X1:40 X2:600
{\\an8}<i>Hello</i> &amp; <font color="#fff">bye</font>
x < y

2
00:00:03,000 --> 00:00:04,000

3
00:00:05,020 --> 00:00:06,000
A --> B

still the third

4
01:00:05,000 --> 01:00:06,000
I count
3
"""

VTT = """WEBVTT - title
Kind: captions

STYLE
::cue { color: red }

NOTE 00:01 --> not an entry

intro
00:01.000 --> 00:02.500 align:start
<v Roger Bingham>We are <c.loud>in</c> New <00:01.500>York&nbsp;City
- two

NOTE
of many
lines

01:00:00.000 --> 01:00:01.000

2
00:03.000 --> 00:04.000
last"""


@pytest.fixture
def write(tmp_path):
    def write(name, text, encoding="utf-8"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return file

    return write


def test_srt(write):
    read = read_subtitles(write("a.srt", SRT))
    assert (read.format, read.encoding) == ("srt", "utf-8")
    assert read.sentences == [
        Sentence(1.0, 2.5, "Hello & bye x < y"),
        Sentence(5.02, 6.0, "A --> B still the third"),
        Sentence(3605.0, 3606.0, "I count 3"),
    ]
    assert [(cue.line, cue.sentence.text) for cue in read.cues][:2] == [(2, "Hello & bye x < y"), (7, "")]


def test_vtt(write):
    read = read_subtitles(write("a.vtt", VTT))
    assert (read.format, read.encoding) == ("vtt", "utf-8")
    assert read.sentences == [Sentence(1.0, 2.5, "We are in New York City - two"), Sentence(3.0, 4.0, "last")]
    assert [cue.line for cue in read.cues] == [10, 18, 21]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "text"), [("a.srt", SRT), ("a.vtt", VTT)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_times_and_nothing_else_changed(write, name, text, newline, encoding):
    text = text.replace("\n", newline)
    read = read_subtitles(write(name, text, encoding))
    assert (read.content, read.encoding) == (text, encoding)
    times = [(cue.sentence.start_s, cue.sentence.end_s) for cue in read.cues]
    assert read.retimed(times) == text
    moved = read_subtitles(write(name, read.retimed([(a + 3600.25, b + 3600.25) for a, b in times]), encoding))
    assert [(cue.sentence.start_s, cue.sentence.end_s) for cue in moved.cues] == [(a + 3600.25, b + 3600.25) for a, b in times]
    assert [cue.sentence.text for cue in moved.cues] == [cue.sentence.text for cue in read.cues]
    assert moved.retimed(times).replace("00:00:", "00:").replace("00:0", "0") == text.replace("00:00:", "00:").replace("00:0", "0")
    with pytest.raises(ValueError):
        read.retimed(times[1:])


def test_times_are_rounded_and_carried(write):
    read = read_subtitles(write("a.srt", "1\n00:00:01.000 --> 00:00:02,000\nA\n"))
    assert read.retimed([(-1.0, 59.9996)]) == "1\n00:00:00.000 --> 00:01:00,000\nA\n"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("00:00:01.000 --> 00:00:02.000\nOne\n\n00:00:03,000 --> 00:00:04,5\nTwo", [(1, 2, "One"), (3, 4.5, "Two")]),  # no numbers
        ("\n\n7\n0:0:1,000 --> 0:0:2,000\n42\n\n\n\n9\n00:00:02,000 --> 00:00:02,000\nB", [(1, 2, "42"), (2, 2, "B")]),
        ("1\n00:00:01,000 --> 00:00:02,000\nA\n2\n00:00:03,000 --> 00:00:04,000\nB\n", [(1, 2, "A"), (3, 4, "B")]),  # no blank line
        ("2\n00:00:03,000 --> 00:00:04,000\nB\n\n1\n00:00:01,000 --> 00:00:02,000\nA\n", [(3, 4, "B"), (1, 2, "A")]),  # the file's order
    ],
)
def test_files_as_they_are_found(write, text, sentences):
    assert read_subtitles(write("a.srt", text)).sentences == [Sentence(*values) for values in sentences]


def test_encodings(write):
    text = "1\n00:00:01,000 --> 00:00:02,000\nCafé – naïve\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        read = read_subtitles(write("a.srt", text, encoding))
        assert (read.sentences[0].text, read.encoding) == ("Café – naïve", encoding)
    assert FALLBACK == "cp1252"
    big_endian = read_subtitles(write("a.srt", b"\xfe\xff" + text.encode("utf-16-be")))
    assert big_endian.sentences[0].text == "Café – naïve"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\nA\n\n2\n00:00:0x,000 --> 00:00:03,000\nB\n",
            "line 6: '00:00:0x,000 --> 00:00:03,000'",
        ),
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nA\n", "line 2: the entry ends at 00:00:02,000, before it begins at 00:00:03,000"),
        ("a.srt", "1\n-00:00:03,000 --> 00:00:02,000\nA\n", "line 2: '-00:00:03"),
        ("a.srt", "1\n00:00:75,000 --> 00:01:20,000\nA\n", "line 2: '00:00:75"),
        ("a.srt", "1\n00:00:01,0000 --> 00:00:02,000\nA\n", "line 2: '00:00:01,0000"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,0000\nA\n", "line 2: '00:00:01,000 --> 00:00:02,0000"),
        ("a.srt", "1\n00:00:01 --> 00:00:02\nA\n", "line 2: '00:00:01 -->"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n00:00:01,000 and 00:00:02,000\n\n2\n00:00:03,000 --> 00:00:04,000\nB\n", "line 6"),
        ("a.vtt", "WEBVTT\n\n00:00:01,000 --> 00:00:02,000\nA\n", "line 3: '00:00:01,000 --> 00:00:02,000'"),
        ("a.vtt", "1\n00:00:01.000 --> 00:00:02.000\nA\n", "line 1: a WebVTT file begins with WEBVTT"),
        ("a.srt", "", "no subtitles in it"),
        ("a.srt", "a novel\nwithout times\n", "no subtitles in it"),
        ("a.vtt", "WEBVTT\n\nNOTE nothing\n", "no subtitles in it"),
        ("a.srt", bytes(range(256)), "not a text file"),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\n\x81\n", "neither in UTF-8 nor in Windows-1252"),
    ],
)
def test_damaged_files_name_file_and_line(write, name, text, said):
    with pytest.raises(InputError) as error:
        read_subtitles(write(name, text))
    assert said in error.value.message
    assert name in error.value.message


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "missing.srt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_subtitles(path)
        assert subtitles_digest(str(path)) == "missing"


@pytest.mark.parametrize(
    "text", ["1" * 200_000, "a" + "\n" * 30_000 + "b", "<a" * 100_000, "{\\" * 100_000, " \n7 " * 50_000, "-->" * 100_000]
)
@pytest.mark.parametrize("head", ["1\n00:00:01,000 --> 00:00:02,000\n", "WEBVTT\n\n00:01.000 --> 00:02.000\n"])
def test_time_grows_with_the_length_of_a_file_only(write, head, text):
    began = time.process_time()
    try:
        assert len(read_subtitles(write("a.txt", head + text)).cues) == 1
    except InputError:
        assert "-->" in text
    assert time.process_time() - began < 10


def test_sentences_of_rows(write):
    file = str(write("a.srt", SRT))
    assert sentences_of(Row("/v.mp4")) == []
    assert sentences_of(Row("/v.mp4", text="two\n words")) == [Sentence(0.0, math.inf, "two words")]
    assert sentences_of(Row("/v.mp4", None, 1.5, 3.0, text="said", subtitles=file)) == [Sentence(1.5, 3.0, "said")]
    assert len(sentences_of(Row("/v.mp4", subtitles=file))) == 3
    assert [each.text for each in sentences_of(Row("/v.mp4", None, 2.5, 5.03, subtitles=file))] == ["A --> B still the third"]
    assert [each.start_s for each in sentences_of(Row("/v.mp4", None, 2.4, 5.02, subtitles=file))] == [1.0]
    with pytest.raises(InputError):
        sentences_of(Row("/v.mp4", subtitles=file + ".gone"))


@pytest.mark.real
def test_real_subtitles(real_data):
    from tasks.core.data.manifest import read_sources

    rows = read_sources([str(real_data / "narrated")])
    assert len(rows) == 60
    for row in rows:
        read = read_subtitles(row.subtitles)
        assert len(read.sentences) == 24
        assert all(len(sentence.text.split()) == 6 for sentence in read.sentences)
        assert read.retimed([(cue.sentence.start_s, cue.sentence.end_s) for cue in read.cues]) == read.content
    assert len([row for row in read_sources([str(real_data / "grid")], "train") if len(sentences_of(row)) == 1]) == 600
