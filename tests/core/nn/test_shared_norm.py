"""Batch norm over processes: two with unequal shares do what one with all rows does."""

import shared_norm_world
import torch
import worlds

from tasks.core.nn.shared_norm import batch_normed


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


def test_a_single_value_per_channel_is_normalised_with_running_statistics():
    norm = torch.nn.BatchNorm3d(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    one, two = torch.randn(1, 2, 1, 1, 1), torch.randn(2, 2, 1, 1, 1)
    assert torch.equal(batch_normed(norm.train(), one), norm.eval()(one))
    assert norm.num_batches_tracked == 0
    assert torch.equal(batch_normed(norm.train(), two), torch.nn.BatchNorm3d(2)(two))
