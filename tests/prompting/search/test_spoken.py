"""Which sentences belong to a video."""

import math

from tasks.core.data.captions import Sentence
from tasks.core.data.rows import Row
from tasks.prompting.search.spoken import beside, digest_of, sentences_about

SRT = "1\n00:00:01,000 --> 00:00:02,000\nA dog barks.\n\n2\n00:00:05,000 --> 00:00:06,500\nIt stops.\n"


def write(folder, *names):
    for name in names:
        (folder / name).write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nA dog barks.\n" if name.lower().endswith("vtt") else SRT)


def test_subtitles_beside_a_video_are_named_like_it(tmp_path):
    write(tmp_path, "film.srt", "film.en.vtt", "film.pt-BR.srt", "film.en.sdh.srt", "film.part2.srt", "film2.srt", "other.srt", "FILM.SRT")
    found = [path.name for path in beside(str(tmp_path / "film.mp4"))]
    assert found == ["FILM.SRT", "film.en.sdh.srt", "film.en.vtt", "film.pt-BR.srt", "film.srt"]
    assert [path.name for path in beside(str(tmp_path / "film.part2.mkv"))] == ["film.part2.srt"]
    assert beside(str(tmp_path / "none" / "film.mp4")) == []


def test_a_text_holds_for_the_whole_and_subtitles_for_their_times(tmp_path):
    write(tmp_path, "film.srt")
    found, wrong = sentences_about(Row(str(tmp_path / "film.mp4"), text=" A  dog\nin a yard "))
    assert found == [
        Sentence(0.0, math.inf, "A dog in a yard"),
        Sentence(1.0, 2.0, "A dog barks."),
        Sentence(5.0, 6.5, "It stops."),
    ]
    assert not wrong


def test_of_a_part_the_sentences_in_it(tmp_path):
    write(tmp_path, "film.srt")
    found, _ = sentences_about(Row(str(tmp_path / "film.mp4"), start_s=2.0, end_s=10.0))
    assert [sentence.text for sentence in found] == ["It stops."]


def test_a_named_file_counts_instead_and_a_damaged_one_is_told(tmp_path):
    write(tmp_path, "film.srt", "other.vtt")
    found, _ = sentences_about(Row(str(tmp_path / "film.mp4"), subtitles=str(tmp_path / "other.vtt")))
    assert [sentence.text for sentence in found] == ["A dog barks."]
    (tmp_path / "other.vtt").write_text("not subtitles")
    found, wrong = sentences_about(Row(str(tmp_path / "film.mp4"), subtitles=str(tmp_path / "other.vtt"), text="said"))
    assert [sentence.text for sentence in found] == ["said"]
    assert len(wrong) == 1
    assert "other.vtt" in wrong[0]


def test_the_digest_tells_changes():
    one = [Sentence(0.0, 1.0, "a")]
    assert digest_of(one) == digest_of(list(one))
    assert digest_of(one) != digest_of([Sentence(0.0, 1.5, "a")]) != digest_of([Sentence(0.0, 1.5, "b")])
