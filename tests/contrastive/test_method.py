"""The methods: what moves, what the queues hold, when learning begins; pinned losses; two processes."""

import numpy as np
import pytest
import torch
from contrastive_helpers import PROGRESS, batch, batches, config, method, rng, train
from pinned import same_everywhere
from torch.nn import functional as F
from worlds import train_in_world

from tasks.contrastive import objective
from tasks.contrastive.method import METHODS, CoCLR
from tasks.core.engine.method import Progress

NAMES = ("infonce", "ubernce", "coclr")
HELPERS = __file__.replace("test_method", "contrastive_helpers")


def filled(made: CoCLR, steps: int = 2) -> CoCLR:
    """With a full queue of clips with numbers from 100 on."""
    for step in range(steps):
        with torch.no_grad():
            made(batch(4, 50 + step, first=100 + 4 * step), rng(step), PROGRESS)
    return made


def at(step: int) -> Progress:
    return Progress(step, 0, 10, 100)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name):
    made = filled(method(name, optim={"weight_decay": 0.01}).train())
    losses = made(batch(), rng(), PROGRESS)
    losses["loss"].backward()
    trained = {id(p) for group in made.optimizers()["main"].groups for p in group["params"]}
    assert trained == {id(p) for p in made.encoder.parameters()}
    decay = {id(p): group["weight_decay"] for group in made.optimizers()["main"].groups for p in group["params"]}
    assert {decay[id(p)] for p in made.encoder.parameters() if p.ndim > 1} == {made.config.optim.weight_decay}
    assert {decay[id(p)] for p in made.encoder.parameters() if p.ndim == 1} == {0.0}
    assert all(torch.isfinite(p.grad).all() for p in made.encoder.parameters())
    still = [p for p in made.parameters() if id(p) not in trained]
    assert all(p.grad is None and not p.requires_grad for p in still)
    assert not any(tensor.requires_grad for tensor in made.buffers())
    assert all(not losses[key].requires_grad for key in losses if key != "loss")


def test_the_key_encoder_follows_by_the_formula():
    made = method(method={"momentum": 0.9})
    keys = [p.clone() for p in made.keyed.key_encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(keys, made.encoder.parameters(), strict=True))
    optimizer = torch.optim.SGD(made.optimizers()["main"].groups, lr=0.1)
    made(batch(), rng(), at(0))["loss"].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(keys, made.keyed.key_encoder.parameters(), strict=True))
    for micro in range(2):  # micro-batches of one step move it once
        made(batch(seed=micro), rng(), at(1))
    for key, query, now in zip(keys, made.encoder.parameters(), made.keyed.key_encoder.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * key + 0.1 * query, rtol=1e-5, atol=1e-7)


def test_keys_join_behind_the_loss_and_the_oldest_go():
    made = method()
    with torch.no_grad():
        for step in range(3):
            made(batch(4, step, first=10 * step), rng(step), PROGRESS)
    queue = made.keyed.queue
    assert queue.videos.tolist() == [20, 21, 22, 23, 10, 11, 12, 13]
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(8))
    made.eval()
    before = queue.keys.clone()
    made(batch(), rng(), PROGRESS)
    assert torch.equal(queue.keys, before)  # evaluation leaves no trace


def test_both_queues_of_co_training_hold_the_same_clips():
    made = method("coclr").train()
    pushed = [batch(4, step, first=10 * step) for step in range(3)]
    with torch.no_grad():
        for step, given in enumerate(pushed):
            made(given, rng(step), PROGRESS)
        by_number = {}
        for given in pushed:
            features = made.miner.encoder.outputs(given["flow"][:, 1])["projection"]
            by_number |= dict(zip(given["source"].tolist(), features, strict=True))
    assert made.keyed.queue.next == made.miner.queue.next
    for place, number in enumerate(made.keyed.queue.videos.tolist()):
        torch.testing.assert_close(made.miner.queue.keys[place], by_number[number])
        assert made.miner.queue.videos[place] == number % 2


def test_the_other_view_is_mined_in_and_the_second_clip_asks():
    for view, own, other in (("rgb", "video", "flow"), ("flow", "flow", "video")):
        made = filled(method("coclr", method={"view": view}).eval().train())
        given = batch()
        made.eval()
        with torch.no_grad():
            loss = made(given, rng(), PROGRESS)["loss"]
            query = made.encoder.outputs(given[own][:, 0])["projection"]
            key = made.keyed.key_encoder.outputs(given[own][:, 1])["projection"]
            asks = made.miner.encoder.outputs(given[other][:, 1])["projection"]
            scores = torch.cat([(query * key).sum(1, keepdim=True), query @ made.keyed.queue.keys.T], 1) / 0.07
            best = (asks @ made.miner.queue.keys.T).topk(2, 1).indices
            positive = torch.zeros(4, 8, dtype=torch.bool).scatter(1, best, True)
            positive = torch.cat([torch.ones(4, 1, dtype=torch.bool), positive], 1)
            expected = -torch.log((scores.softmax(1) * positive).sum(1)).mean()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_no_mining_is_info_nce():
    mined, plain = (method(name, method=extra) for name, extra in (("coclr", {"topk": 0}), ("infonce", {})))
    mined.encoder.load_state_dict(plain.encoder.state_dict())
    mined.keyed.load_state_dict(plain.keyed.state_dict())
    with torch.no_grad():
        losses = [made.eval()(batch(), rng(), PROGRESS)["loss"] for made in (mined, plain)]
    torch.testing.assert_close(*losses)


def test_the_loss_begins_at_nothing_and_climbs_to_guessing():
    """At first the own key is found among random directions; then the queue holds keys that are all alike."""
    made = method(model={"width": 0.1, "image_size": 32, "projection": 128}, method={"queue": 32, "momentum": 0.999}).train()
    with torch.no_grad():
        found = [made(batch(4, step, first=4 * step), rng(step), PROGRESS)["loss"].item() for step in range(12)]
    assert found[0] < 0.3
    assert np.mean(found[8:]) == pytest.approx(np.log(33), rel=0.3)


def test_clips_of_the_own_source_are_positive_and_never_mined():
    """One clip has one sibling in the queue of 8, one has two and the others none."""
    made = filled(method("coclr").train()).eval()
    made.keyed.queue.videos[1] = 104  # that of place 4
    given = batch() | {"source": torch.tensor([100, 104, 0, 1])}
    kept = {}

    def watch(scores, positive):
        kept["positive"] = positive
        return scores.sum()

    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setattr(objective, "inside_log", watch)
        made(given, rng(), PROGRESS)
    assert kept["positive"].sum(1).tolist() == [1 + 2 + 1, 1 + 2 + 2, 1 + 2, 1 + 2]
    assert kept["positive"][0, 1]
    assert kept["positive"][1, [2, 5]].all()


def test_labels_make_positives():
    made = method("ubernce", method={"loss": "inside"})
    assert (made.keyed.queue.videos == -1).all()
    with torch.no_grad():
        made(batch(), rng(), PROGRESS)
        assert made.keyed.queue.videos.tolist() == [0, 1, 0, 1, -1, -1, -1, -1]
        found = made.eval()(batch(), rng(), PROGRESS)["loss"]
        made.config = config("ubernce", method={"loss": "outside"})
        assert made(batch(), rng(), PROGRESS)["loss"] > found


def test_the_miner_is_frozen():
    made = method("coclr").train()
    assert not any(module.training for module in made.miner.modules())
    before = {name: tensor.clone() for name, tensor in made.miner.encoder.state_dict().items()}
    filled(made)(batch(), rng(), PROGRESS)["loss"].backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in made.miner.encoder.state_dict().items())


@pytest.mark.parametrize("stream", ["video", "flow"])
def test_no_number_in_either_stream_is_no_loss(stream):
    """The miner would otherwise find no neighbours, and training would go on as InfoNCE."""
    made, given = filled(method("coclr").train()), batch()
    given[stream][1, 1, 0, 0, 0, 0] = torch.nan
    assert torch.isnan(made(given, rng(), PROGRESS)["loss"])


def test_nothing_is_learned_before_the_queue_is_full(tmp_path):
    torch.manual_seed(0)
    made = train(tmp_path, "coclr", 2, steps=4)  # four batches of 2 fill a queue of 8
    torch.manual_seed(0)
    untouched = METHODS["coclr"](made.config)
    assert made.learns(PROGRESS)
    assert not untouched.learns(PROGRESS)
    for (name, now), then in zip(made.encoder.named_parameters(), untouched.encoder.parameters(), strict=True):
        assert torch.equal(now, then), name
    torch.manual_seed(0)
    made = train(tmp_path / "longer", "coclr", 2, steps=5)
    assert not torch.equal(next(made.encoder.parameters()), next(untouched.encoder.parameters()))


def test_starting_weights_reach_both_encoders():
    made, other = method(), method(seed=1)
    weights = {name: tensor for name, tensor in other.encoder.state_dict().items() if not name.startswith("projection.")}
    head = made.encoder.projection[0].weight.clone()
    made.start_from(weights, "there")
    assert torch.equal(made.encoder.projection[0].weight, head)
    for encoder in (made.encoder, made.keyed.key_encoder):
        assert torch.equal(encoder.conv_1a.conv1.weight, other.encoder.conv_1a.conv1.weight)
    assert all(torch.equal(a, b) for a, b in zip(made.encoder.parameters(), made.keyed.key_encoder.parameters(), strict=True))


def test_mining_finds_planted_classes():
    """Features of the other view that tell ten classes apart: more than 95 of 100 mined neighbours are of the class."""
    draws = np.random.default_rng(0)
    labels = torch.from_numpy(draws.integers(10, size=300))
    features = F.normalize(F.one_hot(labels, 32).float() + 0.1 * torch.from_numpy(draws.standard_normal((300, 32))).float(), dim=1)
    mined, _ = objective.mine(features[:44] @ features[44:].T, torch.arange(44), torch.arange(44, 300), 5)
    alike = labels[:44, None] == labels[44:]
    assert (mined & alike).sum() / mined.sum() > 0.95


def test_mined_positives_bring_classes_together():
    """RGB with little of the class in it learns it from a miner that sees it; without mining it does not."""
    draws = np.random.default_rng(0)
    centers = torch.from_numpy(draws.standard_normal((4, 8)))
    labels = torch.from_numpy(draws.integers(4, size=256))
    own = torch.from_numpy(draws.standard_normal((256, 8))) * 2  # every video looks its own way
    rgb = torch.cat([centers[labels], own], 1)
    flow = F.one_hot(labels, 4).double() + 0.05 * torch.from_numpy(draws.standard_normal((256, 4)))
    flow = F.normalize(flow, dim=1)

    def accuracy(topk: int) -> float:
        torch.manual_seed(0)
        layer = torch.nn.Linear(16, 8).double()
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        numbers = torch.arange(256)
        for _ in range(60):
            query, key = (F.normalize(layer(rgb + 0.3 * torch.randn(256, 16).double()), dim=1) for _ in range(2))
            half = slice(0, 128), slice(128, 256)
            scores = objective.logits(query[half[0]], key[half[0]].detach(), key[half[1]].detach(), 0.1)
            mined, _ = objective.mine(flow[half[0]] @ flow[half[1]].T, numbers[half[0]], numbers[half[1]], topk)
            positive = torch.cat([torch.ones(128, 1, dtype=torch.bool), mined], 1)
            optimizer.zero_grad()
            objective.inside_log(scores, objective.without_own_key(positive, torch.tensor(True))).backward()
            optimizer.step()
        with torch.no_grad():
            features = F.normalize(layer(rgb), dim=1)
        near = (features @ features.T).fill_diagonal_(-2).argmax(1)
        return (labels[near] == labels).double().mean().item()

    assert accuracy(5) > accuracy(0) + 0.1


PINNED = {
    "infonce": [5.5332867346, 2.8051569560, 7.7110731700, 5.8892970928],
    "ubernce": [7.6792771976, 6.5267281099, 7.7813153338, 5.6554448402],
    "coclr": [3.9618159421, 0.5027679570, 1.2720517544, 1.2196690966],
}


@pytest.mark.parametrize("name", NAMES)
def test_pinned_losses(name, float64):
    """Four losses of plain SGD that hold on every CPU."""
    made = same_everywhere(method(name))
    made.keyed.copy_to_keys()
    queues = [made.keyed.queue, *([made.miner.queue] if name == "coclr" else [])]
    for number, queue in enumerate(queues):
        drawn = torch.from_numpy(np.random.default_rng(number).standard_normal(queue.keys.shape))
        queue.keys.copy_(F.normalize(drawn, dim=1))
        queue.videos.copy_(torch.arange(8) % 3)
    optimizer = torch.optim.SGD(made.optimizers()["main"].groups, lr=1e-3, momentum=0.9)
    found = []
    for step in range(4):
        draws = np.random.default_rng(step)
        pairs = {view: torch.from_numpy(draws.standard_normal((4, 2, 4, 3, 32, 32))) for view in ("video", "flow")}
        numbers = torch.arange(4)
        losses = made(pairs | {"source": 10 + numbers, "label": numbers % 2}, rng(step), at(step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append(losses["loss"].item())
    assert found == pytest.approx(PINNED[name], rel=1e-4)  # a step of 30 batch norms makes rounding ten thousand times larger


def test_two_processes_are_as_one(tmp_path, float64):
    """Shared batch norm: 2 x 2 videos give the weights and the queues that 1 x 4 gives; the queues of both processes are the same."""
    (tmp_path / "two").mkdir()
    train_in_world(2, HELPERS, tmp_path / "two", "coclr")
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.manual_seed(0)
    made = train(tmp_path, "coclr", 4)
    for key, tensor in made.state_dict().items():
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
        assert (first[key] - tensor).abs().max() <= 1e-3 * tensor.abs().max() + 1e-9, key  # rounding grows


def test_queues_stay_aligned_where_processes_have_unequal_batches(tmp_path, float64):
    (tmp_path / "two").mkdir()
    train_in_world(2, HELPERS, tmp_path / "two", "coclr", "uneven")
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in range(2))
    for queue in ("keyed.queue", "miner.queue"):
        assert all(torch.equal(first[f"{queue}.{part}"], second[f"{queue}.{part}"]) for part in ("keys", "videos", "next"))
    made = METHODS["coclr"](config("coclr"))
    made.miner.encoder.load_state_dict({k.removeprefix("miner.encoder."): t for k, t in first.items() if k.startswith("miner.encoder.")})
    by_number = {}
    for _, given in zip(range(4), batches(0, 4, 0, False), strict=False):
        with torch.no_grad():
            features = made.miner.encoder.outputs(given["flow"][:, 1].double())["projection"]
        by_number |= dict(zip(given["source"].tolist(), features, strict=True))
    for place, number in enumerate(first["keyed.queue.videos"].tolist()):
        torch.testing.assert_close(first["miner.queue.keys"][place], by_number[number])
        assert first["miner.queue.videos"][place] == number % 2
