import re
from html import unescape

import numpy as np

from tasks.core.report.timeline import Curve, Mark, clock, peaks, timeline

T = np.arange(11) / 10
NOUNS = ("interval", "intervals")


def points(html, number=0):
    found = re.search(rf'<polyline class="curve[^"]*"[^>]*data-curve="{number}"[^>]*points="([^"]*)"', html)
    return [tuple(map(float, point.split(","))) for point in found[1].split()]


def test_clock():
    cases = (0, 59.9996, 3599.9994, 3600, 36061.5, -0.04)
    assert [clock(t) for t in cases] == ["0:00.000", "1:00.000", "59:59.999", "1:00:00.000", "10:01:01.500", "-0:00.040"]


def test_peaks_keep_the_highest_of_every_column():
    rng = np.random.default_rng(0)
    t = 5 + np.sort(rng.random(20000)) * 100
    value = rng.random(20000).astype(np.float32)
    kept = peaks(t, value, 5.0, 100.0, buckets=300)
    column = np.minimum(((t - 5) / 100 * 300).astype(int), 299)
    assert np.array_equal(column[kept], np.arange(300))
    assert all(value[k] == value[column == c].max() for c, k in enumerate(kept))
    assert np.array_equal(peaks(t[:300], value[:300], 5.0, 100.0, buckets=300), np.arange(300))


def test_curves_are_drawn_on_their_own_scale():
    html = timeline([Curve("score", T, T * 4 - 1, -1, 3), Curve("motion", T, T * 10, 0, 10)], [], 0.0, 1.0, 1.0, NOUNS)
    assert points(html)[0] == (0, 100)
    assert points(html)[5] == (500, 50)
    assert points(html, 1)[10] == (1000, 0)
    assert 'class="threshold" x1="0" x2="1000" y1="50"' in html
    assert re.findall(r'class="label level" style="top:([\d.]+)%">([^<]*)<', html) == [("100", "-1"), ("0", "3"), ("50", "1")]
    assert "motion (0 to 10)" in html


def test_a_threshold_outside_the_scale_is_not_drawn():
    assert 'class="threshold"' not in timeline([Curve("score", T, T)], [], 0.0, 1.0, 1.5, NOUNS)
    assert 'class="threshold"' not in timeline([Curve("score", T, T)], [], 0.0, 1.0, None, NOUNS)


def test_marks_are_places_or_stretches():
    html = timeline([Curve("score", T, T)], [Mark(0.25, "a", "x-1"), Mark(0.5, "b", "x-2", 0.75)], 0.0, 1.0, None, NOUNS)
    assert '<a class="marker" style="left:25.0000%" href="#x-1" aria-label="a">' in html
    assert '<a class="marker span" style="left:50.0000%;width:25.0000%" href="#x-2" aria-label="b">' in html
    assert "2 intervals" in html


def test_only_further_curves_can_be_hidden():
    html = timeline([Curve("score", T, T), Curve("motion", T, T), Curve("change", T, T)], [], 0.0, 1.0, None, NOUNS)
    assert re.findall(r'data-shows="(\d)"', html) == ["1", "2"]
    assert "data-shows" not in timeline([Curve("score", T, T)], [], 0.0, 1.0, None, NOUNS)


def test_names_cannot_become_markup():
    evil = '<b>"'
    html = timeline([Curve(evil, T, T), Curve(evil, T, T)], [Mark(0.5, evil, evil)], 0.0, 1.0, None, NOUNS)
    assert "<b>" not in html
    assert f'aria-label="{evil}"' in unescape(html)


def test_nothing_to_draw():
    html = timeline([Curve("score", T[:0], T[:0])], [], 0.0, 0.0, 0.5, NOUNS)
    assert "polyline" not in html
    assert "0 intervals" in html
