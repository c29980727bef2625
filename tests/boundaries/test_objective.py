"""The four losses by hand, the queue, the keys, the order labels."""

import math
from collections import Counter

import pytest
import torch
from pretrain_helpers import batch, config, method, progress, rng
from torch.nn import functional as F

from tasks.boundaries import objective
from tasks.core.nn.queue import KeyQueue

NOBODY = torch.zeros(1, 2, dtype=torch.bool)

pytestmark = pytest.mark.usefixtures("float64")


def directions(*degrees):
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def by_hand(positive, negatives, temperature):
    top = math.exp(positive / temperature)
    return -math.log(top / (top + sum(math.exp(n / temperature) for n in negatives)))


def test_info_nce_with_two_negatives():
    got = objective.info_nce(torch.tensor([0.9]), torch.tensor([[0.2, -0.4]]), 0.5)
    assert got.item() == pytest.approx(by_hand(0.9, [0.2, -0.4], 0.5), rel=1e-9)


def test_at_a_temperature_of_a_hundredth_nothing_overflows():
    got = objective.info_nce(torch.tensor([-1.0]).float(), torch.tensor([[1.0, 0.5]]).float(), 0.01)  # float32 ends at exp(88)
    assert got.item() == pytest.approx(200.0, rel=1e-6)


def test_inter_is_the_mean_of_three_against_the_queue():
    query, keys, negatives = directions(0), directions(10, 40, 80)[None], directions(90, 150)
    got = objective.inter(query, keys, negatives, NOBODY, 0.2)
    against = [math.cos(math.radians(d)) for d in (90, 150)]
    expected = sum(by_hand(math.cos(math.radians(d)), against, 0.2) for d in (10, 40, 80)) / 3
    assert got.item() == pytest.approx(expected, rel=1e-9)


def test_keys_of_the_same_video_are_no_negatives():
    query, keys, negatives = directions(0), directions(10)[None], directions(5, 150)
    same = torch.tensor([[True, False]])
    got = objective.inter(query, keys, negatives, same, 0.2)
    assert got.item() == pytest.approx(by_hand(math.cos(math.radians(10)), [math.cos(math.radians(150))], 0.2), rel=1e-9)
    alone = query.clone().requires_grad_()
    loss = objective.inter(alone, keys, negatives, torch.ones_like(same), 0.2)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(alone.grad, torch.zeros(1, 2))


def test_intra_in_both_forms():
    query, keys = directions(0), directions(10, 40, 80)[None]
    cosines = [math.cos(math.radians(d)) for d in (10, 40, 80)]
    assert objective.intra(query, keys, 0.3).item() == pytest.approx(by_hand(cosines[0], cosines[1:], 0.3), rel=1e-9)
    pairs = (by_hand(cosines[0], cosines[1:2], 0.3) + by_hand(cosines[0], cosines[2:], 0.3)) / 2
    assert objective.intra(query, keys, 0.3, "pairwise").item() == pytest.approx(pairs, rel=1e-9)


def test_segment_is_info_nce_against_its_queue():
    got = objective.segment(directions(0), directions(20), directions(90, 150), NOBODY, 0.2)
    expected = by_hand(math.cos(math.radians(20)), [math.cos(math.radians(d)) for d in (90, 150)], 0.2)
    assert got.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [3, 4])
def test_a_shuffle_is_never_forwards_or_backwards(count):
    table = objective.shuffles(count).tolist()
    assert len(table) == len({tuple(row) for row in table}) == math.factorial(count) - 2
    assert list(range(count)) not in table
    assert list(range(count))[::-1] not in table
    assert all(sorted(row) == list(range(count)) for row in table)


def test_orders_and_labels_are_balanced():
    draws = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0))
    (first, anchor), (second, positive) = objective.draw_orders(draws[:, :2], 3), objective.draw_orders(draws[:, 2:], 3)
    for order, shuffled in ((first, anchor), (second, positive)):
        assert (order[shuffled == 0] == torch.arange(3)).all()
        found = Counter(tuple(row) for row in order[shuffled == 1].tolist())
        assert set(found) == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)}
        assert all(abs(n / 2000 - 0.25) < 0.05 for n in found.values())
    shares = torch.bincount(anchor + 2 * positive, minlength=4) / 4000
    assert (shares - 0.25).abs().max() < 0.03


def test_order_labels_name_who_is_shuffled():
    logits = torch.eye(4) * 50
    anchor, positive = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    assert objective.order(logits, anchor, positive).item() == pytest.approx(0, abs=1e-6)
    assert objective.order(logits, positive, anchor).item() > 20


def test_the_queue_turns():
    queue = KeyQueue(5, 2)
    start = queue.keys.clone()
    assert torch.allclose(start.norm(dim=1), torch.ones(5))
    queue.enqueue(torch.full((3, 2), 1.0), torch.tensor([7, 7, 8]))
    assert torch.equal(queue.keys[3:], start[3:])
    before, _ = queue.negatives(torch.tensor([7]))
    queue.enqueue(torch.full((3, 2), 2.0), torch.tensor([9, 9, 9]))
    assert queue.keys[:, 0].tolist() == [2.0, 1.0, 1.0, 2.0, 2.0]
    assert queue.videos.tolist() == [9, 7, 8, 9, 9]
    assert before[0, 0] == 1.0  # what a loss has taken stays as it was
    assert queue.negatives(torch.tensor([7, 9]))[1].tolist() == [[False, True, False, False, False], [True, False, False, True, True]]
    queue.enqueue(torch.arange(14.0).view(7, 2), torch.arange(7))
    assert sorted(queue.videos.tolist()) == [2, 3, 4, 5, 6]  # of more keys than places the newest stay


def test_intra_ignores_the_queue_and_keys_get_no_gradient():
    first, second = method(), method()
    second.frame_queue.keys.neg_()
    second.segment_queue.keys.neg_()
    one, two = (each(batch(), rng(), progress()) for each in (first, second))
    assert one["intra"] == two["intra"]
    assert one["order"] == two["order"]
    assert one["inter"] != two["inter"]
    assert one["segment"] != two["segment"]
    one["loss"].backward()
    assert all(p.grad is None for p in (*first.key_encoder.parameters(), *first.key_heads.parameters()))
    assert all(p.grad is not None for p in first.parameters() if p.requires_grad)
    trained = {id(p) for group in first.optimizers()["main"].groups for p in group["params"]}
    assert not trained & {id(p) for p in (*first.key_encoder.parameters(), *first.key_heads.parameters())}


def test_all_keys_are_enqueued_with_their_videos():
    built = method()
    built(batch(), rng(), progress())
    assert built.frame_queue.videos.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert built.segment_queue.videos.tolist() == [0, 1, 2, 3] + 8 * [-1]
    assert torch.allclose(built.frame_queue.keys.norm(dim=1), torch.ones(12))


def test_the_key_encoder_follows_by_a_moving_average_once_a_step():
    built = method()
    built(batch(), rng(), progress(0))
    query, key = built.encoder.conv1.weight, built.key_encoder.conv1.weight
    assert torch.equal(query, key)
    with torch.no_grad():
        query.add_(1.0)
    old = key.clone()
    for _ in range(2):  # two micro-batches of one step
        built(batch(), rng(), progress(1))
    assert torch.allclose(key, 0.9 * old + 0.1 * query, atol=1e-12)
    built(batch(), rng(), progress(2))
    assert torch.allclose(key, 0.81 * old + 0.19 * query, atol=1e-12)


def test_the_whole_loss_from_its_parts():
    """The method's four losses from its own features and heads, written out."""
    built, given, temperature = method(), batch(), 0.1
    reference = method()
    negatives = [built.frame_queue.keys.clone(), built.segment_queue.keys.clone()]
    got = built(given, rng(), progress())
    reference.train()
    with torch.no_grad():
        pooled = lambda encoder, x, t: encoder(x.flatten(0, -4), t).mean((2, 3))  # noqa: E731
        q1 = pooled(reference.encoder, given["frames"][:, 0], None)
        clips = pooled(reference.encoder, given["anchor"], 2).view(4, 3, 2, -1).mean(2)
        p = pooled(reference.key_encoder, given["frames"][:, 1:], None).view(4, 3, -1)
        key_clips = pooled(reference.key_encoder, given["positive"], 2).view(4, 3, 2, -1).mean(2)
        unit = lambda x: F.normalize(x, dim=-1)  # noqa: E731
        q, k = unit(reference.heads["inter"](q1)), unit(reference.key_heads["inter"](p))
        inter = 0.0
        for b in range(4):
            for i in range(3):
                inter += by_hand(float(q[b] @ k[b, i]), (negatives[0] @ q[b]).tolist(), temperature) / 12
        assert got["inter"].item() == pytest.approx(inter, rel=1e-9)
        q, k = unit(reference.heads["intra"](q1)), unit(reference.key_heads["intra"](p))
        intra = sum(by_hand(float(q[b] @ k[b, 0]), (k[b, 1:] @ q[b]).tolist(), temperature) for b in range(4)) / 4
        assert got["intra"].item() == pytest.approx(intra, rel=1e-9)
        q, k = unit(reference.heads["segment"](clips.mean(1))), unit(reference.key_heads["segment"](key_clips.mean(1)))
        segment = sum(by_hand(float(q[b] @ k[b]), (negatives[1] @ q[b]).tolist(), temperature) for b in range(4)) / 4
        assert got["segment"].item() == pytest.approx(segment, rel=1e-9)
    assert got["loss"].item() == pytest.approx(sum(got[name].item() for name in ("inter", "intra", "segment", "order")), rel=1e-9)


def test_weights_weigh():
    parts = method()(batch(), rng(), progress())
    weighed = method(contrast={"weights": (1.0, 2.0, 0.5, 0.0)})(batch(), rng(), progress())
    assert weighed["loss"].item() == pytest.approx((parts["inter"] + 2 * parts["intra"] + 0.5 * parts["segment"]).item(), rel=1e-9)


def test_vanilla_vclr_passes_motion_over():
    plain = method(contrast={"clip_tasks": False}, model={**config().model.model_dump(), "motion": None, "shift": False})
    out = plain(batch(frames=1), rng(), progress())
    out["loss"].backward()
    assert all(p.grad is not None for p in plain.parameters() if p.requires_grad)
