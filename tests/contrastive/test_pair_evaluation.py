"""The test of a model: every split by itself, videos that cannot be read, seconds of a video."""

import numpy as np
import pytest
import torch
from video_text_toys import DIM, MODEL, NEW, config

from tasks.contrastive.pair_evaluation import PairTester
from tasks.contrastive.sentences import TokenReader
from tasks.contrastive.video_text import VideoText
from tasks.core.data.manifest import read_manifest
from tasks.core.data.rows import Row, Rows
from tasks.core.data.synthetic_captions import render_caption_set
from tasks.core.errors import InputError
from tasks.core.reporter import Quiet
from tasks.core.text.learn import learn_tokenizer


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Videos of two scenes of 1.5 s each."""
    folder = tmp_path_factory.mktemp("films")
    return read_manifest(render_caption_set(folder, 0, {"val": 3, "held": 2}, scenes=2, size=32, frames=18))


def made_for(rows: Rows, **settings) -> tuple[PairTester, VideoText, list]:
    tokenizer = learn_tokenizer(rows.values("text"), 600)
    torch.manual_seed(0)
    made = config("new", data={"clip": {"frames": 4, "stride_s": 0.1}, "workers": 0, "short_side": 32}, **settings)
    stops: list[int] = []
    reader = TokenReader(tokenizer, NEW["context"])
    return PairTester(made, reader, Quiet(), lambda: stops.append(1)), VideoText(made, None, len(tokenizer)), stops


def test_splits_are_tested_by_themselves(films):
    each, model, stops = made_for(films)
    found = each.test(model.train(), films)
    assert (found["val_n"], found["held_n"]) == (6, 4)
    assert (found["val_align_n"], found["held_align_n"]) == (6, 4)
    assert found["val_chance_v2t_r1"] == pytest.approx(100 / 6)
    assert model.training
    assert len(stops) == 2 + 3 + 1 + 2  # batches of four clips, videos
    alone = each.test(model, films.at(films.codes("split")[0] == films.codes("split")[1].index("val")))
    assert alone == {name.removeprefix("val_"): value for name, value in found.items() if name.startswith("val_")}
    mixed = [Row(row.path, None, row.start_s, row.end_s, "held" if row.split == "held" else None, text=row.text) for row in films]
    assert each.test(model, Rows.of(mixed))["n"] == 6


def test_every_second_that_has_begun_has_a_window(films):
    each, model, _ = made_for(films)
    with torch.no_grad():
        seconds = np.concatenate(list(each._seconds(model.eval(), films[0].path)))
    assert seconds.shape == (3, DIM)
    assert np.allclose(np.linalg.norm(seconds, axis=1), 1, atol=1e-5)
    each.config = each.config.model_copy(update={"train": each.config.train.model_copy(update={"batch_size": 2})})
    with torch.no_grad():
        parts = np.concatenate(list(each._seconds(model.eval(), films[0].path)))
    np.testing.assert_allclose(parts, seconds, atol=1e-5)


def test_a_video_that_cannot_be_read_is_left_out_and_told(films, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = list(films)
    rows[1].path = rows[0].path = str(broken)
    each, model, _ = made_for(films)
    found = each.test(model, Rows.of(rows))
    assert (found["val_n"], found["val_align_n"]) == (4, 4)
    assert {path for path, _ in each.skipped} == {str(broken)}
    for row in rows:
        row.path = str(broken)
    with pytest.raises(InputError, match="none of the validation videos"):
        each.test(model, Rows.of(rows))


def test_the_model_sees_all_tokens_of_the_middle_clip(films):
    """Twice the same, whatever the global generator says."""
    each, model, _ = made_for(films)
    torch.manual_seed(1)
    first = each.test(model, films)
    torch.manual_seed(2)
    assert each.test(model, films) == first
    assert MODEL["frames"] == each.config.data.clip.frames
