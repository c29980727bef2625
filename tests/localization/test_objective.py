"""The losses by hand, and what the method makes of them."""

import localization_toys as toys
import pytest
import torch
from pinned import same_everywhere

from tasks.core.engine.method import MAIN
from tasks.localization.decode import decode
from tasks.localization.model import Output
from tasks.localization.objective import distance_iou, focal, head_sums
from tasks.localization.targets import Targets, assign, make_points


def test_focal_loss_by_hand(float64):
    """At p = 0.5: 0.25 · 0.25 · ln 2 of a positive, 0.75 · 0.25 · ln 2 of a negative."""
    log2 = torch.tensor(2.0).log().item()
    found = focal(torch.zeros(2), torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([log2 / 16, 3 * log2 / 16])
    probability = torch.tensor(0.2)
    logit = (probability / (1 - probability)).log()
    assert focal(logit, torch.tensor(1.0)).item() == pytest.approx(-0.25 * 0.8**2 * torch.tensor(0.2).log().item())
    assert focal(logit, torch.tensor(0.0)).item() == pytest.approx(-0.75 * 0.2**2 * torch.tensor(0.8).log().item())


def test_distance_iou_by_hand(float64):
    same = torch.tensor([2.0, 3.0])
    assert distance_iou(same, same).item() == 0
    # [-2, 2] against [-1, 5]: IoU 3 / 7, middles 2 apart in an enclosing length of 7
    assert distance_iou(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 5.0])).item() == pytest.approx(1 - 3 / 7 + (2 / 7) ** 2)
    # the same length, half as far: IoU 1 / 3
    assert distance_iou(torch.tensor([4.0, 0.0]), torch.tensor([2.0, 2.0])).item() == pytest.approx(1 - 1 / 3 + (2 / 6) ** 2)


def test_distance_iou_of_nothing_is_finite():
    offsets = torch.zeros(3, 2, requires_grad=True)
    loss = distance_iou(offsets, torch.zeros(3, 2)).sum()
    loss.backward()
    assert loss.isfinite()
    assert offsets.grad.isfinite().all()


def test_sums_count_valid_points_alone(float64):
    """Two points of two classes; the third is padding."""
    target = Targets(torch.tensor([[1.0, 0], [0, 0], [1, 1]]), torch.tensor([[[1.0, 3], [0, 0]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]))
    logits, offsets = torch.zeros(1, 3, 2), torch.ones(1, 3, 2, 2)
    classes, boundaries, positives = head_sums(logits, offsets, torch.tensor([[True, True, False]]), [target], 0.0)
    log2 = torch.tensor(2.0).log().item()
    assert classes.item() == pytest.approx((1 + 3 * 3) * log2 / 16)
    assert boundaries.item() == pytest.approx(1 - 2 / 4 + (1 / 4) ** 2)
    assert positives.item() == 1


def test_smoothing_of_labels(float64):
    """y (1 - s) + s / (K + 1)."""
    target = Targets(torch.tensor([[1.0, 0]]), torch.zeros(1, 2))
    logits = torch.tensor([[[0.3, -0.4]]])
    found = head_sums(logits, torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), [target], 0.3)[0]
    assert found.item() == pytest.approx(focal(logits[0], torch.tensor([[0.8, 0.1]])).sum().item())


def test_a_batch_of_background_alone_has_a_finite_loss_and_gradient():
    trained, batch = toys.method().train(), toys.batch()
    batch["segments"] = [torch.zeros(0, 2)] * 2
    batch["labels"] = [torch.zeros(0, dtype=torch.int64)] * 2
    found = toys.losses(trained, batch)
    found["loss"].backward()
    assert found["boundary_loss"] == 0
    assert found["class_loss"] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())


def test_the_divisor_is_a_moving_average_of_positive_points(float64):
    trained, batch = toys.method(loss={"first_positives": 100}).train(), toys.batch()
    output = trained.localizer(batch["video"], batch["audio"], batch["mask"])
    positives = sum(
        int((each.classes.sum(-1) > 0)[torch.cat(output.masks, 1)[i]].sum()) for i, each in enumerate(trained.targets(output, batch))
    )
    assert positives > 0
    first = trained.eval().head_losses(output, batch)["class_loss"].item() * 100
    assert trained.positives.item() == 100  # testing leaves it alone
    found = trained.train().head_losses(output, batch)["class_loss"].item()
    assert trained.positives.item() == pytest.approx(90 + 0.1 * positives)
    assert found == pytest.approx(first / (90 + 0.1 * positives))


@pytest.mark.parametrize("class_aware", [True, False])
def test_decoded_targets_are_the_events(class_aware: bool):
    segments, labels = torch.tensor([[3.2, 9.7], [12.5, 44.1]]), torch.tensor([1, 2])
    lengths = [64 >> level for level in range(6)]
    settings = toys.config().model.ranges
    target = assign(make_points(lengths, settings), segments, labels, 3, class_aware)
    logits = torch.where(target.classes > 0, 5.0, -20.0)
    parts = [x.split(lengths) for x in (logits, target.offsets)]
    output = Output(*([x[None] for x in part] for part in parts), [torch.ones(1, n, dtype=torch.bool) for n in lengths])
    found = decode(output, toys.config().events)[0]
    assert len(found["scores"]) == int((target.classes > 0).sum()) > 2
    for segment, label in zip(found["segments"], found["labels"], strict=True):
        assert segment.tolist() == pytest.approx(segments[label - 1].tolist(), abs=1e-4)


def test_a_term_weighs_what_the_settings_say(float64):
    contrast = {"inter": 0.0, "intra": 0.0, "score": 0.0, "token_class": 0.0}
    trained = toys.method(model={"contrast": contrast, "alignment": {"supervision": 0.0}}, loss={"regression": 2.0}).eval()
    found = toys.losses(trained, toys.batch())
    assert found["loss"].item() == pytest.approx((found["class_loss"] + 2 * found["boundary_loss"]).item())
    for name, weight in (("inter", 3.0), ("intra", 0.5), ("score", 0.1), ("token_class", 0.2)):
        other = toys.method(
            model={"contrast": {**contrast, name: weight}, "alignment": {"supervision": 0.0}}, loss={"regression": 2.0}
        ).eval()
        more = toys.losses(other, toys.batch())
        assert more["loss"].item() == pytest.approx((found["loss"] + weight * more[f"{name}_loss"]).item())


def test_norms_biases_tokens_and_factors_are_not_decayed():
    trained = toys.method(model={"layer_scale": 1e-4})
    groups = trained.optimizers()[MAIN].groups
    free = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert free
    for name, parameter in trained.named_parameters():
        assert (id(parameter) in free) == (parameter.ndim < 2 or name.endswith(("_token", "position"))), name


def test_losses_are_pinned(float64):
    trained = same_everywhere(toys.method(classes=3), 0.1).train()
    history = []
    optimizer = torch.optim.SGD(trained.parameters(), 1e-2)
    for step in range(4):
        loss = toys.losses(trained, toys.batch(seed=step), step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history == pytest.approx([7.9966236031908435, 1.1968277905938352, 1.0358828869731407, 1.7821069411555583], rel=1e-9)
