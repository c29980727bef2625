"""What ActionFormer's network computes, written down slowly from its tensors by their public names: channels first, one step at a time."""

import math

import torch
from torch.nn import functional as F

Tensors = dict[str, torch.Tensor]


def tensors(channels: int, dim: int, classes: int, stem: int = 2, levels: int = 4, head: int = 10, seed: int = 0) -> Tensors:
    """Random tensors of a network of this size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.get_default_dtype()) * 0.3

    def norm(name: str, width: int) -> Tensors:
        return {f"{name}.weight": 1 + draw(1, width, 1), f"{name}.bias": draw(1, width, 1)}

    found = {}
    for number in range(2):
        found[f"backbone.embd.{number}.conv.weight"] = draw(dim, dim if number else channels, 3)
        found |= norm(f"backbone.embd_norm.{number}", dim)
    for name in [f"backbone.stem.{n}" for n in range(stem)] + [f"backbone.branch.{n}" for n in range(levels - 1)]:
        found |= norm(f"{name}.ln1", dim) | norm(f"{name}.ln2", dim)
        for part in ("query", "key", "value"):
            found[f"{name}.attn.{part}_conv.conv.weight"] = draw(dim, 1, 3)
            found |= norm(f"{name}.attn.{part}_norm", dim)
        for part, (out, inside) in {
            **{f"attn.{part}": (dim, dim) for part in ("query", "key", "value", "proj")},
            "mlp.0": (4 * dim, dim),
            "mlp.3": (dim, 4 * dim),
        }.items():
            found |= {f"{name}.{part}.weight": draw(out, inside, 1), f"{name}.{part}.bias": draw(out)}
        found |= {f"{name}.drop_path_{part}.scale": draw(1, dim, 1) for part in ("attn", "mlp")}
    for level in range(levels):
        found |= norm(f"neck.fpn_norms.{level}", dim) | {f"reg_head.scale.{level}.scale": 1 + draw(1)[0]}
    for part, last, out in (("cls_head", "cls_head", classes), ("reg_head", "offset_head", 2)):
        for number in range(2):
            found[f"{part}.head.{number}.conv.weight"] = draw(head, head if number else dim, 3)
            found |= norm(f"{part}.norm.{number}", head)
        found |= {f"{part}.{last}.conv.weight": draw(out, head, 3), f"{part}.{last}.conv.bias": draw(out)}
    return found


class Reference:
    """The network that has these tensors.

    Args:
        held: by public names.
        heads: of every attention.
        windows: of each level; -1: all positions.
        positions: length of the table of positions; None: there is none.
    """

    def __init__(self, held: Tensors, heads: int, windows: list[int], positions: int | None):
        self.held, self.heads, self.windows, self.positions = held, heads, windows, positions

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = x - x.mean(1, keepdim=True)
        return x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt() * self.held[f"{name}.weight"] + self.held[f"{name}.bias"]

    def conv(self, x: torch.Tensor, mask: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = self.held[f"{name}.weight"]
        out = F.conv1d(x, weight, self.held.get(f"{name}.bias"), stride, weight.shape[2] // 2, 1, groups)
        return out * mask[:, :, ::stride]

    def block(self, x: torch.Tensor, mask: torch.Tensor, name: str, stride: int, window: int) -> torch.Tensor:
        seen, kept = self.norm(x, f"{name}.ln1"), mask[:, :, ::stride]
        parts = []
        for part in ("query", "key", "value"):
            thinned = self.conv(seen, mask, f"{name}.attn.{part}_conv.conv", stride, len(x[0]))
            normed = self.norm(thinned, f"{name}.attn.{part}_norm")
            made = F.conv1d(normed, self.held[f"{name}.attn.{part}.weight"], self.held[f"{name}.attn.{part}.bias"])
            parts.append(made.unflatten(1, (self.heads, -1)).transpose(2, 3))
        q, k, v = parts
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        at = torch.arange(q.shape[2])
        near = torch.ones(len(at), len(at), dtype=torch.bool) if window < 0 else (at[:, None] - at).abs() <= window // 2
        seen = near & (kept > 0)[:, None] | (at[:, None] == at)
        out = (scores.masked_fill(~seen, -math.inf).softmax(-1) @ v).transpose(2, 3).flatten(1, 2)
        out = F.conv1d(out, self.held[f"{name}.attn.proj.weight"], self.held[f"{name}.attn.proj.bias"]) * kept
        skip = x if stride == 1 else F.max_pool1d(x, 3, 2, 1)
        x = skip * kept + self.held[f"{name}.drop_path_attn.scale"] * out
        inner = F.gelu(F.conv1d(self.norm(x, f"{name}.ln2"), self.held[f"{name}.mlp.0.weight"], self.held[f"{name}.mlp.0.bias"]))
        inner = F.conv1d(inner, self.held[f"{name}.mlp.3.weight"], self.held[f"{name}.mlp.3.bias"])
        return x + self.held[f"{name}.drop_path_mlp.scale"] * inner * kept

    def head(self, x: torch.Tensor, mask: torch.Tensor, part: str, last: str) -> torch.Tensor:
        for number in range(2):
            x = self.norm(self.conv(x, mask, f"{part}.head.{number}.conv"), f"{part}.norm.{number}").relu()
        return self.conv(x, mask, f"{part}.{last}.conv")

    def __call__(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(B, C, T), (B, T) -> logits (B, T_l, K) and offsets (B, T_l, 2) of each level."""
        mask = mask[:, None].to(x.dtype)
        for number in range(2):
            x = self.norm(self.conv(x, mask, f"backbone.embd.{number}.conv"), f"backbone.embd_norm.{number}").relu()
        if self.positions is not None:
            x = x + self.table(x.shape[1], x.shape[2]) * mask
        stem = len({name.split(".")[2] for name in self.held if name.startswith("backbone.stem.")})
        for number in range(stem):
            x = self.block(x, mask, f"backbone.stem.{number}", 1, self.windows[0])
        levels, masks = [x], [mask]
        for number, window in enumerate(self.windows[1:]):
            levels.append(self.block(levels[-1], masks[-1], f"backbone.branch.{number}", 2, window))
            masks.append(masks[-1][:, :, ::2])
        levels = [self.norm(x, f"neck.fpn_norms.{level}") for level, x in enumerate(levels)]
        logits = [self.head(x, valid, "cls_head", "cls_head") for x, valid in zip(levels, masks, strict=True)]
        offsets = [
            (self.held[f"reg_head.scale.{level}.scale"] * self.head(x, valid, "reg_head", "offset_head")).relu()
            for level, (x, valid) in enumerate(zip(levels, masks, strict=True))
        ]
        return [x.transpose(1, 2) for x in logits], [x.transpose(1, 2) for x in offsets]

    def table(self, dim: int, length: int) -> torch.Tensor:
        rows = [[(math.sin, math.cos)[j % 2](t / 10000 ** (2 * (j // 2) / dim)) for t in range(self.positions)] for j in range(dim)]
        table = torch.tensor(rows, dtype=torch.get_default_dtype())[None] / math.sqrt(dim)
        return table[:, :, :length] if length < self.positions else F.interpolate(table, length, mode="linear", align_corners=False)
