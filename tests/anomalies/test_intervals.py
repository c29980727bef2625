import numpy as np
from found_anomalies import scores_of

from tasks.anomalies.intervals import find


def spans(found):
    return [(round(i.start_s, 6), round(i.end_s, 6), i.start_frame, i.end_frame) for i in found]


def test_runs_end_where_their_last_frame_ends():
    found = find(scores_of([0, 0.5, 0.7, 0.4, 0, 0.9]), 0.5, 0.6)
    assert spans(found) == [(0.1, 0.3, 1, 2), (0.5, 0.6, 5, 5)]
    assert (found[0].peak, found[0].peak_s, found[0].peak_frame) == (np.float32(0.7), 0.2, 2)


def test_all_none_and_no_frames():
    assert spans(find(scores_of([1, 1, 1]), 0.5, 0.3)) == [(0.0, 0.3, 0, 2)]
    assert find(scores_of([0.1, 0.2]), 0.5, 0.2) == []
    assert find(scores_of([]), 0.5, 0.0) == []


def test_uneven_times_count():
    found = find(scores_of([1, 1, 0, 1], pts=[5.0, 5.1, 7.0, 7.5]), 0.5, 9.0)
    assert spans(found) == [(5.0, 7.0, 0, 1), (7.5, 9.0, 3, 3)]


def test_gaps_are_joined_before_short_runs_are_dropped():
    flicker = scores_of([0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 1])
    assert len(find(flicker, 0.5, 1.1)) == 4
    assert spans(find(flicker, 0.5, 1.1, min_duration_s=0.3, join_gap_s=0.1)) == [(0.1, 0.6, 1, 5)]
    assert find(flicker, 0.5, 1.1, min_duration_s=0.3) == []
    # exactly as long, and a gap exactly as wide, count; 0.1 s is not an exact float
    assert len(find(flicker, 0.5, 1.1, min_duration_s=0.1)) == 4
    assert spans(find(flicker, 0.5, 1.1, join_gap_s=0.4)) == [(0.1, 1.1, 1, 10)]


def test_a_peak_may_lie_behind_a_joined_gap():
    (found,) = find(scores_of([0.6, 0.1, 0.95, 0.7]), 0.5, 0.4, join_gap_s=0.1)
    assert (found.peak_frame, found.peak_s) == (2, 0.2)
