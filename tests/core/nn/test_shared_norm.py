"""Batch norm over processes: two with unequal shares do what one with all rows does."""

import shared_norm_world
import torch
import worlds


def test_two_processes_norm_as_one(tmp_path):
    worlds.train_in_world(2, shared_norm_world.__file__, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = shared_norm_world.share(0, 1)
    for name, expected in alone.items():
        if name.startswith("running"):
            for part in parts:
                torch.testing.assert_close(part[name], expected)
        else:
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected, rtol=1e-4, atol=1e-5)
