import json

from event_toys import detection

from tasks.core.data.segments.predictions import Event, read_predictions
from tasks.core.report.event_writers import SUFFIXES, write_file
from tasks.core.report.events import as_record


def written(tmp_path, kind, **changes):
    path = tmp_path / f"yard{SUFFIXES[kind]}"
    write_file(kind, path, detection(**changes))
    return path.read_text(encoding="utf-8")


def test_a_table(tmp_path):
    lines = written(tmp_path, "csv").splitlines()
    assert lines == ["video,start,end,score,label", 'yard,5.5,8.25,0.9,"dog, barking"', "yard,1.0,3.5,0.6,rain", "yard,2.0,9.0,0.05,rain"]


def test_subtitles_are_what_is_shown_on_the_clock_of_players(tmp_path):
    assert written(tmp_path, "srt") == (
        "1\n00:00:00,500 --> 00:00:03,000\nrain (0.60)\n\n2\n00:00:05,000 --> 00:00:07,750\ndog, barking (0.90)\n"
    )


def test_a_label_of_several_lines_is_one_line_of_a_subtitle(tmp_path):
    odd = [Event("a\n\nb --> c", 3600.0, 3661.5, 0.5)]
    assert written(tmp_path, "srt", events=odd, file_start_s=0.0) == "1\n01:00:00,000 --> 01:01:01,500\na b --> c (0.50)\n"


def test_results_of_activitynet(tmp_path):
    found = json.loads(written(tmp_path, "anet"))
    assert list(found["results"]) == ["yard"]
    assert found["results"]["yard"][0] == {"label": "dog, barking", "score": 0.9, "segment": [5.5, 8.25]}


def test_what_is_written_is_what_the_metric_reads(tmp_path):
    written(tmp_path, "anet")
    (tmp_path / "yard.events.json").write_text(json.dumps(as_record(detection())))
    written(tmp_path, "csv")
    own, public, table = (read_predictions(tmp_path / f"yard{SUFFIXES[kind]}", ["yard"]) for kind in ("json", "anet", "csv"))
    expected = [("dog, barking", [5.5, 8.25], 0.9), ("rain", [1.0, 3.5], 0.6), ("rain", [2.0, 9.0], 0.05)]
    for found in (own.events, public.events, table.events):
        assert set(found.video) == {"yard"}
        assert list(zip(found.label, found.segment.tolist(), found.score.tolist(), strict=True)) == expected
