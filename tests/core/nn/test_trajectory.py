"""Trajectory attention against slow loops, and the Orthoformer factors (spec C12.4, C12.5)."""

import pytest
import torch

from tasks.core.nn.trajectory import TrajectoryAttention, _pool_exact, _pool_orthoformer, choose_landmarks, orthoformer_kernels


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


def test_query_comes_from_its_own_frame():
    module, x = make(), torch.randn(1, 6, 8, dtype=torch.float64)
    seen = []
    module.proj_q.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    module(x)
    q, k, v = module.qkv(x).view(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    pooled = _pool_exact(q, k, v, 2)  # (b, h, n, f, d)
    for token in range(6):
        assert torch.allclose(seen[0][0, token], pooled[0, :, token, token // 3].reshape(8))


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
    exact = _pool_exact(q, k, v, 4)
    errors = [(exact - _pool_orthoformer(q, k, v, 4, count, 0)).abs().mean().item() for count in (2, 16, 64)]
    assert errors[0] > errors[1] > errors[2]


def test_module_with_landmarks_runs_and_is_deterministic():
    module, x = make(landmarks=3), torch.randn(2, 6, 8, dtype=torch.float64)
    assert torch.equal(module(x, 2), module(x, 2))
    module(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
