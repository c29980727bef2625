import csv
import json
import os
import re
from fractions import Fraction

import numpy as np
import pytest
from detection_helpers import detection

from tasks.boundaries.result import Boundary, as_record
from tasks.boundaries.writers import SUFFIXES, timecode_rate, write_csv, write_edl, write_file

# the columns of a CMX 3600 event: number, reel (8), track, kind of edit, source in and out, record in and out
EVENT = re.compile(r"(\d{3,})  (.{8}) (V)     (C)        " + r" ".join([r"(\d\d:\d\d:\d\d:\d\d)"] * 4))


def parse_edl(path, count):
    """(title, [(source in, source out) in frames]); checks every line and that the list is one unbroken run of events."""
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0].startswith("TITLE: ")
    assert lines[1] == "FCM: NON-DROP FRAME"
    spans = []
    for line in lines[2:]:
        if not line or line.startswith("* "):
            continue
        found = EVENT.fullmatch(line)
        assert found, line
        number, reel, _, _, *codes = found.groups()
        assert int(number) == len(spans) + 1
        assert reel.strip() == "AX"
        assert codes[:2] == codes[2:]
        span = []
        for code in codes[:2]:
            hours, minutes, seconds, frames = map(int, code.split(":"))
            assert minutes < 60
            assert seconds < 60
            assert frames < count
            span.append(((hours * 60 + minutes) * 60 + seconds) * count + frames)
        assert span[0] < span[1]
        assert span[0] == (spans[-1][1] if spans else 0)
        spans.append(tuple(span))
    return lines[0].removeprefix("TITLE: "), spans


def edl(path, found):
    write_edl(path, found)
    return parse_edl(path, timecode_rate(found.fps)[0])[1]


def test_record_is_plain_json():
    found = detection(damage="ends early", boundaries=[Boundary(np.float64(1.6), np.int64(40), np.float32(0.75))])
    record = json.loads(json.dumps(as_record(found)))
    assert list(record) == [
        *["video", "method", "boundaries", "n_frames", "fps", "duration_s", "start_s", "width", "height", "settings", "damage", "part"],
    ]
    assert record["boundaries"] == [{"t": 1.6, "frame": 40, "score": 0.75}]
    assert (record["video"], record["damage"], record["duration_s"]) == ("videos/clip.mp4", "ends early", 4.0)
    assert record["settings"]["merge"] == {"rule": "window", "window_s": 1.0}


def test_csv_files(tmp_path):
    found = detection([29, 30], fps=15.0, path="vidéo.mp4")
    write_csv(tmp_path / "a.csv", found)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["t", "frame", "score", "kind"], ["1.933333", "29", "0.600000", ""], ["2.000000", "30", "0.900000", ""]]
    write_csv(tmp_path / "none.csv", detection([]))
    assert (tmp_path / "none.csv").read_text() == "t,frame,score,kind\n"
    write_csv(tmp_path / "kind.csv", detection(boundaries=[Boundary(1.6, 40, 0.9, "event")]))
    assert (tmp_path / "kind.csv").read_text().splitlines()[1] == "1.600000,40,0.900000,event"


def test_a_file_name_that_is_no_utf8_can_be_written(tmp_path):
    found = detection(path=os.fsdecode(b"caf\xe9.mp4"))
    for kind in ("edl", "html"):
        write_file(kind, tmp_path / kind, found)
        assert "caf\ufffd.mp4" in (tmp_path / kind).read_text(encoding="utf-8")
    assert as_record(found)["video"] == "caf\ufffd.mp4"


@pytest.mark.parametrize(
    ("fps", "count", "rate"),
    [
        (24000 / 1001, 24, Fraction(24000, 1001)),
        (23.98, 24, Fraction(24000, 1001)),
        (24.0, 24, 24),
        (25.0, 25, 25),
        (24.97, 25, 25),
        (29.97, 30, Fraction(30000, 1001)),
        (30.0, 30, 30),
        (59.94, 60, Fraction(60000, 1001)),
        (15.0, 15, 15),
        (27.31, 27, 27),
        (0.2, 1, 1),
        (100.0, 50, 50),
        (119.88, 60, Fraction(60000, 1001)),
        (240.0, 60, 60),
    ],
)
def test_rates(fps, count, rate):
    assert timecode_rate(fps) == (count, rate)


@pytest.mark.parametrize("fps", [15.0, 24000 / 1001, 25.0, 30000 / 1001, 60000 / 1001])
@pytest.mark.parametrize("start", [0.0, 0.083])
def test_edl_of_a_constant_rate_has_the_frame_numbers_of_the_video(tmp_path, fps, start):
    n = round(3600 * fps)
    cuts = [1, 2, 1000, n // 2, n - 1]
    spans = edl(tmp_path / "a.edl", detection(cuts, pts=start + np.arange(n) / fps, fps=fps))
    assert spans == list(zip([0, *cuts], [*cuts, n], strict=True))


def test_edl_timecodes_of_ntsc_are_not_dropped(tmp_path):
    # at 29.97 frame 1800 is the 61st second of the count although 60.06 s have passed; drop frame would call it 00:01:00:02
    write_edl(tmp_path / "a.edl", detection([1800], n_frames=1900, fps=30000 / 1001))
    lines = (tmp_path / "a.edl").read_text().split("\n")
    assert lines[3] == "001  AX       V     C        00:00:00:00 00:01:00:00 00:00:00:00 00:01:00:00"
    assert lines[4:6] == ["* FROM CLIP NAME: clip.mp4", "* COMMENT: 29.97 FPS, TIMECODES COUNT 30 FRAMES PER SECOND"]
    assert lines[7] == "002  AX       V     C        00:01:00:00 00:01:03:10 00:01:00:00 00:01:03:10"


def test_edl_without_boundaries_is_the_whole_video(tmp_path):
    assert edl(tmp_path / "a.edl", detection([])) == [(0, 100)]


def test_edl_drops_cuts_that_leave_nothing(tmp_path):
    found = detection(boundaries=[Boundary(t, 0, 0.9) for t in (0.0, 0.001, 1.0, 1.01, 4.0, 4.2)])
    assert edl(tmp_path / "a.edl", found) == [(0, 25), (25, 100)]


def test_edl_of_a_varying_rate_takes_the_nearest_number(tmp_path):
    pts = 0.5 + np.cumsum(np.random.default_rng(0).uniform(1 / 60, 1 / 12, 3000))
    found = detection(range(10, 3000, 2), pts=pts, fps=2999 / (pts[-1] - pts[0]))
    spans = edl(tmp_path / "a.edl", found)
    count = timecode_rate(found.fps)[0]
    for boundary in found.boundaries:
        nearest = min(abs(first / count - (boundary.t - pts[0])) for first, _ in spans)
        assert nearest <= 0.5 / count + 1e-9


def test_edl_beyond_999_events_and_24_hours(tmp_path):
    n = 30 * 3600 * 5
    cuts = list(range(100, n, 400))
    assert len(cuts) > 999
    spans = edl(tmp_path / "a.edl", detection(cuts, n_frames=n, fps=5.0))
    assert [first for first, _ in spans[1:]] == cuts
    assert spans[-1][1] == n


def test_edl_survives_file_names(tmp_path):
    found = detection(path="/videos/line\nbreak\t" + "x" * 90 + ".mp4")
    write_edl(tmp_path / "a.edl", found)
    title, spans = parse_edl(tmp_path / "a.edl", 25)
    assert title == "line break " + "x" * 59
    assert len(spans) == 3
    assert (tmp_path / "a.edl").read_text().count("* FROM CLIP NAME: line break xxx") == 3


def test_every_kind_but_the_record_is_written_whole_and_has_a_name_of_its_own(tmp_path):
    beats = []
    for kind in SUFFIXES.keys() - {"json"}:
        write_file(kind, tmp_path / f"clip{SUFFIXES[kind]}", detection(), None, beats.append)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"clip.boundaries.{ending}" for ending in ("csv", "edl", "html", "scores.csv")]
    assert all(path.stat().st_size for path in tmp_path.iterdir())


def test_edl_of_a_part_counts_the_source_from_the_start_of_the_file(tmp_path):
    write_edl(tmp_path / "a.edl", detection(frames=(25,), n_frames=50, pts=np.arange(50) / 25 + 5, file_start_s=0.0))
    events = [line.split()[-4:] for line in (tmp_path / "a.edl").read_text().splitlines() if line[:3].isdigit()]
    assert events == [
        ["00:00:05:00", "00:00:06:00", "00:00:00:00", "00:00:01:00"],
        ["00:00:06:00", "00:00:07:00", "00:00:01:00", "00:00:02:00"],
    ]
