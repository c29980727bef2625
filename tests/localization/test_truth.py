import json

import pytest

from tasks.core.data.manifest import read_sources
from tasks.core.errors import InputError
from tasks.localization.truth import with_events

DATABASE = {
    "a": {"subset": "training", "annotations": [{"segment": [1, 2], "label": "dog"}, {"segment": [3, 5], "label": "rain"}]},
    "b": {"subset": "training", "annotations": []},
    "v_c": {"subset": "training", "annotations": [{"segment": [0, 9], "label": "rain"}]},
}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "videos.csv").write_text("path,split\na.mp4,train\nb.mp4,train\nv_c.mp4,val\n")
    (tmp_path / "annotations.json").write_text(json.dumps({"database": DATABASE}))
    return tmp_path


def events(place, annotations=None, source="videos.csv"):
    source = str(place / source)
    rows = with_events(read_sources([source], "train"), [source], annotations and str(place / annotations))
    return [(row.path.rpartition("/")[2], row.label, row.start_s, row.end_s, row.split) for row in rows]


def test_events_come_from_the_annotations_beside_a_list_of_videos(place):
    expected = [("a.mp4", "dog", 1, 2, "train"), ("a.mp4", "rain", 3, 5, "train"), ("b.mp4", None, None, None, "train")]
    assert events(place) == expected
    (place / "annotations.json").rename(place / "truth.json")
    assert events(place, "truth.json") == expected
    assert events(place) == [("a.mp4", None, None, None, "train"), ("b.mp4", None, None, None, "train")]


def test_a_split_of_a_manifest_is_found_by_its_name(place):
    assert events(place, source="videos.csv@val") == [("v_c.mp4", "rain", 0, 9, "val")]


def test_a_manifest_of_events_is_taken_as_it_is(place):
    (place / "events.csv").write_text("path,label,start,end\na.mp4,cat,0,1\n")
    assert events(place, source="events.csv") == [("a.mp4", "cat", 0, 1, None)]


def test_annotations_of_other_videos_or_of_nothing_are_said(place):
    (place / "other.json").write_text(json.dumps({"database": {"z": DATABASE["a"]}}))
    with pytest.raises(InputError, match="has no events of the 2 videos: it speaks of 'z'"):
        events(place, "other.json")
    (place / "odd.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="not a file of annotations"):
        events(place, "odd.json")
