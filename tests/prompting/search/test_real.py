"""Search on real videos and their subtitles."""

import csv

import pytest

from tasks.core.data.captions import read_subtitles
from tasks.core.data.inputs import gather
from tasks.core.reporter import Quiet
from tasks.prompting.search.build import run
from tasks.prompting.search.config import IndexConfig, SearchConfig
from tasks.prompting.search.find import run as search


@pytest.mark.real
def test_what_is_said_is_found_when_it_is_said(real_data, tmp_path):
    records = list(run(IndexConfig(), gather([str(real_data / "narrated")]), tmp_path / "i", False, Quiet()))
    assert len(records) == 60
    assert all(record["sentences"] == 24 for record in records)
    with open(real_data / "narrated/manifest.csv", newline="") as file:
        subtitles = {row["path"]: row["subtitles"] for row in csv.DictReader(file)}
    path, name = sorted(subtitles.items())[7]
    for cue in read_subtitles(real_data / "narrated" / name).sentences[::6]:
        found = search(SearchConfig(by="words", top=60, apart_s=0), tmp_path / "i", cue.text, Quiet())
        same = [one for one in found if one.said[0].text == cue.text]
        assert found[: len(same)] == same  # the sentence itself, wherever it is said, before all that share words with it
        assert any(one.video.path.endswith(path) and one.moment.start_s == cue.start_s for one in same)
