"""Two models tested together, by hand."""

import numpy as np
import pytest

from tasks.classify.fusion import align_similarities, common_labels, fuse_values
from tasks.classify.views import Outputs
from tasks.core.errors import UsageError


def outputs(values, uids, skipped=()):
    uids = np.array(uids, dtype=np.int64)
    return Outputs(np.array(values, dtype=np.float32), uids % 2, uids, [f"v{u}" for u in uids], list(skipped))


def test_probabilities_of_videos_that_both_could_read_are_averaged():
    first = outputs([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [0, 1, 3], [("v2", "short")])
    second = outputs([[0.4, 0.6], [0.5, 0.5], [0.3, 0.7]], [0, 2, 3], [("v1", "broken")])
    found = fuse_values([first, second])
    np.testing.assert_allclose(found.values, [[0.6, 0.4], [0.2, 0.8]], atol=1e-6)
    assert (found.uids.tolist(), found.labels.tolist(), found.paths) == ([0, 3], [0, 1], ["v0", "v3"])
    assert sorted(found.skipped) == [("v1", "broken"), ("v2", "short")]


def test_one_model_is_left_as_it_is():
    alone = outputs([[1.0]], [0])
    assert fuse_values([alone]) is alone
    assert align_similarities([(alone, alone, np.ones((1, 1)))]) == (alone, alone, [np.ones((1, 1))])


def test_a_video_that_neither_could_read_is_skipped_once():
    parts = [outputs([[1.0]], [0], [("v1", reason)]) for reason in ("first", "second")]
    assert fuse_values(parts).skipped == [("v1", "first")]


def test_nothing_in_common():
    assert len(fuse_values([outputs([[1.0]], [0]), outputs([[1.0]], [1])]).values) == 0
    assert len(fuse_values([outputs([[1.0]], [0]), outputs(np.zeros((0, 0)), [])]).values) == 0


def test_similarities_are_those_of_common_queries_and_gallery():
    first = (outputs(np.zeros((2, 3)), [0, 1]), outputs(np.zeros((3, 3)), [5, 6, 7]), np.arange(6.0).reshape(2, 3))
    second = (outputs(np.zeros((2, 9)), [1, 2]), outputs(np.zeros((2, 9)), [5, 7]), np.array([[10.0, 20.0], [30.0, 40.0]]))
    queries, gallery, similarities = align_similarities([first, second])
    assert (queries.uids.tolist(), gallery.uids.tolist()) == ([1], [5, 7])
    assert [similarity.tolist() for similarity in similarities] == [[[3, 5]], [[10, 20]]]


def test_labels_must_agree_and_may_be_in_another_order():
    assert common_labels({"rgb": ["a", "b"], "flow": ["b", "a"]}) == ["a", "b"]
    with pytest.raises(UsageError, match="rgb and flow do not have the same classes: b, c"):
        common_labels({"rgb": ["a", "b"], "flow": ["a", "c"]})
