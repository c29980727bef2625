"""Which tokens see which, and what the learned mask learns."""

import localization_toys as toys
import pytest
import torch

from tasks.localization.alignment import Alignment, LearnedMask, allowed_pairs
from tasks.localization.config import STREAMS, AlignmentConfig
from tasks.localization.objective import pair_loss
from tasks.localization.targets import tokens_inside

T = 9


def alignment(mask: str, layers: int = 1, **settings) -> Alignment:
    torch.manual_seed(0)
    return Alignment(toys.config({"alignment": {"mask": mask, "layers": layers, **settings}}).model, toys.DIMS).eval()


def streams(length: int = T, size: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(size, length, toys.DIMS[name]) for name in STREAMS}


def gradients(mask: str, **settings) -> torch.Tensor:
    """(T, T): how much token t of the picture, aligned, depends on token t' of the sound."""
    given = streams()
    given["audio"].requires_grad_()
    aligned = alignment(mask, **settings)(given, torch.ones(1, T, dtype=torch.bool)).tokens["visual"]
    return torch.stack(
        [torch.autograd.grad(aligned[0, t].square().sum(), given["audio"], retain_graph=True)[0][0].abs().sum(-1) for t in range(T)]
    )


@pytest.mark.parametrize(("mask", "reach"), [("time", 0), ("band", 2), ("off", T), ("learned", T)])
def test_what_a_token_sees_of_the_other_modality(float64, mask: str, reach: int):
    found = gradients(mask, band=2) > 1e-12
    apart = (torch.arange(T)[:, None] - torch.arange(T)).abs()
    assert torch.equal(found, apart <= reach)


def test_video_level_tokens_see_their_own_modality_alone():
    allowed = allowed_pairs(3, AlignmentConfig(mask="off"), torch.device("cpu"))
    assert allowed[0].tolist() == [True] * 4 + [False] * 4
    assert allowed[:, 4].tolist() == [False] * 4 + [True] * 4
    assert allowed[1].tolist() == [True] * 4 + [False] + [True] * 3


def test_a_flat_learned_mask_is_plain_attention(float64):
    """It is flat before training."""
    learned, plain = alignment("learned", 2), alignment("off", 2)
    plain.load_state_dict({name: x for name, x in learned.state_dict().items() if not name.startswith("learned.")})
    mask = torch.arange(T) < torch.tensor([[T], [T - 3]])
    first, second = (each(streams(size=2), mask) for each in (learned, plain))
    for name in STREAMS:
        assert torch.allclose(first.tokens[name], second.tokens[name])
        assert torch.allclose(first.videos[name], second.videos[name])
    with torch.no_grad():
        learned.learned.distance[0] = 3.0
    assert not torch.allclose(learned(streams(size=2), mask).tokens["visual"], second.tokens["visual"])


def test_a_learned_mask_shuts_out_what_is_in_no_common_event(float64):
    model = alignment("learned")
    added = torch.zeros(1, 2 * T, 2 * T)
    added[0, 0, 5] = -40.0
    bias = model.bias(torch.ones(1, T, dtype=torch.bool), added, torch.float64)
    assert bias.shape == (1, 1, 2 * T + 2, 2 * T + 2)
    assert bias[0, 0, 1, 6] == -40  # behind the video token
    added[0, 0, 5], added[0, T, T + 2] = 0.0, -7.0
    bias = model.bias(torch.ones(1, T, dtype=torch.bool), added, torch.float64)
    assert bias[0, 0, T + 2, T + 4] == -7  # behind both
    assert bias[0, 0, 0, T + 2] == float("-inf")


def test_the_learned_mask_alone_learns_common_events():
    """Tokens carry a noisy mark of their event; pairs of one event are told from others better than in 95 of 100 cases."""
    torch.manual_seed(0)
    dim, length = 16, 24
    marks = torch.randn(4, dim)

    def clips(count: int) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], torch.Tensor]:
        given, events = {name: [] for name in STREAMS}, []
        for _ in range(count):
            starts = torch.randperm(14)[:2].float()
            segments = torch.stack([starts, starts + 4 + torch.randint(0, 5, (2,))], 1)
            inside = tokens_inside(segments, length)
            which = torch.randperm(4)[:2]
            for name in STREAMS:
                given[name].append(inside.float() @ marks[which] + 0.2 * torch.randn(length, dim))
            events.append(inside)
        return {name: torch.stack(values) for name, values in given.items()}, events, torch.ones(count, length, dtype=torch.bool)

    learned = LearnedMask(dim, AlignmentConfig(pair_width=16, reach=24))
    optimizer = torch.optim.Adam(learned.parameters(), 2e-2)
    for _ in range(250):
        given, events, mask = clips(16)
        _, pairs, gates = learned(given)
        optimizer.zero_grad()
        pair_loss(pairs, gates, events, mask).backward()
        optimizer.step()
    given, events, mask = clips(32)
    with torch.no_grad():
        _, pairs, gates = learned(given)
    inside = torch.stack(events).repeat(1, 2, 1).float()
    common = inside @ inside.transpose(1, 2) > 0
    right = (pairs > 0) == common
    balanced = (right[common].float().mean() + right[~common].float().mean()) / 2
    assert right.float().mean() > 0.95
    assert balanced > 0.93
    assert ((gates > 0) == inside.any(-1)).float().mean() > 0.95


def test_the_loss_of_the_mask_by_hand(float64):
    """One video of two valid tokens, the first in an event; what is padding does not count."""
    pairs, gates = torch.zeros(1, 6, 6), torch.zeros(1, 6)
    events, mask = [torch.tensor([[True], [False], [False]])], torch.tensor([[True, True, False]])
    assert pair_loss(pairs, gates, events, mask).item() == pytest.approx(2 * torch.tensor(2.0).log().item())
    pairs[0, 2], pairs[0, :, 5], gates[0, 2] = 50.0, -50.0, 9.0
    assert pair_loss(pairs, gates, events, mask).item() == pytest.approx(2 * torch.tensor(2.0).log().item())
    truth = torch.full((1, 6, 6), -50.0)
    truth[0, [0, 0, 3, 3], [0, 3, 0, 3]] = 50.0
    gates = torch.tensor([[50.0, -50, 0, 50, -50, 0]])
    assert pair_loss(truth, gates, events, mask).item() < 1e-9


def test_added_to_its_input_it_begins_as_a_projection(float64):
    torch.manual_seed(0)
    made = Alignment(toys.config({"residual": True}).model, {"visual": 5, "audio": 3})
    given, mask = {"visual": torch.randn(2, T, 5), "audio": torch.randn(2, T, 3)}, torch.arange(T) < torch.tensor([[T], [T - 2]])
    found = made(given, mask).tokens
    for name, x in given.items():
        assert torch.equal(found[name], made.project[name](x) * mask[..., None])
    sum(x.square().sum() for x in found.values()).backward()
    assert all(factor.grad != 0 for factor in made.factor.values())
    with torch.no_grad():
        made.factor["audio"].fill_(1.0)
    assert torch.equal(made(given, mask).tokens["visual"], found["visual"])
    assert not torch.allclose(made(given, mask).tokens["audio"], found["audio"])
