"""Search through known vectors and sentences."""

import math

import numpy as np
import pytest
from search_toys import unit, write_index

from tasks.core.data.captions import Sentence
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.prompting.search.config import SearchConfig
from tasks.prompting.search.example import Example
from tasks.prompting.search.find import by_pictures, by_words, described, dots, run, similarities

DRAWN = np.random.default_rng(0)


def some(n, dim=4):
    found = DRAWN.standard_normal((n, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (777, 512), (5000, 300)])
def test_cosines_are_exact(shape, dtype):
    rows, query = some(*shape).astype(dtype), some(1, shape[1])[0]
    rows.flags.writeable = False
    np.testing.assert_allclose(dots(rows, query), rows.astype(np.float64) @ query.astype(np.float64), atol=2e-6)


def test_windows_of_all_shares_are_compared_in_the_order_of_the_videos(tmp_path):
    first, second, third = some(5), some(4), some(7)
    write_index(tmp_path / "i", {"/a.mp4": first, "/b.mp4": second}, part="1-of-2")
    index = write_index(tmp_path / "i", {"/c.mp4": third, "/empty.mp4": third[:0]}, part="2-of-2")
    query = some(1)[0]
    scores, spans, videos = similarities(index, query)
    assert [(span.first, span.n, video.path) for span, video in zip(spans, videos, strict=True)] == [
        (0, 5, "/a.mp4"),
        (5, 4, "/b.mp4"),
        (9, 7, "/c.mp4"),
    ]
    wanted = np.concatenate([first, second, third]).astype(np.float16).astype(np.float32) @ query
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_the_dead_rows_of_a_video_that_was_done_again_are_not_found(tmp_path):
    write_index(tmp_path / "i", {"/a.mp4": np.stack([unit(1, 0, 0, 0)]), "/b.mp4": np.stack([unit(1, 1, 0, 0)])})
    index = write_index(tmp_path / "i", {"/a.mp4": np.stack([unit(0, 0, 0, 1)])})
    found = by_pictures(index, unit(1, 0, 0, 0), SearchConfig(top=2))
    assert [(one.video.path, round(one.moment.score, 2)) for one in found] == [("/b.mp4", 0.71), ("/a.mp4", 0.0)]


def world(tmp_path):
    """A video whose seconds 20 to 30 show what (1, 0, 0, 0) is, one with it at 4 s, both with words."""
    base = np.stack([unit(0.1, 1, 0, 0)] * 30)
    a, b = base.copy(), base[:10].copy()
    a[10:15] = unit(1, 0.05, 0, 0)
    b[2] = unit(1, 0.5, 0, 0)
    said = {
        "/a.mp4": [Sentence(21, 24, "The dog barks."), Sentence(25, 27, "A dog!"), Sentence(50, 52, "Silence")],
        "/b.mp4": [Sentence(0.0, math.inf, "A film about a dog")],
    }
    return write_index(tmp_path / "i", {"/a.mp4": a, "/b.mp4": b}, said)


def test_an_event_is_one_moment_with_what_is_said_in_it(tmp_path):
    first, second = by_pictures(world(tmp_path), unit(1, 0, 0, 0), SearchConfig(top=2))
    assert described(first, 1) == {
        "rank": 1,
        "video": "/a.mp4",
        "path": "/a.mp4",
        "start_s": 20.0,
        "end_s": 30.0,
        "at_s": 20.02,
        "score": pytest.approx(0.9988, abs=1e-3),
        "said": ["The dog barks.", "A dog!"],
    }
    assert (second.video.path, second.moment.start_s, second.moment.end_s, second.said) == ("/b.mp4", 4.0, 6.0, ())


def test_of_each_video_its_best_moment(tmp_path):
    index = world(tmp_path)
    found = by_pictures(index, unit(1, 0, 0, 0), SearchConfig(top=10, per="video"))
    assert [one.video.path for one in found] == ["/a.mp4", "/b.mp4"]
    assert len(by_pictures(index, unit(1, 0, 0, 0), SearchConfig(top=10))) > 2


def test_an_example_is_not_its_own_answer(tmp_path):
    index = world(tmp_path)
    (found,) = by_pictures(index, unit(1, 0, 0, 0), SearchConfig(top=1), Example("/a.mp4", 25.0))
    assert found.video.path == "/b.mp4"
    whole = by_pictures(index, unit(1, 0, 0, 0), SearchConfig(top=10), Example("/a.mp4", None))
    assert {one.video.path for one in whole} == {"/b.mp4"}


def test_words_are_found_with_their_times_neighbours_once(tmp_path):
    found = by_words(world(tmp_path), "DOG", SearchConfig(by="words"))
    assert [(one.video.path, one.moment.start_s, one.moment.end_s) for one in found] == [("/a.mp4", 25, 27), ("/b.mp4", 0.0, 20.0)]
    assert found[0].said[0].text == "A dog!"
    apart = by_words(world(tmp_path / "x"), "dog", SearchConfig(by="words", apart_s=0.5))
    assert [one.moment.start_s for one in apart if one.video.path == "/a.mp4"] == [25, 21]
    assert by_words(world(tmp_path / "y"), "zebra", SearchConfig(by="words")) == []


def test_what_cannot_be_searched_is_one_error(tmp_path):
    words = write_index(tmp_path / "words", {"/a.mp4": some(0)}, {"/a.mp4": [Sentence(0, 1, "x")]}, id=None, model=None)
    seen = write_index(tmp_path / "seen", {"/a.mp4": some(2)})
    nothing = write_index(tmp_path / "nothing", {})
    cases = [
        (words, "a dog", {}, UsageError, "holds words alone"),
        (seen, "a dog", {"by": "words"}, UsageError, "has no words"),
        (seen, " \n", {}, InputError, "the query is empty"),
        (words, "...", {"by": "words"}, InputError, "has no word"),
        (words, Example("/a.mp4", 1.0), {"by": "words"}, UsageError, "not by words"),
        (seen, "a dog", {}, UsageError, "the model that made .* is not at toy any more"),
    ]
    for index, query, settings, kind, text in cases:
        with pytest.raises(kind, match=text):
            run(SearchConfig(**settings), index.folder, query, Quiet())
    with pytest.raises(UsageError, match="has no windows"):
        by_pictures(nothing, unit(1, 0, 0, 0), SearchConfig())
