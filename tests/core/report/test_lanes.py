import re

import numpy as np

from tasks.core.report.lanes import Block, Lane, lanes, table

NOTHING = np.zeros(0)
LANES = [
    Lane("dog <b>", [Block(2, 4, 0.9), Block(0, 1, 0.1)], np.arange(5.0), np.array([0, 1, 0.5, 0, 0])),
    Lane("rain", [Block(1, 10, 0.5)], NOTHING, NOTHING),
]


def drawn(shown_from=0.2, source="a video #1.mp4"):
    return lanes(LANES, 0.0, 8.0, shown_from, source)


def blocks(html):
    return re.findall(
        r'<a class="block" href="#row-(\d)" data-mark="\d" data-from="([\d.]+)"[^>]*left:([\d.]+)%;width:([\d.]+)%[^>]*?( hidden)?>', html
    )


def test_blocks_lie_where_they_are_and_are_numbered_in_order_of_time():
    found = {number: (start, left, width, bool(hidden)) for number, start, left, width, hidden in blocks(drawn())}
    assert found == {
        "1": ("0.0000", "0.000", "12.500", True),  # below the score from which on they are shown
        "2": ("1.0000", "12.500", "87.500", False),  # beyond the end
        "3": ("2.0000", "25.000", "25.000", False),
    }


def test_every_block_has_its_row():
    rows = re.findall(r'<tr id="row-(\d)" data-mark="\d" data-score="([\d.]+)"( hidden)?><td><a[^>]*>([^<]*)</a>', table(LANES, 0.2))
    assert rows == [("1", "0.1000", " hidden", "dog &lt;b&gt;"), ("2", "0.5000", "", "rain"), ("3", "0.9000", "", "dog &lt;b&gt;")]


def test_a_curve_is_drawn_over_its_lane():
    html = drawn()
    assert '<polyline points="0.0,100.0 125.0,0.0 250.0,50.0 375.0,100.0 500.0,100.0"/>' in html
    assert html.count("<polyline") == 1  # the other lane has none


def test_names_and_addresses_cannot_become_markup():
    html = drawn(source='"><script>.mp4')
    assert "<b>" not in html
    assert "<script>" not in html
    assert 'src="%22%3E%3Cscript%3E.mp4"' in html
    assert 'src="a%20video%20%231.mp4"' in drawn()


def test_without_a_video_there_is_no_player():
    assert "<video" not in drawn(source=None)
