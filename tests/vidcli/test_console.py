import io
import json

import numpy as np
import pytest

from vidcli import console as module
from vidcli.console import Console
from vidcli.format import aligned, duration, rate, strict


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_results_go_to_stdout_and_talk_to_stderr(capsys):
    console = Console()
    console.info("hello")
    console.warn("careful")
    console.error("broken", "mend it")
    console.result({"top1": 50.0, "n": 4, "views": None})
    written = capsys.readouterr()
    assert written.err == "hello\nwarning: careful\nerror: broken\nhint: mend it\n"
    assert written.out.split() == ["top1", "50", "n", "4", "views", "-"]


def test_quiet_keeps_warnings_and_results(capsys):
    console = Console()
    console.quiet = True
    console.info("hello")
    console.warn("careful")
    with console.progress("reading", 10) as bar:
        bar.advance(10)
    console.result({"n": 1})
    written = capsys.readouterr()
    assert written.err == "warning: careful\n"
    assert written.out


def test_json_lines_hold_what_json_can_hold(capsys):
    console = Console()
    console.json = True
    console.table([{"a": float("nan"), "b": np.float32(0.5), "c": np.arange(2)}, {"a": "é", "b": {1: (1, 2)}}])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": None, "b": 0.5, "c": [0, 1]}, {"a": "é", "b": {"1": [1, 2]}}]
    assert "é" in lines[1]


def test_progress_without_a_terminal_is_a_line_soon_and_then_every_half_minute(capsys, clock):
    console = Console()
    with console.progress("training", 100, "step", start=10) as bar:
        for _ in range(90):
            clock[0] += 1.0
            bar.advance(loss=0.25)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 12/100 step, 1 step/s, ETA 1:28, loss 0.25"
    assert [line.split()[1] for line in lines] == ["12/100", "42/100", "72/100", "100/100"]
    assert lines[-1].endswith("after 1:30, loss 0.25")


def test_progress_on_a_terminal_is_a_bar_and_talk_does_not_tear_it(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    with console.progress("training", 3, "step") as bar:
        bar.advance(loss=0.5)
        console.info("[a line] of reporter")
        bar.advance(2)
    assert "3/3" in screen.getvalue()
    assert "[a line] of reporter\n" in screen.getvalue()


def test_colour_only_on_a_terminal_and_not_with_no_color(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Console().warn("x")
    assert "\x1b[33m" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    Console().warn("plain")
    assert screen.getvalue().endswith("warning: plain\n")


def test_the_log_gets_what_is_said_even_when_quiet(tmp_path, capsys):
    console = Console()
    console.quiet = True
    console.attach_log(tmp_path / "log.txt")
    console.info("one\ntwo")
    console.warn("three")
    console.detach_log()
    console.info("four")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["one", "two", "warning: three"]


def test_a_worker_that_is_not_the_first_says_errors_only(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RANK", "1")
    console = Console()
    console.info("x")
    console.result({"n": 1})
    console.attach_log(tmp_path / "log.txt")
    console.error("broken")
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "[rank 1] error: broken\n")
    assert not (tmp_path / "log.txt").exists()


def test_text_helpers():
    assert aligned([{"a": 1, "b": "x"}, {"a": 100, "b": True}], ["a", "b"]) == "  a  b\n  1  x\n100  yes"
    assert (duration(59.6), duration(3661)) == ("1:00", "1:01:01")
    assert (rate(10, 5, "clip"), rate(1, 4, "clip"), rate(0, 1, "clip")) == ("2 clip/s", "4 s/clip", "")
    assert strict({"p": float("inf")}) == {"p": None}


WIDE = [
    {"name": "masked/tats-tiny", "n": 3, "what": "TATS at toy size, two minutes on 2 CPU cores, on any video", "state": "finished"},
    {"name": "a/b", "n": 12345, "what": "short", "state": "stopped"},
]


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_a_table_fits_the_terminal_and_splits_no_word(width):
    text = aligned(WIDE, list(WIDE[0]), width)
    assert max(map(len, text.splitlines())) <= width
    words = {word for row in WIDE for value in row.values() for word in str(value).split()} | set(WIDE[0])
    assert set(text.split()) == words
    assert aligned(WIDE, list(WIDE[0])) == aligned(WIDE, list(WIDE[0]), 200)


def test_a_word_wider_than_its_column_keeps_its_end():
    rows = [{"path": "/a/very/long/path/to/a/file.mp4", "problems": "empty file (0 bytes)"}]
    text = aligned(rows, ["path", "problems"], 30)
    assert max(map(len, text.splitlines())) <= 30
    assert "…" in text
    assert "file.mp4" in text


def test_only_tables_on_a_terminal_are_fitted(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    Console().table(WIDE)
    piped = capsys.readouterr().out
    assert max(map(len, piped.splitlines())) > 60
    monkeypatch.setattr(module, "_is_terminal", lambda stream: True)
    Console().table(WIDE)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40
    console = Console()
    console.json = True
    console.table(WIDE)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == WIDE


def test_a_total_may_come_later(capsys, clock):
    with Console().progress("detecting", None, "frame") as bar:
        bar.expect(200, "0 of 2 videos")
        clock[0] = 10.0
        bar.advance(50)
    assert capsys.readouterr().err == "detecting: 50/200 frame, 5 frame/s, ETA 0:30, 0 of 2 videos\n"
