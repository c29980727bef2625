"""Trajectory attention against slow loops, and the Orthoformer factors."""

import pytest
import torch

from tasks.core.nn.trajectory import (
    AcrossFrames,
    TrajectoryAttention,
    choose_landmarks,
    orthoformer_kernels,
    pool_exact,
    pool_orthoformer,
)


def slow(module: TrajectoryAttention, x: torch.Tensor) -> torch.Tensor:
    """Equations 5.1 and 5.2 as loops over samples, heads, queries and frames."""
    b, n, dim = x.shape
    h, frames = module.heads, module.frames
    p, d = n // frames, dim // h
    q, k, v = (z.view(b, n, h, d) for z in module.qkv(x).chunk(3, -1))
    out = torch.zeros_like(x)
    for s in range(b):
        for i in range(n):
            pooled = torch.zeros(frames, dim, dtype=x.dtype)
            for t in range(frames):
                for j in range(h):
                    scores = torch.stack([q[s, i, j] @ k[s, t * p + place, j] * d**-0.5 for place in range(p)]).softmax(0)
                    pooled[t, j * d : (j + 1) * d] = sum(scores[place] * v[s, t * p + place, j] for place in range(p))
            query = module.proj_q(pooled[i // p])
            keys, values = module.proj_kv(pooled).chunk(2, -1)
            if module.raw_values:
                values = pooled
            merged = torch.zeros(dim, dtype=x.dtype)
            for j in range(h):
                part = slice(j * d, (j + 1) * d)
                merged[part] = (keys[:, part] @ query[part] * d**-0.5).softmax(0) @ values[:, part]
            out[s, i] = module.proj(merged)
    return out


def make(raw: bool = False, landmarks: int | None = None) -> TrajectoryAttention:
    torch.manual_seed(0)
    module = TrajectoryAttention(8, 2, 2, landmarks, raw).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("raw", [False, True])
def test_equals_the_loops(raw):
    module, x = make(raw), torch.randn(2, 6, 8, dtype=torch.float64)
    assert torch.allclose(module(x), slow(module, x), atol=1e-10)


def test_value_flag_changes_the_output():
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    assert not torch.allclose(make(False)(x), make(True)(x))


def test_permuting_places_within_a_frame_only_permutes_the_output():
    module, x = make(), torch.randn(1, 6, 8, dtype=torch.float64)
    order = torch.tensor([2, 0, 1, 3, 4, 5])
    assert torch.allclose(module(x[:, order]), module(x)[:, order], atol=1e-12)


def test_orthoformer_factors_are_distributions():
    torch.manual_seed(1)
    q, k = torch.randn(2, 2, 3, 12, 4).unbind(0)
    to_landmarks, to_places = orthoformer_kernels(q, k, 3, 5, 0)
    assert to_landmarks.shape == (2, 3, 12, 5)
    assert to_places.shape == (2, 3, 5, 3, 4)
    assert torch.allclose(to_landmarks.sum(-1), torch.ones(2, 3, 12))
    assert torch.allclose(to_places.sum(-1), torch.ones(2, 3, 5, 3))


def test_landmarks_are_distinct_orthogonal_first_and_without_gradient():
    q = torch.eye(4).repeat(1, 1, 2, 1)  # eight queries, four directions, each twice
    chosen = choose_landmarks(q.requires_grad_(), 4, 1)
    assert chosen[0, 0, 0] == 1
    assert sorted((chosen[0, 0] % 4).tolist()) == [0, 1, 2, 3]
    torch.manual_seed(0)
    q = torch.randn(1, 1, 6, 4, requires_grad=True)
    _, to_places = orthoformer_kernels(q, torch.randn(1, 1, 6, 4), 2, 3, 0)
    assert not to_places.requires_grad  # the landmarks themselves carry no gradient


def test_orthoformer_error_shrinks_with_landmarks():
    torch.manual_seed(0)
    q, k, v = (0.5 * torch.randn(4, 2, 64, 16) for _ in range(3))
    exact = torch.stack(pool_exact(q, k, v, 4))
    errors = [(exact - pool_orthoformer(q, k, v, 4, count, 0)[0]).abs().mean().item() for count in (2, 16, 64)]
    assert errors[0] > errors[1] > errors[2]


def test_module_with_landmarks_runs_and_is_deterministic():
    module, x = make(landmarks=3), torch.randn(2, 6, 8, dtype=torch.float64)
    assert torch.equal(module(x, 2), module(x, 2))
    module(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("raw", [False, True])
def test_gradients_are_those_of_finite_differences(raw):
    module, x = make(raw), torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]
    values = [parameter.detach().requires_grad_() for parameter in module.parameters()]

    def output(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(output, (x, *values))


@pytest.mark.parametrize("stacked", [False, True])
def test_second_attention_has_the_gradients_of_its_formula(stacked):
    torch.manual_seed(0)
    shapes = [(8, 8), (8,), (2, 4, 8), (2, 4, 8), (3, 2, 6, 8)]
    w_q, b_q, w_k, w_v, pooled = inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found = AcrossFrames.apply(w_q, b_q, w_k, w_v, *([pooled] if stacked else pooled.unbind(0)))
    own = torch.stack([pooled[token // 2, :, token] for token in range(6)], 1)
    query = (own @ w_q.T + b_q).view(2, 6, 2, 4)
    weights = torch.einsum("bnhd,hdc,fbnc->bnhf", query, w_k, pooled).softmax(-1)
    expected = torch.einsum("bnhf,fbnc,hdc->bnhd", weights, pooled, w_v)
    assert torch.allclose(found, expected)
    gradient = torch.randn_like(found)
    for ours, theirs in zip(*(torch.autograd.grad(out, inputs, gradient) for out in (found, expected)), strict=True):
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("landmarks", [None, 3])
def test_in_bfloat16_it_stays_near(landmarks):
    module, x = make(landmarks=landmarks).float(), torch.randn(2, 6, 8)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x)
    found.float().sum().backward()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(p.grad.isfinite().all() for p in module.parameters())
