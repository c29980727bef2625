"""One list of boundaries from the marks that an annotator of Kinetics-GEBD made."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

MARGIN_S = 0.3
"""Shortest duration of a change: nothing counts this close to an end, and two changes closer than twice this are one."""


def changes(items: Iterable[Mapping[str, Any]], duration_s: float, rules: Literal["public", "written"] = "public") -> list[float]:
    """One annotator's boundaries in seconds, sorted, from his raw marks `start_time`, `end_time` (s) and `label`.

    A mark's time is its middle; marks whose middle is less than 0.3 s from an end of the video are dropped. Gradual shot changes that
    overlap are merged; events and shot changes within 0.3 s of one are dropped. Of two events, or two shot changes, at most 0.6 s apart
    the second is dropped; of an event and a shot change the event.

    `written` does just that. `public` gives the published labels bit for bit, that is, what the authors' notebook does
    (prepare_k400_release.ipynb): it takes gradual changes in the order they were marked; after dropping a mark inside one it does not look
    at the next mark; and it never compares the last shot change with the events.
    """
    public = rules == "public"
    ranges, events, shots = [], [], []
    for item in items:
        start, end, label = item["start_time"], item["end_time"], item["label"].split(" ")[0].rstrip(":")
        middle = (start + end) / 2
        if middle < MARGIN_S or middle > duration_s - MARGIN_S:
            continue
        if label == "ShotChangeGradualRange":
            ranges.append((start, end))
        else:
            (events if label == "EventChange" else shots).append(middle)
    ranges = _merged(ranges if public else sorted(ranges))
    events = _apart(_outside(events, ranges, public))
    shots = _apart(_outside(shots, ranges, public))
    stronger = shots[:-1] if public else shots
    events = [event for event in events if all(abs(shot - event) > 2 * MARGIN_S for shot in stronger)]
    return sorted(events + shots + [(start + end) / 2 for start, end in ranges])


def _merged(ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each range joined with those that follow it as long as they begin before it ends; the start of the first, the latest end."""
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    i = 0
    while i < len(starts) - 1:
        if ends[i] >= starts[i + 1]:
            starts.remove(starts[i + 1])  # the first of this value, as in the notebook: matters when unsorted ranges share one
            ends.remove(min(ends[i], ends[i + 1]))
        else:
            i += 1
    return list(zip(starts, ends, strict=True))


def _outside(times: list[float], ranges: list[tuple[float, float]], skips: bool) -> list[float]:
    """The times more than MARGIN_S away from every range. skips: the time after a dropped one stays unseen."""
    kept, dropped = [], False
    for time in times:
        unseen = skips and dropped
        dropped = not unseen and any(start - MARGIN_S <= time <= end + MARGIN_S for start, end in ranges)
        if not dropped:
            kept.append(time)
    return kept


def _apart(times: list[float]) -> list[float]:
    """Sorted times without those at most 2 x MARGIN_S after the one before that stays."""
    kept: list[float] = []
    for time in sorted(times):
        if not kept or time - kept[-1] > 2 * MARGIN_S:
            kept.append(time)
    return kept
