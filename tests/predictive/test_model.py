"""What depends on what: blocks, predictions, memory, directions, gradients."""

import copy

import pytest
import torch
from predictive_toys import MODEL, clips, config, forward, method

from tasks.predictive import objective

EVERY = pytest.mark.parametrize("name", ["dpc", "memdpc"])


def frozen(name: str, **changes):
    """With running statistics, so that blocks meet in the contexts alone."""
    return method(name, model={"statistics": "running", **changes.pop("model", {})}, **changes).eval().coder


@EVERY
def test_predictions_do_not_know_the_future(name):
    coder, video = frozen(name), clips()
    other = video.clone()
    other[:, 4:] = clips(seed=5)[:, 4:]
    with torch.no_grad():
        first, second = coder(video)[0], coder(other)[0]
    assert torch.equal(first.predicted, second.predicted)
    assert torch.equal(first.context, second.context)
    assert not torch.equal(first.target, second.target)


@EVERY
def test_contexts_see_rectified_maps_and_targets_are_signed(name):
    coder, video = frozen(name), clips()
    direction, z = coder(video)[0], coder.encoder.maps(video).mean(3)
    torch.testing.assert_close(direction.context, coder.encoder.aggregator(torch.relu(z[:, :2]))[:, -1])
    torch.testing.assert_close(direction.target, z[:, 2:])
    assert (direction.target < 0).any()


def test_predictors_of_memdpc_begin_a_tenth_as_large_and_the_memory_is_standard_normal():
    for name, gain in (("dpc", 1.0), ("memdpc", 0.1)):
        coder = method(name, method_settings={"slots": 64} if name == "memdpc" else {}).coder
        for layer in (coder.predictor[0], coder.encoder.aggregator.update_gate):
            rows = layer.weight.flatten(1)
            torch.testing.assert_close(rows @ rows.T, gain**2 * torch.eye(len(rows)), atol=1e-5, rtol=0)
            assert (layer.bias == 0).all()
    assert abs(float(coder.memory.detach().mean())) < 0.1
    assert float(coder.memory.detach().std()) == pytest.approx(1, abs=0.1)


@EVERY
def test_norms_and_biases_do_not_decay_and_gradients_are_clipped_as_set(name):
    spec = method(name, optim={"weight_decay": 0.01, "clip_grad": 0.5}).optimizers()["main"]
    assert spec.clip_grad == 0.5
    for group in spec.groups:
        assert {group["weight_decay"] == 0.01} == {p.ndim > 1 for p in group["params"]}


@EVERY
def test_each_prediction_moves_the_context_on(name):
    """The second prediction follows from the first, and its gradient goes through it."""
    coder = frozen(name)
    z = coder.encoder.maps(clips()).mean(3).detach()
    found = coder.predict(coder.encoder.aggregator, z)
    kept = {}

    def watch(context):
        kept.setdefault("first", context)
        return original(context)

    original, coder.next_map = coder.next_map, watch
    found = coder.predict(coder.encoder.aggregator, z)
    assert torch.autograd.grad(found.predicted[:, 1].sum(), kept["first"])[0].abs().max() > 0
    coder.next_map = original
    state = coder.encoder.aggregator.step(torch.relu(found.predicted[:, 0]), found.context)
    torch.testing.assert_close(coder.next_map(state)[0], found.predicted[:, 1])


@EVERY
def test_gradients_reach_the_encoder_through_targets_and_predictions(name):
    built = method(name)
    (direction, *_) = built.coder(clips())
    weight = built.coder.encoder.backbone.conv1.weight
    for part in (direction.predicted, direction.target):
        (found,) = torch.autograd.grad(part.square().sum(), weight, retain_graph=True)
        assert found.abs().max() > 0
    forward(built, clips())["loss"].backward()
    assert all(p.grad is not None for p in built.parameters())
    if name == "memdpc":
        assert built.coder.memory.grad.abs().max() > 0


def test_a_prediction_is_a_convex_combination_of_the_memory():
    coder = frozen("memdpc")
    for direction in coder(clips()):
        assert torch.allclose(direction.addresses.sum(2), torch.ones(()), atol=1e-6)
        low, high = coder.memory.amin(0)[:, None, None], coder.memory.amax(0)[:, None, None]
        assert (direction.predicted >= low - 1e-6).all()
        assert (direction.predicted <= high + 1e-6).all()
        # the score of a combination is the combination of the scores
        expected = torch.einsum("bqkhw,kd,bqdhw->bqhw", direction.addresses, coder.memory, direction.target)
        torch.testing.assert_close((direction.predicted * direction.target).sum(2), expected, atol=1e-5, rtol=1e-5)


def test_one_slot_predicts_the_same_always():
    predicted = frozen("memdpc", method_settings={"slots": 1})(clips())[0].predicted
    assert (predicted - predicted[:1, :1, :, :1, :1]).abs().max() == 0
    assert "memory_entropy" not in forward(method("memdpc", method_settings={"slots": 1}), clips())


def test_the_order_of_the_slots_does_not_matter():
    coder = frozen("memdpc")
    other, order = copy.deepcopy(coder), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        other.memory.copy_(coder.memory[order])
        other.predictor[2].weight.copy_(coder.predictor[2].weight[order])
        other.predictor[2].bias.copy_(coder.predictor[2].bias[order])
        torch.testing.assert_close(coder(clips())[0].predicted, other(clips())[0].predicted)


def test_a_clip_played_backwards_with_aggregators_exchanged_swaps_the_losses():
    built = method("memdpc", model={"block_frames": 1, "predict": 3}, data={"clip": {"frames": 8, "stride_frames": 1}}).eval()
    encoder = built.coder.encoder
    ahead = forward(built, clips())
    encoder.aggregator, encoder.backward_aggregator = encoder.backward_aggregator, encoder.aggregator
    back = forward(built, clips().flip(1))
    torch.testing.assert_close(ahead["forward"], back["backward"])
    torch.testing.assert_close(ahead["backward"], back["forward"])
    assert not torch.allclose(ahead["forward"], ahead["backward"], atol=1e-4)


def test_losses_of_the_two_directions_are_averaged_or_added():
    average, total = (forward(method("memdpc", method_settings={"combine": how}), clips()) for how in ("average", "sum"))
    torch.testing.assert_close(average["loss"].detach(), (average["forward"] + average["backward"]) / 2)
    torch.testing.assert_close(total["loss"], 2 * average["loss"])


def test_one_direction_has_one_aggregator():
    built = method("memdpc", model={"bidirectional": False})
    assert len(built.coder(clips())) == 1
    assert set(forward(built, clips())) == {"loss", "top1", "address_entropy", "memory_entropy"}
    both = method("memdpc").coder
    assert sum(p.numel() for p in both.parameters()) - sum(p.numel() for p in built.coder.parameters()) == sum(
        p.numel() for p in built.coder.encoder.aggregator.parameters()
    )


def test_entropies_are_shares_of_using_all_slots_alike():
    built = method("memdpc")
    with torch.no_grad():
        built.coder.predictor[2].weight.zero_()
        even = forward(built, clips())
        built.coder.predictor[2].bias.copy_(torch.tensor([50.0, 0, 0, 0, 0, 0]))
        one = forward(built, clips())
    for name in ("address_entropy", "memory_entropy"):
        assert even[name] == pytest.approx(1, abs=1e-5)
        assert one[name] == pytest.approx(0, abs=1e-5)


def test_the_plain_score_has_no_norm_and_no_temperature():
    """Twice the features, four times the scores."""
    coder = frozen("dpc")
    (direction,) = coder(clips())
    rows = objective.as_rows(direction.predicted), objective.as_rows(direction.target)
    torch.testing.assert_close(objective.scores(2 * rows[0], 2 * rows[1]), 4 * objective.scores(*rows))


def test_settings_that_cannot_be():
    for changes, message in (
        ({"model": {"block_frames": 3}}, "must be a multiple of model.block_frames"),
        ({"model": {"predict": 4}}, "leaves nothing to predict"),
        ({"augment": {"time_reverse": 0.5}}, "swap past and future"),
        ({"visualize": 2}, "memory, which dpc has not"),
        ({"data": {"clip": {"frames": 8, "sampling": "segments"}}}, "must be dense"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**changes)
    assert MODEL["predict"] == config().model.predict
