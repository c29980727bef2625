"""Names of results, and what counts as done before."""

import json
import os
from types import SimpleNamespace

import pytest

from tasks.core.data.inputs import Input
from tasks.core.data.manifest import Row
from tasks.core.errors import UsageError
from tasks.core.inference.output import Output, check_kinds, write_record

SUFFIXES = {"json": ".things.json", "csv": ".things.csv", "scores": ".things.scores.csv"}


def producer(**changes):
    return SimpleNamespace(**{"method": "m", "settings": {"threshold": 0.5, "sizes": (1, 2)}, "suffixes": SUFFIXES, **changes})


@pytest.fixture
def source(tmp_path):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"12345")
    os.utime(video, (1000, 1000))
    return Input(Row(str(video)), "v.mp4", "v")


def write(output, source, **changes):
    made = producer(**changes)
    record = {"video": source.shown, "method": made.method, "settings": made.settings, "found": [{"t": 1.5}, {"t": 2.0}]}
    return output.write(made, source, record, lambda kind, path: path.write_text(f"{kind}\n"))


def test_what_is_written_is_found_again_and_nothing_is_added_to_it(tmp_path, source):
    output = Output(tmp_path / "out", ("csv", "scores", "csv"))
    (tmp_path / "out").mkdir()
    assert output.done_before(producer(), source) is None
    record = write(output, source)
    assert [os.path.basename(name) for name in record["files"]] == ["v.things.json", "v.things.csv", "v.things.scores.csv"]
    again = output.done_before(producer(), source)
    assert again.pop("skipped")
    assert again == json.loads(json.dumps(record))
    assert Output(tmp_path / "out", ("csv",), overwrite=True).done_before(producer(), source) is None
    assert Output(None, ("csv",)).done_before(producer(), source) is None
    assert write(Output(None, ("csv",)), source)["files"] == []


@pytest.mark.parametrize(
    "change", [{"method": "other"}, {"settings": {"threshold": 0.6, "sizes": (1, 2)}}, {"settings": {"threshold": 0.5}}]
)
def test_other_methods_and_settings_are_other_results(tmp_path, source, change):
    output = Output(tmp_path)
    write(output, source)
    assert output.done_before(producer(), source)
    assert output.done_before(producer(**change), source) is None


def test_a_file_that_was_not_written_with_the_record_is_not_a_result(tmp_path, source):
    """A file of another program, and one of an earlier run with other settings, that bear the name."""
    small, both = Output(tmp_path), Output(tmp_path, ("csv",))
    write(small, source)
    (tmp_path / "v.things.csv").write_text("csv\n")  # as we would write it, but nothing says that we did
    assert small.done_before(producer(), source)
    assert both.done_before(producer(), source) is None
    write(both, source)
    assert both.done_before(producer(), source)
    write(small, source, settings={})
    assert both.done_before(producer(settings={}), source) is None
    write(both, source)
    (tmp_path / "v.things.csv").write_text("edited\n")
    assert both.done_before(producer(), source) is None
    (tmp_path / "v.things.csv").unlink()
    assert both.done_before(producer(), source) is None


def test_kinds_that_are_asked_for_one_after_the_other_add_up(tmp_path, source):
    one, other = Output(tmp_path, ("csv",)), Output(tmp_path, ("scores",))
    write(one, source)
    write(other, source)
    assert one.done_before(producer(), source)
    assert Output(tmp_path, ("csv", "scores")).done_before(producer(), source)
    write(Output(tmp_path, ("scores",), overwrite=True), source)
    assert one.done_before(producer(), source) is None  # done again, and the table was not


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"text"',
        "7",
        "null",
        "{}",
        '{"method": "m", "settings": {"threshold": 0.5, "sizes": [1, 2]}}',
        '{"method": "m", "settings": {"threshold": 0.5, "sizes": [1, 2]}, "done": null}',
        '{"method": "m", "settings": {"threshold": 0.5, "sizes": [1, 2]}, "done": {"files": []}}',
        '{"method": "m", "settings": {"threshold": 0.5, "sizes": [1, 2]}, "done": {"files": {}}}',
        '{"done": {"files": {}, "input_bytes": 5}}',
    ],
)
def test_a_record_of_another_program_is_not_a_result(tmp_path, source, text):
    (tmp_path / "v.things.json").write_text(text)
    assert Output(tmp_path).done_before(producer(), source) is None


def test_a_record_that_is_no_text_or_a_folder(tmp_path, source):
    (tmp_path / "v.things.json").write_bytes(b"\xff\xfe")
    assert Output(tmp_path).done_before(producer(), source) is None
    (tmp_path / "v.things.json").unlink()
    (tmp_path / "v.things.json").mkdir()
    assert Output(tmp_path).done_before(producer(), source) is None


def test_an_input_that_changed_or_is_another_one_of_the_same_name_is_done_again(tmp_path, source):
    output = Output(tmp_path)
    write(output, source)
    made = (tmp_path / "v.things.json").stat().st_mtime
    os.utime(source.row.path, (made + 5, made + 5))
    assert output.done_before(producer(), source) is None
    os.utime(source.row.path, (1000, 1000))
    assert output.done_before(producer(), source)
    other = tmp_path / "more" / "v.mp4"
    other.parent.mkdir()
    other.write_bytes(b"123456")
    os.utime(other, (1000, 1000))
    assert output.done_before(producer(), Input(Row(str(other)), "more/v.mp4", "v")) is None
    os.unlink(source.row.path)
    assert output.done_before(producer(), source)  # its results are still there


def test_a_folder_of_pictures_is_an_input(tmp_path):
    (tmp_path / "v").mkdir()
    os.utime(tmp_path / "v", (1000, 1000))
    source = Input(Row(str(tmp_path / "v")), "v", "v")
    write(Output(tmp_path), source)
    assert Output(tmp_path).done_before(producer(), source)


def test_the_record_comes_last_so_that_a_stop_in_between_leaves_work_to_do(tmp_path, source):
    output, seen = Output(tmp_path, ("csv",)), []

    def stop(kind, path):
        path.write_text("csv\n")
        seen.append((tmp_path / "v.things.json").exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.write(producer(), source, {"method": "m", "settings": producer().settings}, stop)
    assert seen == [False]
    assert output.done_before(producer(), source) is None


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match="'cvs'") as caught:
        check_kinds(["json", "cvs"], SUFFIXES)
    assert caught.value.hint == "did you mean 'csv'? known: json, csv, scores"
    with pytest.raises(UsageError) as caught:
        Output("x", ("zzz",)).files(SUFFIXES, "v")
    assert caught.value.hint == "known: json, csv, scores"


def test_a_record_is_json_with_a_line_per_key_and_per_object_of_a_list(tmp_path):
    record = {"video": "vidéo", "none": [], "found": [{"t": 1}, {"t": 2}], "frames": {"t": [1, 2]}, "mixed": [1, {}]}
    write_record(tmp_path / "a.json", record)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == record
    assert text.splitlines() == [
        *("{", '  "video": "vidéo",', '  "none": [],', '  "found": [', '    {"t": 1},', '    {"t": 2}', "  ],"),
        *('  "frames": {"t": [1, 2]},', '  "mixed": [1, {}]', "}"),
    ]
