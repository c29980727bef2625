import re

import numpy as np
from event_toys import EVENTS, detection

from tasks.core.data.segments.predictions import Event
from tasks.core.report.event_page import lanes_of, relative, write_report
from tasks.core.report.events import Curves


def page(tmp_path, **changes):
    path = tmp_path / "found" / "yard.events.html"
    write_report(path, detection(tmp_path / "videos" / "yard #1.mp4", **changes))
    return path.read_text(encoding="utf-8")


def test_the_player_finds_the_video_from_the_page(tmp_path):
    (tmp_path / "found").mkdir()
    html = page(tmp_path)
    assert 'src="../videos/yard%20%231.mp4"' in html
    assert relative(str(tmp_path / "found" / "a.mp4"), tmp_path / "found" / "a.html") == "a.mp4"
    assert 'data-zero="0.5"' in html  # players begin at 0 with a frame that is at 0.5 s


def test_a_lane_for_each_class_the_best_first(tmp_path):
    lanes, left_out = lanes_of(detection())
    assert [(lane.name, len(lane.blocks), len(lane.t)) for lane in lanes] == [("dog, barking", 1, 50), ("rain", 2, 50), ("wind", 0, 50)]
    assert left_out == []


def test_of_many_classes_those_without_events_have_no_lane():
    labels = [f"class {number}" for number in range(80)]
    curves = Curves(np.arange(4.0), np.zeros((4, 80), np.float16), labels)
    lanes, left_out = lanes_of(detection(curves=curves, events=[Event("class 7", 1, 2, 0.5)]))
    assert [lane.name for lane in lanes] == ["class 7"]
    assert len(left_out) == 79


def test_what_a_reader_must_know_is_on_the_page(tmp_path):
    html = page(tmp_path, damage="3 frames <missing>", notes=["the video has no sound"])
    assert "The video is damaged: 3 frames &lt;missing&gt;." in html
    assert "The video has no sound." in html


def test_nothing_is_fetched_from_elsewhere_and_no_label_is_markup(tmp_path):
    html = page(tmp_path, events=[*EVENTS, Event("<img src=x>", 1, 2, 0.5)])
    assert "<img" not in html
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)


def test_without_events_the_page_says_how_near_it_came(tmp_path):
    assert "There are no events. The highest score is 0.25." in page(tmp_path, events=[])


def test_proposals_are_called_events():
    lanes, _ = lanes_of(detection(events=[Event("", 1, 2, 0.5)], curves=Curves(np.arange(2.0), np.zeros((2, 1)), [""])))
    assert [(lane.name, len(lane.blocks)) for lane in lanes] == [("event", 1)]
