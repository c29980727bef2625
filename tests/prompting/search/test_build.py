"""Videos into an index: what is done, what is not done again, and what is refused."""

import json
import os

import numpy as np
import pytest
import torch
from clip_toys import clip_folder
from encoder_toys import encoder_folder
from painted import write_video

from tasks.core.data.inputs import gather
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.core.shard import Shard
from tasks.core.towers import load_pair
from tasks.core.video.open import open_video
from tasks.prompting.search.build import Windows, run, units
from tasks.prompting.search.config import IndexConfig, SearchConfig
from tasks.prompting.search.example import Example, example_vector, read_example
from tasks.prompting.search.find import run as search
from tasks.prompting.search.store import Index

SRT = "1\n00:00:00,100 --> 00:00:00,900\nA red square moves.\n"


class Told(Quiet):
    """What was said."""

    def __init__(self):
        self.said: list[str] = []

    def info(self, text):
        self.said.append(text)

    warn = info


@pytest.fixture
def place(tmp_path, monkeypatch):
    """`clip/`, and `videos/` of 1 and 2 seconds, the second with subtitles; the folder is where commands run."""
    monkeypatch.chdir(tmp_path)
    clip_folder(tmp_path / "clip")
    (tmp_path / "videos").mkdir()
    for name, frames in (("a", 30), ("b", 60)):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames)
    (tmp_path / "videos" / "b.en.srt").write_text(SRT)
    return tmp_path


def index(place, *sources, out="i", overwrite=False, reporter=None, shard=None, inputs=None, **settings):
    """Records of `vid index`; without other settings every half second by `clip`."""
    config = IndexConfig(**(settings or {"model": "clip", "hop_s": 0.5}))
    given = inputs if inputs is not None else gather(sources or ("videos",))
    return list(run(config, given, place / out, overwrite, reporter or Quiet(), shard))


def test_windows_are_what_the_model_sees_every_hop(place):
    records = index(place)
    assert [(r["video"], r["windows"], r["sentences"], "skipped" in r) for r in records] == [
        ("videos/a.mp4", 2, 0, False),
        ("videos/b.mp4", 4, 1, False),
    ]
    opened, pair = Index(place / "i"), load_pair("clip")
    video = next(v for v in opened.videos if v.path.endswith("b.mp4"))
    with open_video(video.path) as reader:
        frames = reader.get([0, 15, 30, 45])
    wanted = torch.cat([pair.encode_pictures(frame[None]) for frame in frames]).numpy()
    np.testing.assert_allclose(opened.vectors(video.part)[video.first : video.first + video.n], wanted, atol=2e-3)
    assert (video.grid.stride_s, video.until_s) == (0.5, pytest.approx(2.0))
    assert opened.head["model"]["reference"] == str(place / "clip")
    assert opened.head["model"]["text_hash"] == pair.text_hash


def test_what_is_there_is_not_done_again_until_it_changes(place):
    index(place)
    size = (place / "i/1-of-1.vectors").stat().st_size
    assert all(record["skipped"] for record in index(place))
    assert (place / "i/1-of-1.vectors").stat().st_size == size
    write_video(place / "videos/a.mp4", 45)
    (place / "videos/b.en.srt").write_text(SRT.replace("red", "blue"))
    again = index(place)
    assert [(r["windows"], r["sentences"], "skipped" in r) for r in again] == [(3, 0, False), (4, 1, False)]
    assert [s.text for said in Index(place / "i").sentences().values() for s in said] == ["A blue square moves."]
    assert (place / "i/1-of-1.vectors").stat().st_size == size // 6 * 9
    os.remove(place / "videos/b.en.srt")
    index(place)
    assert not Index(place / "i").sentences()
    assert not any("skipped" in record for record in index(place, overwrite=True))


def test_an_index_goes_on_with_its_own_model(place):
    index(place, "videos/a.mp4")
    (record,) = index(place, "videos/b.mp4", text=None)
    assert record["windows"] == 4
    with pytest.raises(UsageError, match=r"every 0\.5 s, float16; this is .* every 1 s"):
        index(place, model="clip", hop_s=1.0)


def test_another_model_or_revision_is_refused(place):
    index(place)
    clip_folder(place / "clip", activation="gelu")
    with pytest.raises(UsageError, match=r"is an index of .*clip .*; this is .*clip"):
        index(place)
    with pytest.raises(UsageError, match="is another model or revision"):
        search(SearchConfig(), place / "i", "a red square", Quiet())
    with pytest.raises(UsageError, match="is another model or revision"):
        search(SearchConfig(), place / "i", Example(str(place / "videos/a.mp4"), 0.5), Quiet())


def test_shares_fill_one_index(place):
    inputs = gather(["videos"])
    for number in (1, 2):
        share = Shard(number, 2)
        index(place, inputs=share.take(inputs, lambda source: source.name), shard=share, model="clip", hop_s=0.5)
    assert sorted(entry.name for entry in (place / "i").glob("*.vectors")) == ["1-of-2.vectors", "2-of-2.vectors"]
    assert all(record["skipped"] for record in index(place))


def test_without_a_model_what_is_said_is_put_in(place):
    told = Told()
    records = index(place, out="w", reporter=told, text=None)
    assert [(r["windows"], r["sentences"]) for r in records] == [(0, 0), (0, 1)]
    assert "no --model" in told.said[0]
    (found,) = search(SearchConfig(by="words"), place / "w", "square", Quiet())
    assert found.video.path == str(place / "videos/b.mp4")
    later = index(place, out="w", model="clip", hop_s=0.5)
    assert [r["windows"] for r in later] == [2, 4]


def test_columns_of_a_manifest_are_words(place):
    (place / "data.csv").write_text("path,text\nvideos/a.mp4,a blue circle rests\nvideos/b.mp4,\n")
    index(place, "data.csv")
    assert [one.video.path for one in search(SearchConfig(by="words"), place / "i", "circle", Quiet())] == [str(place / "videos/a.mp4")]


def test_a_bad_video_or_subtitle_file_fails_alone(place):
    (place / "videos/c.mp4").write_bytes(b"no video")
    (place / "videos/a.srt").write_text("nothing")
    told = Told()
    records = index(place, reporter=told)
    assert [("error" in r, r.get("windows")) for r in records] == [(False, 2), (False, 4), (True, None)]
    assert any("a.srt" in text for text in told.said)
    assert [r["windows"] for r in index(place) if "error" not in r] == [2, 4]


def test_an_encoder_without_words_is_searched_by_example(place):
    encoder_folder(place / "mine", "s3d", "contrastive")
    index(place, model="mine", hop_s=0.25)
    opened = Index(place / "i")
    assert opened.head["model"]["text_hash"] is None
    with pytest.raises(UsageError, match="has no text tower"):
        search(SearchConfig(), place / "i", "a red square", Quiet())
    found = search(SearchConfig(apart_s=0.1), place / "i", Example(str(place / "videos/a.mp4"), 0.1), Quiet())
    assert found[0].moment.score > 0.9
    assert not any(one.video.path.endswith("a.mp4") and one.moment.start_s < 0.2 for one in found)  # itself


def test_the_step_of_clips_is_their_length_and_of_pictures_two_seconds(place):
    encoder_folder(place / "mine", "s3d", "contrastive")
    assert Windows(IndexConfig(model="mine")).head["hop_s"] is None
    assert Windows(IndexConfig(model="clip")).head["hop_s"] == 2.0
    assert Windows(IndexConfig(model="clip", hop_s=3)).head["hop_s"] == 3.0


def test_vectors_without_a_direction_are_refused():
    np.testing.assert_allclose(units(np.array([[3.0, 4.0]]), "x"), [[0.6, 0.8]])
    for bad in (np.nan, np.inf, 0.0):
        with pytest.raises(InputError, match=r"x\.mp4: the model makes no usable vector of window 1"):
            units(np.array([[1.0, 0.0], [bad, 0.0]]), "x.mp4")


def test_the_vector_of_an_example_is_that_of_its_frame(place):
    pair = load_pair("clip")
    with open_video(str(place / "videos/b.mp4")) as reader:
        frames = reader.get(range(0, 60))
    found, made = example_vector(Example(str(place / "videos/b.mp4"), 1.51), "clip", 0.5, "cpu")
    np.testing.assert_allclose(found, pair.encode_pictures(frames[45:46])[0], atol=1e-5)
    assert made == pair.picture_hash
    whole, _ = example_vector(Example(str(place / "videos/b.mp4"), None), "clip", 0.5, "cpu")
    mean = torch.cat([pair.encode_pictures(frames[n : n + 1]) for n in (0, 15, 30, 45)]).mean(0)
    np.testing.assert_allclose(whole, mean / mean.norm(), atol=1e-5)
    with pytest.raises(InputError, match=r"it ends at 1\.97 s, before 30 s"):
        example_vector(Example(str(place / "videos/b.mp4"), 30.0), "clip", 0.5, "cpu")


def test_how_an_example_is_written(place):
    (place / "at@home.mp4").write_bytes(b"x")
    path = str(place / "videos/a.mp4")
    assert read_example("videos/a.mp4") == Example(path, None)
    assert read_example("videos/a.mp4@12.5") == Example(path, 12.5)
    assert read_example("videos/a.mp4@1:02:03.5") == Example(path, 3723.5)
    assert read_example("at@home.mp4") == Example(str(place / "at@home.mp4"), None)
    assert read_example("at@home.mp4@3") == Example(str(place / "at@home.mp4"), 3.0)
    with pytest.raises(UsageError, match="'soon' is not a time"):
        read_example("videos/a.mp4@soon")
    with pytest.raises(InputError, match="no such video"):
        read_example("videos/z.mp4@3")


def test_the_head_is_plain_json(place):
    index(place)
    head = json.loads((place / "i/index.json").read_text())
    assert head.keys() == {"version", "id", "model", "dim", "dtype", "hop_s"}
