"""A method that does not learn yet: its losses are logged, nothing of it moves."""

import pytest
import torch
from engine_toy import Toy, ToyConfig, batches

from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import Progress
from tasks.core.engine.run import Run, read_metrics

WAIT = 3


class Patient(Toy):
    """Learns from step WAIT on; counts the passes that it saw and whether they had gradients."""

    def __init__(self, config: ToyConfig):
        super().__init__(config.optim)
        self.passes: list[bool] = []

    def learns(self, progress: Progress) -> bool:
        return progress.step >= WAIT

    def forward(self, *args, **kwargs) -> dict[str, torch.Tensor]:
        self.passes.append(torch.is_grad_enabled())
        return super().forward(*args, **kwargs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = ToyConfig()
    run = Run.open(tmp_path_factory.mktemp("patient") / "run", config, "toy", "pretrain", ["test"])
    method, seen = Patient(config), []

    def prepare(batch: dict, device: torch.device) -> dict:
        average = trainer.ema.module.layer[0].weight
        seen.append([p.detach().clone() for p in (*method.parameters(), average)])
        return batch

    trainer = Trainer(
        method,
        run,
        make_accelerator(config.train, run, uneven=True),
        config.train,
        config.optim,
        lambda start: batches(start, config.train.batch_size),
        prepare,
        2,
    )
    trainer.fit()
    run.close()
    return method, seen, read_metrics(run.metrics_file)


def test_nothing_moves_before_it_learns(trained):
    _, seen, _ = trained
    for weights in seen[: WAIT + 1]:
        assert all(torch.equal(a, b) for a, b in zip(weights, seen[0], strict=True))
    assert not torch.equal(seen[WAIT + 1][0], seen[0][0])


def test_passes_without_learning_have_no_gradient_and_no_second_phase(trained):
    method, _, _ = trained
    assert method.passes[:WAIT] == [False] * WAIT
    assert method.passes[WAIT:] == [True, True] * 7  # the main phase, then that of `shift`


def test_every_step_is_logged(trained):
    rows = [row for row in trained[2] if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all("loss" in row for row in rows)
    assert ["grad_norm" in row for row in rows] == [False] * WAIT + [True] * 7
