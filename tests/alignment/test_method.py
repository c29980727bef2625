"""Both stages: losses that hold on every CPU, the moving average, and a small world in which stage 2 beats stage 1."""

import numpy as np
import pytest
import torch
from alignment_toys import batch, config
from pinned import same_everywhere

from tasks.alignment.method import METHODS, Aligning, Cotraining
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.metrics.alignment import pointing_scores


def step(method: Aligning, made: dict, number: int = 0) -> dict:
    return method(made, BatchRandom(0, number, 0, len(made["video"])), Progress(number, 0, 10, 10))


def doubled(made: dict) -> dict:
    return {name: value.double() if value.is_floating_point() else value for name, value in made.items()}


def losses_of(name: str) -> list[float]:
    """Of four steps of plain gradient descent from weights drawn by numpy."""
    method = same_everywhere(METHODS[name](config(name), 6, 12, 9)).train()
    if isinstance(method, Cotraining):
        method.restart_target()
    found = []
    for number in range(4):
        losses = step(method, doubled(batch(seed=number)), number)
        found.append(losses["loss"].item())
        method.zero_grad()
        losses["loss"].backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    return found


@pytest.mark.parametrize("name", METHODS)
def test_pinned_losses(float64, name):
    assert losses_of(name) == pytest.approx(PINNED[name], abs=1e-9)


PINNED = {
    "tan": [5.553259286264282, 3.8199292107625755, 5.174780894355342, 4.048828993934064],
    "tan-cotrain": [6.4765804986359665, 4.337612039766294, 2.34391733561508, 4.737712352452466],
}


@pytest.mark.parametrize("name", METHODS)
def test_forward_and_backward(float64, name):
    torch.manual_seed(0)
    method = METHODS[name](config(name), 6, 12, 9)
    losses = step(method, doubled(batch()))
    losses["loss"].backward()
    missing = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert torch.isfinite(losses["loss"])
    assert all(p.grad is None for key, p in method.named_parameters() if key.startswith("target."))


def test_losses_are_those_of_the_pairs(float64):
    """The loss of a batch is that of its videos' rows joined by hand."""
    from tasks.alignment.objective import correspondence

    method, made = same_everywhere(Aligning(config(), 6, 12, 9)).eval(), doubled(batch())
    found = method.encode(made)
    video = torch.cat([found.dual_video[b][:, made["video_mask"][b]] for b in range(3)], 1)
    text = torch.cat([found.dual_text[b][made["text_mask"][b]] for b in range(3)])[None]
    blocks = [made["right"][b][made["text_mask"][b]][:, made["video_mask"][b]].T for b in range(3)]
    right = torch.full((video.shape[1], text.shape[1]), -torch.inf)
    row = column = 0
    for block in blocks:
        right[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    assert step(method, made)["dual_loss"].item() == pytest.approx(correspondence(video, text, right, 0.07).item())


def test_sentences_without_a_place_and_videos_without_a_sentence(float64):
    made = doubled(batch())
    made["text_mask"][0] = False
    for name in METHODS:
        assert torch.isfinite(step(METHODS[name](config(name), 6, 12, 9), made)["loss"])
    made["text_mask"][:] = False
    for name in METHODS:
        losses = step(METHODS[name](config(name), 6, 12, 9), made)
        losses["loss"].backward()
        assert losses["loss"].item() == 0


def test_the_target_follows_after_every_step(float64):
    method, made = Cotraining(config("tan-cotrain", method={"momentum": 0.9}), 6, 12, 9), doubled(batch())
    weight = method.aligner.video_in.weight
    expected = weight.detach().clone()
    for number in range(4):
        step(method, made, number)
        torch.testing.assert_close(method.target.video_in.weight, expected)
        step(method, made, number)  # another micro-batch of the same step
        torch.testing.assert_close(method.target.video_in.weight, expected)
        with torch.no_grad():
            weight += torch.randn(weight.shape)
        expected = 0.9 * expected + 0.1 * weight.detach()


SPREAD = 4.0
"""Features by which given times are wrong."""


class World:
    """Features are random vectors. Half of the sentences are noisy copies of what some span shows, seen through a fixed matrix; the others
    are of nothing. Their times are wrong by SPREAD.
    """

    def __init__(self, videos: int, seed: int, length: int = 48, sentences: int = 8, dim: int = 12):
        draws = np.random.default_rng(seed)
        self.length = length
        through = np.random.default_rng(99).standard_normal((dim, dim)) / dim**0.5
        self.video = draws.standard_normal((videos, length, dim))
        self.starts = np.stack([draws.permutation(length // 4)[:sentences] * 4 for _ in range(videos)])
        self.flags = draws.random((videos, sentences)) < 0.5
        said = draws.standard_normal((videos, sentences, dim))
        for v, k in np.argwhere(self.flags):
            self.video[v, self.starts[v, k] : self.starts[v, k] + 3] = said[v, k] + 0.3 * draws.standard_normal((3, dim))
        self.text = (said + 0.3 * draws.standard_normal(said.shape)) @ through
        self.given = np.clip(self.starts + np.round(draws.normal(0, SPREAD, self.starts.shape)).astype(int), 0, length - 3)

    def batch(self, chosen: np.ndarray) -> dict:
        at = torch.arange(self.length)
        given = torch.from_numpy(self.given[chosen])[..., None]
        masks = (at >= given) & (at < given + 3)
        return {
            "video": torch.from_numpy(self.video[chosen]).float(),
            "text": torch.from_numpy(self.text[chosen]).float(),
            "video_mask": torch.ones(len(chosen), self.length, dtype=torch.bool),
            "text_mask": torch.ones(masks.shape[:2], dtype=torch.bool),
            "given": masks,
            "right": -(((at - given - 1) / SPREAD) ** 2) / 2,
            "edge": torch.zeros(masks.shape[:2], dtype=torch.bool),
        }

    @torch.no_grad()
    def scores(self, method: Aligning) -> dict:
        """R@1 and AUC by the highest similarity."""
        method.eval()
        similarity = sum(method.encode(self.batch(np.arange(len(self.video)))).similarities())
        method.train()
        best, at = (each.flatten().numpy() for each in similarity.max(-1))
        spans = [(start, start + 3) for start in self.starts.flatten()]
        return pointing_scores([float(t) for t in at], best, self.flags.flatten().astype(int), spans)


def trained(method: Aligning, world: World, steps: int, lr: float) -> dict:
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    draws = np.random.default_rng(0)
    for number in range(steps):
        loss = step(method, world.batch(draws.integers(0, len(world.video), 16)), number)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return world.scores(method)


@pytest.mark.slow
def test_the_second_stage_beats_the_first():
    torch.manual_seed(0)
    model = {"width": 32, "dual_layers": 0, "joint_layers": 1, "positions": None}
    settings = {"model": model, "data": {"max_length": 48}, "window": {"spread_s": SPREAD}}
    train, val = World(200, 0), World(40, 1)
    first = Aligning(config(**settings), 12, 12)
    trained(first, train, 60, 5e-3)
    second = Cotraining(config("tan-cotrain", method={"momentum": 0.95}, **settings), 12, 12)
    second.load_state_dict(first.state_dict(), strict=False)
    second.restart_target()
    trained(second, train, 100, 3e-3)
    one, two = val.scores(first), val.scores(second)
    assert two["r_at_1"] > one["r_at_1"]
    assert two["auc"] > max(0.9, one["auc"] + 0.02)
