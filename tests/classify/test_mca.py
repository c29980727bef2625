"""MOFO's head: equal to a loop over clips, blind to the order of tokens, and what it does without inner or outer tokens."""

import pytest
import torch
from pinned import same_everywhere
from torch import nn

from tasks.classify.config import FinetuneConfig, HeadConfig
from tasks.classify.mca import CrossBlock, MotionHead, inner_tokens
from tasks.classify.method import Classification
from tasks.classify.model import Classifier
from tasks.classify.turbo import build_method
from tasks.core.config import build
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import build_encoder

DIM, CLASSES, N = 24, 5, 30
MODEL = {"size": "tiny", "dim": 24, "depth": 1, "heads": 2, "image_size": 32, "frames": 4, "tubelet": 2, "patch": 8}
NOW = Progress(0, 0, 1, 1)


def head(depth=1, heads=3, **changes) -> MotionHead:
    torch.manual_seed(0)
    built = MotionHead(DIM, CLASSES, HeadConfig(mca={"heads": heads, "depth": depth}, init_scale=1.0, **changes)).eval()
    return same_everywhere(built, vectors=0.1)


def tokens(b=6, seed=0) -> torch.Tensor:
    return torch.randn(b, N, DIM, generator=torch.Generator().manual_seed(seed))


def inside(b=6, seed=0) -> torch.Tensor:
    """Random inner tokens; of the last two clips none, and all."""
    found = torch.rand(b, N, generator=torch.Generator().manual_seed(seed)) < torch.linspace(0.1, 0.9, b)[:, None]
    found[-2], found[-1] = False, True
    return found


def attended(block: CrossBlock, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Equation 3 of the paper, head by head: softmax(Q K^T / sqrt(d)) V of `(n, dim)` and `(m, dim)`."""
    a, width = block.attn, DIM // block.attn.heads
    q, k, v = a.query(x), a.key(y), a.value(y)
    parts = [slice(h * width, (h + 1) * width) for h in range(a.heads)]
    return a.proj(torch.cat([(q[:, p] @ k[:, p].T / width**0.5).softmax(-1) @ v[:, p] for p in parts], 1))


def by_loop(built: MotionHead, all_tokens: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Clip by clip, with the tokens of each part alone."""
    fused = []
    for x, mask in zip(all_tokens, inner, strict=True):
        if not mask.any():
            fused.append(x.mean(0))
            continue
        mine, others = x[mask], x[~mask]
        for block in built.blocks:
            y = others if len(others) else mine
            mine = mine + attended(block, block.norm1(mine), block.norm1(y))
            mine = mine + block.mlp(block.norm2(mine))
        fused.append(mine.mean(0))
    return built.linear(built.norm(torch.stack(fused)))


@pytest.mark.parametrize(("depth", "heads"), [(1, 3), (2, 3), (1, 1), (3, 4)])
def test_all_clips_together_are_a_loop_over_clips(depth, heads):
    built = head(depth, heads)
    with torch.no_grad():
        assert torch.allclose(built(tokens(), inside()), by_loop(built, tokens(), inside()), atol=1e-5)


def test_the_order_of_inner_and_of_outer_tokens_does_not_matter():
    built, x, inner = head(), tokens(), inside()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(built(x, inner), built(x[:, order], inner[:, order]), atol=1e-5)
    swapped = inner[:, order]
    assert not torch.allclose(built(x, inner)[0], built(x, swapped)[0], atol=1e-3)


def test_outer_tokens_matter_and_gradients_reach_both_parts():
    built, inner = head(), inside()
    x = tokens().requires_grad_()
    built(x, inner)[:, 0].sum().backward()
    size = x.grad.abs().sum(-1)
    assert (size[:4][inner[:4]] > 0).all()
    assert (size[:4][~inner[:4]] > 0).all()
    assert (size[4:] > 0).all()  # without an inner token, without an outer one


def test_without_values_and_mlp_it_is_the_mean_of_the_inner_tokens():
    built = head()
    with torch.no_grad():
        for block in built.blocks:
            for part in (block.attn.value, block.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
            block.attn.proj.bias.zero_()
        x, inner = tokens(), inside()
        means = torch.stack([each[mask].mean(0) if mask.any() else each.mean(0) for each, mask in zip(x, inner, strict=True)])
        assert torch.allclose(built(x, inner), built.linear(built.norm(means)), atol=1e-5)


def test_neither_part_is_counted_with_the_other_and_nothing_is_nan():
    built = head()
    x, inner = tokens(2), torch.zeros(2, N, dtype=torch.bool)
    assert torch.allclose(built(x, inner), built.of_pooled(x.mean(1)), atol=1e-6)
    assert built(x, ~inner).isfinite().all()
    x = x.requires_grad_()
    (built(x, inner).sum() + built(x, ~inner).sum()).backward()
    assert all(p.grad.isfinite().all() for p in built.parameters())
    assert x.grad.isfinite().all()


def test_parameters_of_the_paper():
    """One block of ViT-B: 7.09 M, with an encoder of 86 M; the paper's 102 M has a second block and a helper."""
    with torch.device("meta"):
        encoder = build_encoder(VitConfig(size="base"))
        block = CrossBlock(768, 3)

    def millions(module: nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    assert round(millions(block), 2) == 7.09
    assert 86 <= millions(encoder) <= 87
    assert sum(p.numel() for p in block.attn.parameters()) == 4 * 768**2 + 3 * 768
    assert HeadConfig(mca={}).mca.model_dump() == {"heads": 3, "depth": 1}


def test_a_token_is_inner_when_a_box_of_its_frames_touches_it():
    model = VitConfig(**MODEL)
    boxes = torch.zeros(2, 4, 4)
    boxes[0, 0] = torch.tensor([7.5, 8.0, 8.5, 9.0])  # columns 0 and 1 of row 1
    boxes[0, 1] = torch.tensor([24.0, 0, 32, 8])  # column 3 of row 0, in the same tubelet
    boxes[0, 3] = torch.tensor([-5.0, 24, 99, 99])  # row 3, beyond the frame
    found = inner_tokens(boxes, model).view(2, 2, 4, 4)
    expected = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    expected[0, 0, 1, :2] = expected[0, 0, 0, 3] = expected[0, 1, 3] = True
    assert torch.equal(found, expected)


def brute_force(boxes: torch.Tensor, model: VitConfig) -> torch.Tensor:
    """Pixels painted, cubes looked at."""
    painted = torch.zeros(len(boxes), model.frames, model.image_size, model.image_size)
    for clip, own in zip(painted, boxes.int().tolist(), strict=True):
        for frame, (x1, y1, x2, y2) in zip(clip, own, strict=True):
            frame[y1:y2, x1:x2] = 1
    p, t = model.patch, model.tubelet
    return nn.functional.max_pool3d(painted[:, None], (t, p, p)).flatten(1) > 0


def test_inner_tokens_are_the_cubes_with_a_painted_pixel():
    model, rng = VitConfig(**MODEL), torch.Generator().manual_seed(0)
    corners = torch.randint(0, 33, (64, 4, 2, 2), generator=rng).sort(2).values.flatten(2).float()
    assert torch.equal(inner_tokens(corners, model), brute_force(corners, model))


def settings(**changes) -> FinetuneConfig:
    base = {
        "model": MODEL,
        "head": {"mca": {"heads": 3}, "drop_path": 0.0, "init_scale": 1.0},
        "data": {"clip": {"frames": 4}, "boxes": "compute"},
    }
    return build(FinetuneConfig, {**base, **changes})


def batch(n=4, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([4.0, 4, 20, 20]).repeat(n, 4, 1)
    boxes[-1] = 0
    return {
        "video": torch.randn(n, 4, 3, 32, 32, generator=generator),
        "boxes": boxes,
        "still": torch.tensor([True] + [False] * (n - 1)),
        "target": torch.eye(CLASSES)[torch.arange(n) % CLASSES],
    }


@pytest.mark.parametrize("turbo", [None, {"mask": 0.5}])
def test_the_method_trains_every_parameter_and_says_what_the_boxes_were(turbo):
    method = build_method(settings(turbo=turbo), VitConfig(**MODEL), CLASSES)
    losses = method(batch(), BatchRandom(0, 0, rows=4), NOW)
    losses["loss"].backward()
    silent = [name for name, p in method.named_parameters() if p.grad is None]
    assert silent == []
    assert (losses["without_inner"].item(), losses["nothing_moves"].item(), losses["without_outer"].item()) == (0.25, 0.25, 0)
    assert losses["inner_share"].item() == pytest.approx(0.75 * 9 / 16)


PINNED = [1.4536826398, 1.9041316865, 1.5895982534, 1.6704667929]


def test_pinned_losses(float64):
    config = settings()
    method = same_everywhere(Classification(config, VitConfig(**MODEL), CLASSES))
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for step in range(4):
        found = {name: value.double() if value.is_floating_point() else value for name, value in batch(seed=step).items()}
        loss = method(found, BatchRandom(0, step, rows=4), NOW)["loss"]
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses == pytest.approx(PINNED, rel=1e-8)


def test_chosen_tokens_are_inner_where_they_were():
    """A classifier that sees some of the tokens splits them as it would all of them."""
    classifier = same_everywhere(Classifier(VitConfig(**MODEL), CLASSES, settings().head), 0.1).eval()
    found = batch(3)
    everything = torch.arange(32).expand(3, -1)
    order = everything.flip(1)
    whole = classifier(found["video"], boxes=found["boxes"])
    assert torch.allclose(classifier(found["video"], everything, found["boxes"]), whole, atol=1e-5)
    assert torch.allclose(classifier(found["video"], order, found["boxes"]), whole, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(UsageError, match=r"head.mca needs boxes.*data.boxes to compute"):
        settings(data={"clip": {"frames": 4}})
    with pytest.raises(UsageError, match=r"nothing looks at boxes but head\.mca"):
        settings(head={})
    with pytest.raises(UsageError, match="mixup and cutmix blend clips"):
        settings(augment={"cutmix": 1.0})
    with pytest.raises(UsageError, match="mca is trained with the encoder"):
        settings(head={"mca": {}, "mode": "linear"})
    from tasks.classify.mca import check

    with pytest.raises(UsageError, match="width 24 cannot be split into 5 heads") as refused:
        check(settings(head={"mca": {"heads": 5}}), VitConfig(**MODEL))
    assert refused.value.hint == "--set head.mca.heads=4"
    resnet = {"family": "resnet", "size": "resnet18"}
    config = settings(model=resnet)
    with pytest.raises(UsageError, match=r"head\.mca needs an encoder of tokens"):
        check(config, config.model)
    classifier = Classifier(VitConfig(**MODEL), CLASSES, settings().head)
    with pytest.raises(UsageError, match="looks at boxes around what moves, and got none"):
        classifier(batch()["video"])
