"""Importers of published annotations, on small files by hand with what real ones hold, and on the real ones."""

import json

import pytest

from tasks.boundaries import annotations as boundaries
from tasks.core.data.manifest import read_manifest, write_manifest
from tasks.core.data.rows import Row
from tasks.core.data.segments.annotations import Choices, clock_seconds
from tasks.core.data.segments.formats import FORMATS, find_videos, load_content, read_segments, recognise
from tasks.core.errors import InputError, UsageError

ACTIVITYNET = {
    "version": "1.3",
    "taxonomy": [{"nodeName": "run"}],
    "database": {
        "a": {
            "duration": 10.0,
            "subset": "training",
            "annotations": [
                {"segment": [5.0, 7.0], "label": "run", "label_id": 3},
                {"segment": [0.5, 2.0], "label": "jump", "label_id": 1},
                {"segment": [1.0, 6.0], "label": "run", "label_id": 3},  # overlaps one and is overlapped
                {"segment": [3.0, 3.0], "label": "run", "label_id": 3},  # no length
                {"segment": [4.0, 3.0], "label": "run", "label_id": 3},  # backwards
                {"segment": [9.0, 11.5], "label": "run", "label_id": 3},  # past the duration
                {"segment": [-0.1, 0.2], "label": "jump", "label_id": 1},  # before 0
                {"segment": [9.0, 11.5], "label": "run", "label_id": 3},  # again
                {"segment": ["soon", 2], "label": "run"},
                {"segment": [float("nan"), 2], "label": "run"},
                {"segment": [1], "label": "run"},
                {"label": "run"},
                "nonsense",
            ],
        },
        "b": {"annotations": [{"segment": ["7.5", "9"], "label_id": 8}, {"segment": [1, 2], "sentence": "Mix the dough"}]},
        "c": {"duration": 5.0, "subset": "testing", "annotations": []},
        "d": {"subset": "validation", "annotations": [{"segment": [1, 2]}]},
    },
}

THUMOS = {
    "database": {
        "video_validation_0000051": {
            "subset": "Validation",
            "duration": 100.0,
            "fps": 30.0,
            "annotations": [
                {"label": "Billiards", "segment": [1.0, 2.0], "segment(frames)": [30.0, 60.0], "label_id": 2},
                {"label": "Ambiguous", "segment": [3.0, 4.0], "label_id": 99},
            ],
        },
        "video_test_0000004": {"subset": "Test", "annotations": [{"label": "Diving", "segment": [0.2, 1.1], "label_id": 2}]},
    }
}

EPIC = """narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,\
verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]
P01_01_1,P01,P01_01,00:00:02.629,00:01:05.81,01:00:06.98,262,418,"turn on light, again",turn-on,6,light,114,['light'],[114]
P01_01_2,P01,P01_01,00:00:05.349,00:01:05.81,00:01:05.81,418,569,close door,close,4,door,3,['door'],[3]
P02_03_0,P02,P02_03,00:00:05.349,00:00:09,00:00:10.50,418,569,switch on oven,switch-on,6,oven,12,['oven'],[12]
"""

HTM = {
    "vid one": [
        [1, 10.5, 12.0, " add salt "],
        [0, 8.0, 9.5, "so today"],
        [0, 8.0, 9.5, "so today"],
        [1, 3.0, 3.0, "x"],
        [2, 1, 2, "y"],
        "z",
    ],
    "two": {"duration": 20.0, "sentences": [[1, 0, 25.0, "stir"]]},
    "three": [],
}


def imported(content, kind=None, **choices):
    return read_segments(content, "EPIC_100_train.csv", kind or recognise(content), Choices(**choices))


@pytest.fixture
def epic(tmp_path):
    file = tmp_path / "EPIC_100_train.csv"
    file.write_text("\ufeff" + EPIC, encoding="utf-8")
    return load_content(file)


def test_formats_are_told_by_the_content(epic, tmp_path):
    assert [recognise(content) for content in (ACTIVITYNET, THUMOS, epic, HTM)] == ["activitynet", "thumos14", "epic100", "htm-align"]
    assert recognise(ACTIVITYNET["database"]) == "activitynet"
    others = [
        {},
        [],
        {"database": {}},
        {"database": []},
        {"a": []},
        {"a": 1},
        {"a": [1.5, 2.5]},
        {"a": [[1, 2, 3, 4]]},
        [{"path": "a"}],
        None,
        3,
    ]
    truth = {"v": {"fps": 1.0, "video_duration": 9.0, "substages_timestamps": [[1.0]]}}
    tapos = {"v": {"s00001_1_0_5_0": {"subset": "train", "substages": [0, 4, 9], "total_frames": 10}}}
    for content in [*others, truth, tapos]:
        assert recognise(content) is None
        for kind in FORMATS:
            with pytest.raises(InputError):
                read_segments(content, "file", kind, Choices())
    for content in [*others, ACTIVITYNET, THUMOS, epic, HTM]:
        assert boundaries.recognise(content) is None
    assert (boundaries.recognise(truth), boundaries.recognise(tapos)) == ("gebd", "tapos")


def test_activitynet(tmp_path):
    found = imported(ACTIVITYNET)
    common = {"duration": "10.0"}
    assert found.rows[:4] == [
        Row("a", "run", 5.0, 7.0, "training", {**common, "label_id": "3"}),
        Row("a", "jump", 0.5, 2.0, "training", {**common, "label_id": "1"}),
        Row("a", "run", 1.0, 6.0, "training", {**common, "label_id": "3"}),
        Row("a", "run", 9.0, 11.5, "training", {**common, "label_id": "3"}),
    ]
    assert found.rows[6:] == [
        Row("b", "8", 7.5, 9.0, None, {"label_id": "8"}),
        Row("b", None, 1.0, 2.0, None, text="Mix the dough"),
        Row("d", None, 1.0, 2.0, "validation"),
    ]
    assert found.left_out == {"the end is not after the start": 2, "no times that can be read": 5, "videos without segments": 1}
    assert found.noted == {
        "overlap an earlier one": 3,  # 1-6 begins in 0.5-2, 5-7 in 1-6, 9-11.5 in itself
        "end after the duration that the file states": 2,
        "begin before 0": 1,
        "occur again with the same times and label": 1,
        "have only a label_id, which is their label": 1,
        "have no subset": 2,
        "have neither label nor text": 1,
    }
    assert len(found.rows) + found.left_out.total() - 1 == sum(len(entry["annotations"]) for entry in ACTIVITYNET["database"].values())


def test_a_subset_is_kept():
    assert {row.path for row in imported(ACTIVITYNET, split="validation").rows} == {"d"}
    with pytest.raises(UsageError, match=r"no videos of subset 'train'\nsubsets there: testing, training, validation"):
        imported(ACTIVITYNET, split="train")
    with pytest.raises(InputError, match="no segment in it can be used\n1: videos without segments"):
        imported(ACTIVITYNET, split="testing")


@pytest.mark.parametrize(
    ("entry", "said"), [([], "stands for the video 'x'"), ({"annotations": {"segment": [1, 2]}}, "stands for the video 'x'"), (None, "'x'")]
)
def test_a_video_that_cannot_be_used(entry, said):
    with pytest.raises(InputError, match=said):
        imported({"database": {**ACTIVITYNET["database"], "x": entry}})


def test_thumos14():
    found = imported(THUMOS)
    assert found.rows == [
        Row("video_validation_0000051", "Billiards", 1.0, 2.0, "Validation", {"duration": "100.0", "fps": "30.0", "label_id": "2"}),
        Row("video_test_0000004", "Diving", 0.2, 1.1, "Test", {"label_id": "2"}),
    ]
    assert found.left_out == {"labelled 'Ambiguous', which is not a class": 1}
    assert any("FILE@Validation" in fact for fact in found.facts)
    assert any("label_id '2' goes with several: Billiards, Diving" in fact for fact in found.facts)
    assert len(imported(THUMOS, "activitynet").rows) == 3


def test_labels_with_several_ids_are_told():
    database = {"a": {"annotations": [{"segment": [0, 1], "label": "run", "label_id": i} for i in (4, 7)]}}
    assert imported({"database": database}).facts == ["the label 'run' goes with several: 4, 7; the labels count"]


def test_epic(epic):
    found = imported(epic)
    words = {"narration_id": "P01_01_0", "participant_id": "P01", "verb": "open", "verb_class": "3", "noun": "door", "noun_class": "3"}
    assert found.rows[0] == Row("P01_01", "3", 0.14, 3.37, "train", words, "open door")
    assert [(row.path, row.label, row.start_s, row.end_s, row.text) for row in found.rows[1:]] == [
        ("P01_01", "6", 65.81, 3606.98, "turn on light, again"),
        ("P02_03", "6", 9.0, 10.5, "switch on oven"),
    ]
    assert found.left_out == {"the end is not after the start": 1}
    assert [row.label for row in imported(epic, label="noun").rows] == ["3", "114", "12"]
    assert [row.label for row in imported(epic, label="action").rows] == ["3-3", "6-114", "6-12"]
    assert {row.split for row in imported(epic, split="mine").rows} == {"mine"}
    assert [fact.split("'")[1] for fact in found.facts if "name of the file" in fact] == ["train"]
    assert not any("name of the file" in fact for fact in imported(epic, split="mine").facts)


@pytest.mark.parametrize(
    ("name", "split"), [("EPIC_100_validation.csv", "validation"), ("EPIC_100_test_timestamps.csv", "test"), ("contested.csv", None)]
)
def test_the_split_of_epic_is_in_the_name(name, split):
    row = {"video_id": "P01_11", "start_timestamp": "00:00:00.00", "stop_timestamp": "00:00:01.89"}
    found = read_segments([row], f"/train/{name}", "epic100", Choices())
    assert found.rows == [Row("P01_11", None, 0.0, 1.89, split)]
    assert found.noted == {"have neither label nor text": 1}


def test_htm_align():
    found = imported(HTM)
    assert found.rows == [
        Row("vid one", None, 10.5, 12.0, None, {"alignable": "1"}, "add salt"),
        Row("vid one", None, 8.0, 9.5, None, {"alignable": "0"}, "so today"),
        Row("vid one", None, 8.0, 9.5, None, {"alignable": "0"}, "so today"),
        Row("two", None, 0.0, 25.0, None, {"duration": "20.0", "alignable": "1"}, "stir"),
    ]
    assert found.left_out == {
        "the end is not after the start": 1,
        "not a list of flag, start, end and text": 2,
        "videos without segments": 1,
    }
    assert found.noted["occur again with the same times and label"] == found.noted["end after the duration that the file states"] == 1
    assert {row.split for row in imported(HTM, split="test").rows} == {"test"}


def test_labels_and_formats_that_do_not_exist(epic):
    with pytest.raises(UsageError, match=r"label 'verb' is not one of format htm-align\nit has one label only"):
        imported(HTM, label="verb")
    with pytest.raises(UsageError, match="choose verb, noun, action"):
        imported(epic, label="verbs")
    with pytest.raises(UsageError, match="did you mean 'activitynet'"):
        imported(ACTIVITYNET, "activity-net")


@pytest.mark.parametrize(
    ("time", "seconds"), [("75.5", 75.5), ("01:15.5", 75.5), ("00:01:05.81", 65.81), (" 10:00:00 ", 36000.0), ("-1.5", -1.5)]
)
def test_clock_times(time, seconds):
    assert clock_seconds(time) == seconds


@pytest.mark.parametrize("time", ["", "soon", "1:2:3:4", "-1:30", "1:x", ":", "1:2:"])
def test_what_is_not_a_clock_time(time):
    with pytest.raises(ValueError):
        clock_seconds(time)


def test_damaged_files(tmp_path):
    for name, data, said in [
        ("a.json", b'{"database": {"a": {}, "a": {}}}', "'a' occurs twice"),
        ("a.json", b'{"database": ', "not valid JSON"),
        ("a.json", b"\xff\xfe", "not text in UTF-8"),
        ("a.csv", EPIC.replace("['oven'],[12]", "['oven']").encode(), "line 5: not as many fields as the header has"),
        ("a.csv", b"\xff\xfe", "neither JSON"),
        ("a.csv", b'video_id,start_timestamp\n"open,1\n', "unexpected end"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=said) as error:
            load_content(tmp_path / name)
        assert str(tmp_path / name) in error.value.message
    with pytest.raises(InputError, match="no such file"):
        load_content(tmp_path / "gone.json")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04N.")
    assert load_content(tmp_path / "a.pkl") is None


def test_videos_are_found_by_their_names(tmp_path):
    videos = tmp_path / "videos"
    for name in ("x/a.MP4", "v_b.webm", "d/frame1.jpg", "z_000001_000011.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    found = imported(ACTIVITYNET)
    found.rows.append(Row("z", "trimmed", 0.0, 1.0))
    n = len(found.rows)
    assert find_videos(found, videos) == ["z"]
    assert {row.path.removeprefix(f"{videos}/") for row in found.rows} == {"x/a.MP4", "v_b.webm", "d"}
    assert found.left_out["segments of videos that are not there"] == 1
    assert len(found.rows) == n - 1
    (videos / "a.mkv").touch()
    with pytest.raises(InputError, match=r"could be 'v_a'|could be 'a'"):
        find_videos(imported(ACTIVITYNET), videos)
    (videos / "manifest.csv").write_text("path,start,end\nx/a.MP4,0,1\nx/a.MP4,1,2\ngone/d.mp4,,\n")
    found = imported(ACTIVITYNET)
    assert find_videos(found, videos) == ["b", "d"]
    assert {row.path for row in found.rows} == {f"{videos}/x/a.MP4"}


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_what_is_imported_comes_back_from_a_manifest(tmp_path, name, epic):
    for content in (ACTIVITYNET, THUMOS, epic, HTM):
        rows = imported(content).rows
        for row in rows:
            row.path = f"{tmp_path}/{row.path}"
        write_manifest(rows, tmp_path / name)
        back = read_manifest(tmp_path / name)
        assert back == rows
        assert [path for path, _ in back.grouped()] == list(dict.fromkeys(row.path for row in rows))


@pytest.mark.real
def test_real_annotations(real_data):
    facts = {}
    for name in ("unav100/unav100_annotations.json", "thumos14/thumos14.json", "thumos14/gt_test_um.json", "av_events/annotations.json"):
        content = load_content(real_data / name)
        found = imported(content)
        assert len(found.rows) == sum(len(entry["annotations"]) for entry in content["database"].values())
        assert not found.left_out
        facts[name.partition("/")[2]] = (
            recognise(content),
            len({row.path for row in found.rows}),
            len(found.rows),
            len({row.label for row in found.rows}),
        )
    assert facts == {
        "unav100_annotations.json": ("activitynet", 10790, 30059, 100),
        "thumos14.json": ("thumos14", 412, 6365, 20),
        "gt_test_um.json": ("thumos14", 410, 6318, 20),
        "annotations.json": ("activitynet", 108, 652, 7),
    }
    assert len(imported(load_content(real_data / "av_events/annotations.json"), split="validation").rows) > 0
    thumos = imported(load_content(real_data / "thumos14/thumos14.json"))
    assert thumos.noted["begin when the video is over, as the file states"] == 30


@pytest.mark.real
def test_real_sentences(real_data):
    truth = json.loads((real_data / "narrated/truth.json").read_text())
    found = imported(load_content(real_data / "narrated/truth.json"))
    assert find_videos(found, real_data / "narrated") == []
    assert [(row.start_s, row.end_s, row.text) for row in found.rows] == [
        tuple(s[1:]) for entry in truth.values() for s in entry["sentences"]
    ]
    assert sum(int(row.extra["alignable"]) for row in found.rows) == 720
