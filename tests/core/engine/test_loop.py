"""Resume bit for bit, preemption, divergence, torn checkpoints, two processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import engine_toy
import pytest
from worlds import run_world

from tasks.core.engine.run import read_metrics
from tasks.core.engine.state import last_state
from tasks.core.errors import Diverged, Interrupted, Preempted, UsageError

SCRIPT = Path(engine_toy.__file__)
TIMED = ("clips_per_s", "wait_share")


def lines(folder: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in TIMED} for record in read_metrics(folder / "metrics.jsonl")]


def start(folder: Path, *settings: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *settings],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    engine_toy.train(folder, eval_every_epochs=1)
    return lines(folder)


def test_the_whole_run_learns(whole):
    losses = [r["loss"] for r in whole if r["kind"] == "train"]
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    assert [r["step"] for r in whole if r["kind"] == "eval"] == [2, 4, 6, 8, 10]


def test_five_steps_kill_nine_and_five_more_equal_ten(whole, tmp_path):
    folder = tmp_path / "run"
    settings = ("eval_every_epochs=1", "save_every_steps=5")
    killed = start(folder, *settings, "kill_at=7")
    assert killed.returncode == -signal.SIGKILL
    assert start(folder, *settings).returncode == 0
    assert lines(folder) == whole


@pytest.mark.parametrize(
    ("number", "expected", "code"), [(signal.SIGTERM, Preempted, 75), (signal.SIGUSR1, Preempted, 75), (signal.SIGINT, Interrupted, 130)]
)
@pytest.mark.parametrize("place", ["training", "in_eval", "in_save"])
def test_signals_write_a_checkpoint_and_the_run_goes_on(whole, tmp_path, number, expected, code, place):
    folder = tmp_path / "run"
    where = {} if place == "training" else {place: True}
    with pytest.raises(expected, match="stopped by a signal") as stopped:
        engine_toy.train(folder, eval_every_epochs=1, kill_at=4, number=number, **where)
    assert stopped.value.exit_code == code
    engine_toy.train(folder, eval_every_epochs=1)
    assert lines(folder) == whole


def test_a_signal_in_the_last_checkpoint_of_a_run_stops_before_the_model(tmp_path, whole, monkeypatch):
    from tasks.core.engine.state import Checkpoints

    save = Checkpoints.save

    def struck(self, accelerator, step, state, *rest):
        if state["evaluated"] == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, accelerator, step, state, *rest)

    monkeypatch.setattr(Checkpoints, "save", struck)
    with pytest.raises(Preempted, match="at step 10 of 10"):
        engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    monkeypatch.undo()
    engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    assert lines(tmp_path / "run") == whole


def test_half_written_checkpoints_are_ignored(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Preempted):
        engine_toy.train(folder, eval_every_epochs=1, kill_at=6, number=signal.SIGTERM)
    newest = folder / "checkpoints" / "step-00000007"
    assert (newest / "DONE").exists()
    shutil.copytree(newest, folder / "checkpoints" / "step-00000009")
    torn = folder / "checkpoints" / "step-00000009"
    (torn / "DONE").unlink()
    (torn / "model.safetensors").write_bytes(b"half")
    (folder / "checkpoints" / "partial-00000008").mkdir()
    engine_toy.train(folder, eval_every_epochs=1)
    assert lines(folder) == whole
    assert not (folder / "checkpoints" / "partial-00000008").exists()


def test_checkpoints_are_pruned(tmp_path):
    engine_toy.train(tmp_path / "run", save_every_steps=1, keep_last=2)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000009", "step-00000010.1"]


def test_divergence_stops_before_the_step_and_names_the_batch(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Diverged, match="video-6") as stopped:
        engine_toy.train(folder, poison=6, save_every_steps=2)
    assert stopped.value.exit_code == 5
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    assert read_metrics(folder / "metrics.jsonl")[-1]["kind"] == "diverged"


def test_accumulated_steps_are_fewer(tmp_path):
    """What they compute is tested in `test_arithmetic.py`."""
    trainer, run = engine_toy.train(tmp_path / "run", accumulate=2, max_steps=3)
    assert (trainer.step, trainer.per_epoch, trainer.effective) == (3, 1, 8)
    assert [(r["step"], r["epoch"], r["clips"]) for r in lines(run.folder) if r["kind"] == "train"] == [(1, 1, 8), (2, 2, 8), (3, 3, 8)]


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    engine_toy.train(tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.batch_size: 4 -> 2"):
        engine_toy.train(tmp_path / "run", batch_size=2)
    engine_toy.train(tmp_path / "run", log_every_steps=5)  # a machine matter
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(UsageError, match=r"finished run .* train\.epochs: 5 -> 9"):
        engine_toy.train(tmp_path / "run", epochs=9)


def test_a_stopped_run_goes_on_with_other_numbers_but_not_with_other_shapes(tmp_path):
    with pytest.raises(Preempted):
        engine_toy.train(tmp_path / "run", kill_at=3, number=signal.SIGTERM)
    with pytest.raises(UsageError, match=r"other settings: train\.ema: 0\.9 -> 0\.5"):
        engine_toy.train(tmp_path / "run", ema=0.5, epochs=4)
    trainer, run = engine_toy.train(tmp_path / "run", epochs=4)
    assert trainer.step == trainer.total == 8
    assert json.loads((run.folder / "run.json").read_text())["changes"] == [["train.epochs: 5 -> 4"]]


def test_a_signal_outside_of_training_stops_with_its_exit_code():
    from tasks.core.signals import stopping

    before = signal.getsignal(signal.SIGTERM)
    for number, error in ((signal.SIGTERM, Preempted), (signal.SIGUSR1, Preempted), (signal.SIGINT, Interrupted)):
        with pytest.raises(error, match="stopped here"), stopping("stopped here", "again"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_a_library_swallows_stops_the_loop_after_it():
    from tasks.core.signals import StopFlag, stopping

    with stopping("stopped here", "again"):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGUSR1)
        with StopFlag() as stop:
            assert stop.received == signal.SIGUSR1
    with StopFlag() as stop:
        assert not stop.received


def test_a_second_signal_and_one_after_the_end_change_nothing():
    from tasks.core.signals import stopping

    def twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted), stopping("stopped here", "again"):
        twice()
    with stopping("stopped here", "again") as disarm:
        disarm()
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_never_started_may_change_its_settings(tmp_path):
    from tasks.core.engine.run import Run

    for size in (2, 3):
        changed = engine_toy.ToyConfig(train=engine_toy.ToyConfig().train.model_copy(update={"batch_size": size}))
        Run.open(tmp_path / "run", changed, "toy", "pretrain", []).close()


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboard")
    engine_toy.train(tmp_path / "run", tensorboard=True)
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no run"):
        engine_toy.train(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_in_use_is_refused(tmp_path):
    import fcntl

    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process" in start(tmp_path / "run").stderr


def test_run_folder_holds_what_design_promises(tmp_path):
    engine_toy.train(tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"argv", "versions", "host", "commit", "task", "verb"} <= facts.keys()
    assert (tmp_path / "run" / "config.yaml").read_text().startswith("task: toy")
    (tmp_path / "own").touch()
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in written} >= {".safetensors", ".bin", ".pt"}
    assert {path.stat().st_mode for path in written} == {(tmp_path / "own").stat().st_mode}  # what the umask gives


def test_two_processes_give_what_one_gives_with_the_double_batch(tmp_path):
    """In two micro-batches a step, of which only the last exchanges gradients."""
    settings = ("accumulate=2", "epochs=9", "dropout=0", "float64=1")
    alone = start(tmp_path / "one", "batch_size=4", *settings, WORLD_SIZE="1")
    pair = run_world(2, SCRIPT, tmp_path / "two", "batch_size=2", *settings)
    assert alone.returncode == 0, alone.stderr
    assert [code for code, _ in pair] == [0, 0], pair
    one = [r["loss"] for r in lines(tmp_path / "one") if r["kind"] == "train"]
    two = [r["loss"] for r in lines(tmp_path / "two") if r["kind"] == "train"]
    assert len(one) == 9
    assert two == pytest.approx(one, rel=1e-6)  # logged in float32


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path):
    """Either of them, in an evaluation and while a checkpoint is written; the curve is that of two processes that nobody stopped."""
    settings = ("eval_every_epochs=2", "epochs=4")
    strikes = (("kill_at=4", "in_eval=1", "rank=1", signal.SIGUSR1, 75), ("kill_at=6", "in_save=1", "rank=0", signal.SIGINT, 130))
    for *strike, number, expected in strikes:
        told = run_world(2, SCRIPT, tmp_path / "run", *settings, "save_every_steps=3", *strike, f"number={int(number)}")
        assert [code for code, _ in told] == [expected, expected], told
    assert [code for code, _ in run_world(2, SCRIPT, tmp_path / "run", *settings)] == [0, 0]
    assert [code for code, _ in run_world(2, SCRIPT, tmp_path / "whole", *settings)] == [0, 0]
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_what_any_process_skips_counts_also_after_a_stop(tmp_path):
    stop = ("kill_at=4", f"number={int(signal.SIGTERM)}")
    assert [code for code, _ in run_world(2, SCRIPT, tmp_path / "run", "unreadable=1", *stop)] == [75, 75]
    assert last_state(tmp_path / "run" / "checkpoints")["skipped"].keys() == {"unreadable-0", "unreadable-1"}
    assert [code for code, _ in run_world(2, SCRIPT, tmp_path / "run", "unreadable=1")] == [0, 0]
    rows = [row for row in lines(tmp_path / "run") if row["kind"] == "train"]
    assert [row["skipped"] for row in rows] == [0] + 9 * [2]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """Two processes with 4 videos each, then one with 2 x 4: every step has 8 videos and the schedule goes on."""
    pair = run_world(2, SCRIPT, tmp_path / "run", "kill_at=3", f"number={int(signal.SIGTERM)}")
    assert [code for code, _ in pair] == [75, 75], pair
    trainer, _ = engine_toy.train(tmp_path / "run")
    assert (trainer.train.batch_size, trainer.train.accumulate, trainer.effective) == (4, 2, 8)
    steps = [r["step"] for r in lines(tmp_path / "run") if r["kind"] == "train"]
    assert steps == list(range(1, trainer.total + 1))


def test_more_processes_take_smaller_shares(tmp_path, monkeypatch):
    from tasks.core.engine.setup import fit_world
    from tasks.core.reporter import Quiet

    with pytest.raises(Preempted):
        engine_toy.train(tmp_path / "run", kill_at=3, number=signal.SIGTERM)
    config = engine_toy.ToyConfig()
    for processes, batch in (("2", 2), ("4", 1)):
        monkeypatch.setenv("WORLD_SIZE", processes)
        fitted = fit_world(tmp_path / "run", config, Quiet()).train
        assert (fitted.batch_size, fitted.accumulate) == (batch, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="cannot share evenly") as refused:
        fit_world(tmp_path / "run", config, Quiet())
    assert "continue it with 1, 2, 4 processes" in refused.value.hint


def test_a_flipped_byte_sends_a_run_back_to_the_checkpoint_before(tmp_path, whole):
    with pytest.raises(Preempted):
        engine_toy.train(tmp_path / "run", kill_at=6, number=signal.SIGTERM, save_every_steps=2, eval_every_epochs=1)
    newest, _ = sorted((tmp_path / "run" / "checkpoints").glob("step-*"), reverse=True)
    weights = next(newest.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-3] ^= 16
    weights.write_bytes(data)
    again, _ = engine_toy.train(tmp_path / "run", save_every_steps=2, eval_every_epochs=1)
    assert again.step == again.total
    assert lines(tmp_path / "run") == whole  # the older checkpoint gives the same curve


def test_when_every_checkpoint_is_damaged_nothing_is_trained(tmp_path):
    with pytest.raises(Preempted):
        engine_toy.train(tmp_path / "run", kill_at=3, number=signal.SIGTERM)
    for state in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        state.write_text(state.read_text() + " ")
    with pytest.raises(UsageError, match=r"every checkpoint in .* is damaged"):
        engine_toy.train(tmp_path / "run")


def test_a_changed_training_set_is_refused_once_training_has_begun(tmp_path):
    from tasks.core.data.manifest import Row

    _, run = engine_toy.train(tmp_path / "run")
    rows = [Row(path=f"/videos/{n}.mp4") for n in range(3)]
    run.record_data(rows)
    run.record_data(rows)
    with pytest.raises(UsageError, match="have changed"):
        run.record_data(rows[:2])
