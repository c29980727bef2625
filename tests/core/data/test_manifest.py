import json

import pytest

from tasks.core.data import parsing
from tasks.core.data.manifest import Row, index_path, label_names, read_manifest, read_sources, write_manifest
from tasks.core.errors import InputError, UsageError


def paths(rows, root):
    return [row.path.removeprefix(f"{root}/") for row in rows]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def test_csv_with_header(write, tmp_path):
    text = '\ufeffpath,label,start,end,split,subject\na b/1.mp4,run,0.5,2,train,S1\n"x, y.mp4",,,,,\n\n/abs/2.mp4,jump,,3,val,S2\n'
    first, second, third = index_path(write("m.csv", text))
    assert first == Row(f"{tmp_path}/a b/1.mp4", "run", 0.5, 2.0, "train", {"subject": "S1"})
    assert second == Row(f"{tmp_path}/x, y.mp4")
    assert third == Row("/abs/2.mp4", "jump", None, 3.0, "val", {"subject": "S2"})


def test_json_lines(write, tmp_path):
    lines = [{"path": "1.mp4", "label": 3, "start": 1}, {"path": "../2.mp4", "split": "test", "note": "n", "raters": [1, 2]}]
    first, second = index_path(write("m.jsonl", "\n".join(map(json.dumps, lines))))
    assert first == Row(f"{tmp_path}/1.mp4", "3", 1.0)
    assert second == Row(f"{tmp_path.parent}/2.mp4", split="test", extra={"note": "n", "raters": "[1, 2]"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4 0\nmy dir/b c.avi 12\n", [("a.mp4", "0"), ("my dir/b c.avi", "12")]),
        ("a.mp4,run\nb c.mp4,walk fast\n", [("a.mp4", "run"), ("b c.mp4", "walk fast")]),
        ("a b.mp4\trun\n", [("a b.mp4", "run")]),
        ("a.mp4\nb c.mkv\n", [("a.mp4", None), ("b c.mkv", None)]),
        ("frames/v1 120 4\nframes/v2 80 5\n", [("frames/v1", "4"), ("frames/v2", "5")]),
    ],
)
def test_lists_without_header(write, tmp_path, text, expected):
    for name in ("list.txt", "list.csv"):
        rows = index_path(write(name, text))
        assert list(zip(paths(rows, tmp_path), [row.label for row in rows], strict=True)) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "path,label\na.mp4,run\nb.mp4\n", "line 3: 1 fields, the header has 2"),
        ("m.csv", "path,start\na.mp4,soon\n", "line 2: start is 'soon'"),
        ("m.csv", "path,start\na.mp4,nan\n", "line 2: start is 'nan'"),
        ("m.csv", "path,start,end\na.mp4,2,1\n", "line 2: end 1 is not after start 2"),
        ("m.csv", "path,label\n,run\n", "line 2: the path is empty"),
        ("m.csv", "path,path\n", "line 1: a column name occurs twice"),
        ("m.csv", "video,label\na.mp4,run\n", "line 1: the header has no 'path' column"),
        ("m.jsonl", '{"path": "a.mp4"}\n{"path": \n', "line 2"),
        ("m.jsonl", '{"path": ""}\n', "line 1: the path is empty"),
        ("m.jsonl", '{"file": "a.mp4"}\n', "line 1: expected an object with a 'path'"),
        ("m.txt", "a.mp4 1\nnonsense\n", "line 2: 'nonsense'"),
    ],
)
def test_malformed_manifests_name_the_line(write, name, text, said):
    with pytest.raises(UsageError) as error:
        index_path(write(name, text))
    assert said in error.value.message
    assert name in error.value.message


def test_binary_manifest(tmp_path):
    (tmp_path / "m.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="UTF-8"):
        index_path(tmp_path / "m.csv")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders(tmp_path):
    touch(tmp_path, "c/run/1.mp4", "c/run/deep/2.MP4", "c/jump/x/001.jpg", "c/jump/x/002.jpg", "c/.hidden/3.mp4", "c/run/notes.txt")
    rows = index_path(tmp_path / "c")
    assert paths(rows, tmp_path) == ["c/jump/x", "c/run/1.mp4", "c/run/deep/2.MP4"]
    assert [row.label for row in rows] == ["jump", "run", "run"]
    assert label_names(rows) == ["jump", "run"]
    touch(tmp_path, "flat/b.mp4", "flat/a.webm", "flat/frames/1.png")
    assert [(row.label, row.split) for row in index_path(tmp_path / "flat")] == [(None, None)] * 3
    touch(tmp_path, "s/train/run/1.mp4", "s/test/run/2.mp4", "s/val/3.mp4")
    assert [(row.split, row.label) for row in index_path(tmp_path / "s")] == [("test", "run"), ("train", "run"), ("val", None)]
    assert paths(index_path(tmp_path / "flat" / "frames"), tmp_path) == ["flat/frames"]
    assert paths(index_path(tmp_path / "flat" / "b.mp4"), tmp_path) == ["flat/b.mp4"]
    (tmp_path / "none").mkdir()
    for missing in ("none", "nowhere"):
        with pytest.raises(InputError):
            index_path(tmp_path / missing)


def test_a_folder_with_a_manifest_stands_for_it(tmp_path):
    touch(tmp_path, "d/S1/1.mp4")
    (tmp_path / "d" / "manifest.csv").write_text("path,label\nS1/1.mp4,run\n")
    assert [row.label for row in index_path(tmp_path / "d")] == ["run"]


def test_splits_and_roles(write, tmp_path):
    full = write("full.csv", "path,split\n1.mp4,train\n2.mp4,val\n3.mp4,test\n4.mp4,train\n")
    two = write("two.csv", "path,split\n5.mp4,train\n6.mp4,test\n")
    none = write("none.txt", "7.mp4 0\n")

    def names(sources, role=None):
        return [path.removesuffix(".mp4") for path in paths(read_sources(sources, role), tmp_path)]

    assert names([full, none]) == ["1", "2", "3", "4", "7"]
    assert names([full, two, none], "train") == ["1", "4", "5", "7"]
    assert names([full, two, none], "val") == ["2", "6", "7"]
    assert names([f"{full}@test"], "train") == ["3"]
    with pytest.raises(UsageError, match="splits there: test, train, val"):
        read_sources([f"{full}@dev"])
    with pytest.raises(UsageError, match="no rows to use for 'val'"):
        read_sources([write("odd.csv", "path,split\n1.mp4,part1\n")], "val")
    touch(tmp_path, "me@home.mp4")
    assert names([str(tmp_path / "me@home.mp4")]) == ["me@home"]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_what_is_written_reads_back(tmp_path, name):
    rows = [
        Row(f"{tmp_path}/a, b/1.mp4", "run", 0.1, 2.25, "train", {"subject": "S1"}),
        Row("/elsewhere/2.mp4", "jump", None, None, "val", {"seek_ok_decord": "true"}),
        Row(f"{tmp_path}/ü/3.mp4"),
        Row(f"{tmp_path}/4.mp4", text='a "sentence", ü', subtitles=f"{tmp_path}/subs/4.srt"),
        Row(f"{tmp_path}/5.mp4", None, 1.0, 2.0, subtitles="/elsewhere/5.vtt"),
    ]
    write_manifest(rows, tmp_path / name)
    assert index_path(tmp_path / name) == rows
    assert tmp_path.as_posix() not in (tmp_path / name).read_text()
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.real
def test_real_manifests(real_data):
    assert len(read_sources([str(real_data / "gestures")], "train")) == 105
    assert len(read_sources([str(real_data / "gestures" / "manifest.csv")], "val")) == 42
    assert label_names(read_sources([str(real_data / "fights")])) == ["fight", "noFight"]
    assert len(read_sources([str(real_data / "clips")])) == 6


def test_bad_lines_are_told_together_up_to_ten(write):
    with pytest.raises(UsageError) as error:
        index_path(write("m.csv", "path,start\na.mp4,1\nb.mp4,soon\n,2\nc.mp4,3\nd.mp4\n"))
    assert error.value.message.splitlines()[1:] == [
        "  line 3: start is 'soon', expected seconds",
        "  line 4: the path is empty",
        "  line 6: 1 fields, the header has 2",
    ]
    with pytest.raises(UsageError, match="the first 10 lines that cannot be used") as error:
        index_path(write("m.jsonl", "nonsense\n" * 50))
    assert len(error.value.message.splitlines()) == 11


def test_large_manifests_are_read_again_when_they_change(write, tmp_path):
    line = "x" * 100 + ".mp4 run\n"
    file = write("m.txt", line * 20_000)
    first = read_sources([file])
    assert read_sources([file]) == first
    write("m.txt", line * 20_000 + "last.mp4 jump\n")
    again = read_sources([file])
    assert len(again) == 20_001
    assert again[-1] == Row(f"{tmp_path}/last.mp4", "jump")


def test_tables_read_whole_and_line_by_line_are_the_same(write, tmp_path):
    file = write(
        "m.csv",
        "path, Label ,start_s,end,split,a b,Note,TEXT,subtitles\n"
        ' x/../1.mp4 , run,0.5,,train," s ",, two words ,\n\n"/a,b.mp4",,,3,,,ü,,./x/1.srt\n./2.mp4,0,1e1,11,,1,2, ,/1.vtt\n',
    )
    with open(file, encoding="utf-8") as lines:
        whole = parsing._whole_table(lines, str(tmp_path), ",")
        lines.seek(0)
        assert whole == list(parsing._table_rows(parsing._Problems(tmp_path), lines, str(tmp_path), ","))
    assert whole[0] == Row(f"{tmp_path}/1.mp4", "run", 0.5, None, "train", {"a b": " s "}, "two words")
    assert [(row.text, row.subtitles) for row in whole[1:]] == [(None, f"{tmp_path}/x/1.srt"), (None, "/1.vtt")]


def test_captions_in_json_lines(write, tmp_path):
    file = write(
        "m.jsonl", '{"path": "1.mp4", "text": " a\\nb ", "subtitles": "s/1.srt"}\n{"path": "2.mp4", "text": "", "subtitles": null}\n'
    )
    assert list(index_path(file)) == [Row(f"{tmp_path}/1.mp4", text="a\nb", subtitles=f"{tmp_path}/s/1.srt"), Row(f"{tmp_path}/2.mp4")]
    with pytest.raises(UsageError, match=r"line 1: text is \[1\], expected a string"):
        index_path(write("bad.jsonl", '{"path": "1.mp4", "text": [1]}\n'))


@pytest.mark.parametrize("text", ["path,start,end,note\na.mp4,2,1,\nb.mp4,0,0,x\n", '{"path": "a.mp4", "start": 2, "end": 1}\n'])
def test_rows_that_end_before_they_begin_can_be_asked_for(write, text):
    file = write("m.csv" if text.startswith("path") else "m.jsonl", text)
    with pytest.raises(UsageError, match="is not after start"):
        read_sources([file])
    assert next((row.start_s, row.end_s) for row in read_sources([file], any_times=True)) == (2, 1)


def test_a_spreadsheet_separates_by_semicolons(tmp_path):
    (tmp_path / "list.csv").write_text("path;label;note\na.mp4;x;one, two\nb.mp4;y;\n")
    rows = read_manifest(tmp_path / "list.csv")
    assert [(row.path, row.label, row.extra) for row in rows] == [
        (str(tmp_path / "a.mp4"), "x", {"note": "one, two"}),
        (str(tmp_path / "b.mp4"), "y", {}),
    ]


@pytest.mark.parametrize(("content", "told"), [("", "an empty file"), ("path,label\n", "a list without videos")])
def test_a_list_without_videos_is_named(tmp_path, content, told):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(InputError, match=told) as error:
        read_sources([str(tmp_path / "list.csv")], "train")
    assert str(tmp_path / "list.csv") in error.value.message


def test_a_name_that_no_file_can_have():
    with pytest.raises(InputError, match="too long") as error:
        read_sources(["a" * 300 + ".mp4"])
    assert len(error.value.message) < 100
