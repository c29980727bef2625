"""What MOFO's head is for: the label is which way one small patch moves, and others move too, each its own way."""

import torch

from tasks.classify.config import FinetuneConfig
from tasks.classify.method import Classification
from tasks.core.config import build
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig

SIDE, CELL, MOVING, STEPS = 40, 8, 6, 40
MODEL = {"size": "tiny", "dim": 48, "depth": 1, "heads": 3, "image_size": SIDE, "frames": 4, "tubelet": 2, "patch": CELL, "pos": "sincos3d"}


def clips(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Videos `(n, 4, 3, S, S)` in which a bar slides to the left or to the right in each of six cells; boxes `(n, 4, 4)` of the first of
    these cells, and which way its bar slides `(n,)`.
    """
    rng = torch.Generator().manual_seed(seed)
    ground = torch.rand(n, 1, 1, SIDE // 4, SIDE // 4, generator=rng).repeat_interleave(4, -1).repeat_interleave(4, -2)
    video, right = ground.repeat(1, 4, 1, 1, 1), torch.randint(0, 2, (n, MOVING), generator=rng)
    boxes = torch.zeros(n, 4, 4)
    for number in range(n):
        cells = torch.randperm((SIDE // CELL) ** 2, generator=rng)[:MOVING].tolist()
        for place, cell in enumerate(cells):
            y, x = CELL * (cell // (SIDE // CELL)), CELL * (cell % (SIDE // CELL))
            video[number, ..., y : y + CELL, x : x + CELL] = 0
            for t in range(4):
                at = x + (2 * t if right[number, place] else 6 - 2 * t)
                video[number, t, 0, y + 2 : y + 6, at : at + 2] = 1
            if not place:
                boxes[number] = torch.tensor([x, y, x + CELL, y + CELL])
    return (2 * video - 1).expand(-1, -1, 3, -1, -1).contiguous(), boxes, right[:, 0]


def elsewhere(boxes: torch.Tensor, seed: int) -> torch.Tensor:
    """Boxes of random cells."""
    cell = torch.randint(0, (SIDE // CELL) ** 2, (len(boxes),), generator=torch.Generator().manual_seed(seed))
    x, y = CELL * (cell % (SIDE // CELL)), CELL * (cell // (SIDE // CELL))
    return torch.stack((x, y, x + CELL, y + CELL), -1)[:, None].expand(-1, 4, -1).float()


def learned(kind: str, seed: int = 0) -> float:
    """Share of unseen clips that are told apart after a few steps, percent."""
    (video, boxes, label), (test, test_boxes, truth) = clips(256, seed), clips(256, seed + 100)
    if kind == "random":
        boxes, test_boxes = elsewhere(boxes, seed), elsewhere(test_boxes, seed + 1)
    head = {"drop_path": 0.0, "init_scale": 1.0, "smoothing": 0.0, **({} if kind == "mean" else {"mca": {}})}
    data = {"clip": {"frames": 4}, **({} if kind == "mean" else {"boxes": "compute"})}
    torch.manual_seed(seed)
    method = Classification(build(FinetuneConfig, {"model": MODEL, "head": head, "data": data}), VitConfig(**MODEL), 2)
    optimizer, rng = torch.optim.AdamW(method.parameters(), lr=1e-3), torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        rows = torch.randint(0, len(video), (32,), generator=rng)
        batch = {"video": video[rows], "target": torch.eye(2)[label[rows]], **({} if kind == "mean" else {"boxes": boxes[rows]})}
        method(batch, BatchRandom(0, step, rows=32), Progress(step, 0, STEPS, STEPS))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    method.eval()
    with torch.no_grad():
        found = method.classifier(test, boxes=None if kind == "mean" else test_boxes).argmax(1)
    return 100 * (found == truth).float().mean().item()


def test_true_boxes_learn_faster_than_the_mean_and_random_boxes_do_not():
    true, mean, random = (learned(kind) for kind in ("true", "mean", "random"))
    assert true > 90
    assert mean < 80
    assert random < mean + 10
