"""The best evaluation's weights, and stopping when evaluations no longer get better."""

from pathlib import Path

import pytest
import torch
from engine_toy import Toy, ToyConfig, batches

from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run, read_metrics
from tasks.core.errors import Preempted

SCORES = [0.1, 0.5, 0.5, 0.3, 0.6]  # after 2, 4, ... 10 steps


def train(folder: Path, patience: int | None = None, stop_at: int = -1, **changes) -> tuple[Trainer, list[torch.Tensor]]:
    """Ten steps with an evaluation after every second; the weights that each evaluation saw."""
    config = ToyConfig(train=ToyConfig().train.model_copy(update={"eval_every_epochs": 1, **changes}))
    run = Run.open(folder, config, "toy", "pretrain", ["test"])
    seen = []

    def evaluate(trainer, stop) -> dict[str, float]:
        seen.append(trainer.evaluated_model.layer[0].weight.detach().clone())
        return {"score": SCORES[trainer.step // 2 - 1]}

    def prepare(batch: dict, device: torch.device) -> dict:
        if trainer.step == stop_at:
            trainer.stop.received = 15
        return batch

    trainer = Trainer(
        Toy(config.optim),
        run,
        make_accelerator(config.train, run, uneven=True),
        config.train,
        config.optim,
        lambda start: batches(start, config.train.batch_size),
        prepare,
        2,
        evaluate=evaluate,
        best_of="score",
        patience=patience,
    )
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer, seen


def test_the_best_weights_are_kept_beside_the_last(tmp_path):
    trainer, seen = train(tmp_path / "run", patience=3)
    assert (trainer.best.step, trainer.best.metrics, trainer.best.stale) == (10, {"score": 0.6}, 0)
    assert torch.equal(trainer.best_model.layer[0].weight, seen[4])


@pytest.mark.parametrize("ema", [0.9, None])
def test_training_ends_after_patience_evaluations_without_a_better_one(tmp_path, ema):
    """0.5 again is not better: with a patience of 2 the run ends at step 8 with the weights of step 4."""
    trainer, seen = train(tmp_path / "run", patience=2, ema=ema)
    assert (trainer.step, trainer.best.step) == (8, 4)
    assert torch.equal(trainer.best_model.layer[0].weight, seen[1])
    assert not torch.equal(trainer.best_model.layer[0].weight, seen[3])


@pytest.mark.parametrize("stop_at", [3, 4, 6])
def test_a_stopped_run_remembers_its_best(tmp_path, stop_at):
    whole, _ = train(tmp_path / "whole", patience=2)
    with pytest.raises(Preempted):
        train(tmp_path / "run", patience=2, stop_at=stop_at)
    again, _ = train(tmp_path / "run", patience=2)
    assert vars(again.best) == vars(whole.best)
    assert again.step == whole.step
    assert all(torch.equal(a, b) for a, b in zip(again.best_model.parameters(), whole.best_model.parameters(), strict=True))


def test_a_run_that_has_given_up_trains_no_more_when_repeated(tmp_path):
    first, _ = train(tmp_path / "run", patience=2)
    again, seen = train(tmp_path / "run", patience=2)
    assert seen == []
    assert again.step == 8
    assert torch.equal(again.best_model.layer[0].weight, first.best_model.layer[0].weight)
    assert [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "eval"] == [2, 4, 6, 8]


def test_the_last_evaluation_counts_in_the_last_checkpoint(tmp_path):
    """The checkpoint of the last step is written before the evaluation that finds it the best."""
    first, _ = train(tmp_path / "run")
    again, _ = train(tmp_path / "run")
    assert again.best.step == 10
    assert torch.equal(again.best_model.layer[0].weight, first.best_model.layer[0].weight)
