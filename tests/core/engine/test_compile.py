"""Compiled regions: the same numbers in few graphs. Traced without generating code, which needs no compiler on the machine."""

import functools

import pytest
import torch
from masked_helpers import MODEL, SAMPLERS, method, progress, rng, video

from tasks.core.engine.accelerator import compile_regions
from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import VideoTransformer


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Compiling without a code generator; gives the statistics of the tracer."""
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def step(trained: torch.nn.Module) -> tuple[dict[str, torch.Tensor], list[torch.Tensor | None]]:
    """Losses and gradients of a training step."""
    torch.manual_seed(0)
    losses = trained({"video": video()}, rng(), progress())
    losses["loss"].backward()
    for phase in trained.phases_after(progress()):
        update = trained(None, None, progress(), phase)
        update["loss"].backward()
        losses |= {f"{phase}_{name}": value for name, value in update.items()}
    return losses, [parameter.grad for parameter in trained.parameters()]


@pytest.mark.parametrize("settings", SAMPLERS[:6], ids=lambda s: "-".join(str(v) for v in s.values()))
@pytest.mark.slow
def test_a_compiled_method_gives_the_same_numbers(settings, traced):
    plain, compiled = method(settings), method(settings)
    compile_regions(compiled)
    (losses, gradients), (found, found_gradients) = step(plain), step(compiled)
    for name, value in losses.items():
        assert torch.allclose(found[name], value, atol=1e-5), name
    for expected, gradient in zip(gradients, found_gradients, strict=True):
        assert (expected is None) == (gradient is None)
        assert expected is None or torch.allclose(gradient, expected, atol=1e-6)
    if not settings.get("landmarks"):  # whose choice is left out of the graph
        assert not traced["graph_break"]
    assert traced["stats"]["unique_graphs"] >= 3  # encoder, decoder, loss


@pytest.mark.slow
def test_landmarks_that_begin_elsewhere_need_no_graph_of_their_own(traced):
    trained = method(SAMPLERS[4])
    compile_regions(trained)
    graphs = []
    for number in range(4):
        trained({"video": video()}, rng(number), progress(number))
        trained.phases_after(progress(number))
        graphs.append(traced["stats"]["unique_graphs"])
    assert graphs[1:] == graphs[:-1]


def test_blocks_that_are_dropped_at_different_rates_share_a_graph(traced):
    model = VideoTransformer(VitConfig(**{**MODEL, "depth": 6}), drop_path=0.3).train()
    compile_regions(model)
    for clips in (2, 2, 3):
        model(video(clips)).sum().backward()
    assert traced["stats"]["unique_graphs"] == 4  # of two sizes of a batch, with and without dropping


def test_dropped_branches_keep_their_mean():
    torch.manual_seed(0)
    drop = VideoTransformer(VitConfig(**MODEL), drop_path=0.5).blocks[-1].drop_path.train()
    found = drop(torch.ones(4000, 2, 3))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(found[:, 0, 0], found[:, 1, 2])
    assert torch.equal(drop.eval()(found), found)
