"""The training loop: any method, any number of processes, resumable at every step."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tasks.core.data.batch import Batch, size_of
from tasks.core.engine.accelerator import compile_regions
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.exchange import agree
from tasks.core.engine.method import MAIN, Method, Progress
from tasks.core.engine.optim import make_optimizer
from tasks.core.engine.random import BatchRandom, seed_global
from tasks.core.engine.readable import LastReadableBatch
from tasks.core.engine.run import Run
from tasks.core.engine.schedule import run_length, schedules
from tasks.core.engine.sharding import Shards, fsdp_enabled
from tasks.core.engine.state import Checkpoints
from tasks.core.engine.tally import BestTracker, RunningMean, collect
from tasks.core.errors import Diverged, UsageError
from tasks.core.profile import clock, span
from tasks.core.signals import StopFlag, exit_for

Evaluate = Callable[["Trainer", Callable[[], None]], dict[str, float]]


class Trainer:
    """Trains a method and keeps its run folder.

    Args:
        loader: from the number of micro-batches to pass over, an endless iterable of CPU batches (see `core.clips.loader`).
        prepare: from a CPU batch and the device to what the method takes (augmentation).
        micro_per_epoch: batches of one process in one epoch.
        repeats: clips per video of a batch.
        evaluate: from the trainer, whose `evaluated_model` it looks at, and a `stop` function, which it calls after every batch, to
            metrics.
        best_of: name of a metric of `evaluate`; the weights for which it was highest are kept beside the present ones.
        patience: end training after this many evaluations in a row without a higher `best_of`; None: never.
    """

    def __init__(
        self,
        method: Method,
        run: Run,
        accelerator: Accelerator,
        train: TrainConfig,
        optim: OptimConfig,
        loader: Callable[[int], Iterable[Batch]],
        prepare: Callable[[Batch, torch.device], Batch],
        micro_per_epoch: int,
        repeats: int = 1,
        evaluate: Evaluate | None = None,
        best_of: str | None = None,
        patience: int | None = None,
    ):
        self.run, self.accelerator, self.train, self.optim = run, accelerator, train, optim
        self.loader, self.prepare, self.evaluate = loader, prepare, evaluate
        self.rows = train.batch_size * repeats
        self.per_epoch, self.total = run_length(train, micro_per_epoch)
        world = accelerator.num_processes
        self.effective = train.batch_size * train.accumulate * world
        self.schedules = schedules(method, optim, self.effective, self.per_epoch, self.total)
        self._best_weights = copy.deepcopy(method) if best_of and evaluate else None
        if train.compile:
            compile_regions(method)
        self.shards = Shards(method, accelerator, train) if fsdp_enabled(train) else None
        self.checkpoints = Checkpoints(run.folder / "checkpoints", train.keep_last, run.reporter, self.shards)
        specs = method.optimizers()
        self.clip = {name: spec.clip_grad for name, spec in specs.items()}
        own = {name: {"betas": s.betas, "base_lr": s.base_lr, "eps": s.eps or optim.eps} for name, s in specs.items()}
        settings = {name: optim.model_copy(update=update) for name, update in own.items()}
        made = [make_optimizer(spec.groups, settings[name], accelerator.device) for name, spec in specs.items()]
        self.best_of, self.patience, self.best = best_of, patience, BestTracker()
        self.method = method
        if self.shards:
            self.model, optimizers = self.shards.prepared(made)
        else:
            self.model, *optimizers = accelerator.prepare(method, *made)
        self.optimizers = dict(zip(specs, optimizers, strict=True))
        self.ema = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(train.ema), use_buffers=False) if train.ema else None
        self.step, self.evaluated, self.window = 0, 0, RunningMean()
        self._last_save = time.monotonic()
        self._last_eval: dict[str, float] = {}
        self._spares = LastReadableBatch(loader, world == 1)

    @property
    def evaluated_model(self) -> torch.nn.Module:
        """The module to evaluate and to publish: the moving average where there is one, a whole copy where weights are split."""
        if self.shards:
            return self.shards.full_copy
        return self.ema.module if self.ema is not None else self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    @property
    def last_evaluation(self) -> dict[str, float]:
        """Metrics of the last evaluation, {} without one."""
        return self._last_eval

    @property
    def best_model(self) -> torch.nn.Module:
        """The weights of the best evaluation, on the CPU; without one those of `evaluated_model`."""
        return self._best_weights if self.best.step is not None else self.evaluated_model

    @property
    def _given_up(self) -> bool:
        return self.patience is not None and self.best.stale >= self.patience

    @property
    def _kept(self) -> dict[str, torch.nn.Module]:
        """Modules beside the method that belong to a checkpoint."""
        return {name: module for name, module in (("ema", self.ema), ("best", self._best_weights)) if module is not None}

    def fit(self) -> dict[str, float]:
        """Trains to the end, from the newest checkpoint where there is one; returns the last evaluation's metrics.

        Raises:
            Preempted, Interrupted: a signal asked to stop; a checkpoint is written.
            Diverged: a loss or gradient was not finite.
        """
        self._resume()
        if self.train.tensorboard:
            self.accelerator.init_trackers("tensorboard")
        with StopFlag() as stop:
            self.stop = stop
            self._maybe_evaluate()
            if self.step < self.total and not self._given_up:
                self._train()
            self._save()
            if number := self._agree(stop.received)[0]:
                self._stop_here(number, saved=True)
        if self.shards:
            self.shards.gather_full()
        if self.train.tensorboard:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self._last_eval

    def _resume(self) -> None:
        restored = self.checkpoints.load(self.accelerator, self._kept)
        if restored:
            state, own = restored
            if state.get("effective_batch", self.effective) != self.effective:
                raise UsageError(
                    f"{self.run.folder} was trained with {state['effective_batch']} videos a step, this command has {self.effective}",
                    "continue it with a number of processes that can share them evenly, or choose another --out",
                )
            self.step, self.evaluated = state["step"], state["evaluated"]
            self.window, self._last_eval = RunningMean(**state["window"]), state["last_eval"]
            self.best = BestTracker(**state.get("best", {}))
            self.run.skipped.update(state.get("skipped", {}))
            self.method.load_extra_state(own)
            self.run.reporter.info(f"continuing {self.run.folder} at step {self.step} of {self.total}")
        self.run.rewind_metrics(self.step, self.evaluated)

    def _train(self) -> None:
        batches, begun = iter(self.loader(self.step * self.train.accumulate)), self.step
        self.model.train()
        with self.run.reporter.progress("training", self.total, "step", start=self.step) as bar:
            while self.step < self.total and not self._given_up:
                self._one_step(batches, bar)
                self._after_step()
        if not begun:
            self._spares.require_any()

    def _one_step(self, batches: Any, bar: Any) -> None:
        started = time.perf_counter()
        progress = Progress(self.step, self.step // self.per_epoch, self.per_epoch, self.total)
        learning_rate = self._set_learning_rates()
        learns = self.method.learns(progress)
        accelerator, world = self.accelerator, self.accelerator.num_processes
        seed_global(self.train.seed, self.step, accelerator.process_index)
        logs: dict[str, torch.Tensor] = {}
        names: list[str] = []
        waited, clips, read_s = 0.0, 0, 0.0
        for micro in range(self.train.accumulate):
            asked = time.perf_counter()
            with span("wait for clips"):
                batch = next(batches)
            waited += time.perf_counter() - asked
            self.run.skip(batch["skipped"], self.train.strict)
            used = self._spares.usable(batch)
            if used is None:
                continue
            clips += size_of(batch)
            read_s += batch.get("read_s", 0.0)
            names += batch["path"]
            rng = BatchRandom(self.train.seed, self.step, micro, self.rows, accelerator.process_index, world, accelerator.device)
            with span("augment"):
                ready = self.prepare(used, accelerator.device)
            last = micro == self.train.accumulate - 1
            with nullcontext() if last else self.shards.unsynced() if self.shards else accelerator.no_sync(self.model):
                with span("forward"), torch.set_grad_enabled(learns):
                    losses = self.model(ready, rng, progress)
                with span("backward"):
                    if learns:
                        accelerator.backward(losses["loss"] * (size_of(batch) > 0) / self.train.accumulate)
            collect(logs, losses, self.train.accumulate)
        with span("optimizer"):
            self._finish_phase(MAIN, logs, names, learns)
        for phase in self.method.phases_after(progress) if logs and learns else ():
            with span(phase):
                losses = self.model(None, None, progress, phase)
                accelerator.backward(losses["loss"])
                self._finish_phase(phase, {f"{phase}_{k}": v for k, v in losses.items()}, names)
        if self.ema is not None and learns:
            self.ema.update_parameters(accelerator.unwrap_model(self.model))
        self.step += 1
        seconds = time.perf_counter() - started
        bar.advance(1, loss=self._shown_loss, lr=learning_rate)
        self._timing = {"clips": clips * world, "clips_per_s": clips * world / seconds, "wait_share": waited / seconds}
        if profile := clock():
            profile.step_done(clips, read_s)

    def _set_learning_rates(self) -> float:
        for name, optimizer in self.optimizers.items():
            value = self.schedules[name](self.step)
            for group in optimizer.param_groups:
                group["lr"] = value * group["lr_scale"]
        return self.schedules[MAIN](self.step)

    def _finish_phase(self, phase: str, logs: dict[str, torch.Tensor], names: list[str], learns: bool = True) -> None:
        """Clips, checks that loss and gradient are finite on every process, and steps one optimizer; no step where the method does not
        learn yet.
        """
        accelerator, optimizer = self.accelerator, self.optimizers[phase]
        if not logs:
            return
        if learns:
            logs[f"{phase}_grad_norm" if phase != MAIN else "grad_norm"] = self._clip_gradients(phase)
        own_loss = logs["loss" if phase == MAIN else f"{phase}_loss"].detach()
        keys = sorted(logs)
        values = accelerator.reduce(torch.stack([logs[k].detach().float() for k in keys]), reduction="mean").tolist()
        row = dict(zip(keys, values, strict=True))
        checked = [k for k in keys if k.endswith("loss") or (k.endswith("grad_norm") and accelerator.mixed_precision != "fp16")]
        if not all(math.isfinite(row[k]) for k in checked):
            told = gather_object([(bool(torch.isfinite(own_loss)), names)])
            guilty = [name for finite, theirs in told if not finite for name in theirs]
            self._diverge(row, guilty or [name for _, theirs in told for name in theirs])
        if learns:
            optimizer.step()
            for each in self.optimizers.values():
                each.zero_grad(set_to_none=True)
        self.window.add({k: v for k, v in row.items() if math.isfinite(v)})
        if phase == MAIN:
            self._shown_loss = row["loss"]

    def _clip_gradients(self, phase: str) -> torch.Tensor:
        """Limits the gradient norm of a phase's parameters; returns the norm before."""
        optimizer = self.optimizers[phase]
        if self.accelerator.mixed_precision == "fp16":
            self.accelerator.unscale_gradients(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip[phase] or math.inf)
        return norm.full_tensor() if self.shards else norm

    def _diverge(self, row: dict[str, float], names: list[str]) -> None:
        what = ", ".join(f"{k} {v:g}" for k, v in row.items() if not math.isfinite(v))
        self.run.log_metrics(
            kind="diverged", step=self.step + 1, batch=names, **{k: v if math.isfinite(v) else str(v) for k, v in row.items()}
        )
        raise Diverged(
            f"training diverged at step {self.step + 1} ({what}); weights kept. Batch: {', '.join(dict.fromkeys(names))[:500]}",
            "lower --lr, set optim.clip_grad, or look at the named videos; the last checkpoint is untouched",
        )

    _shown_loss = math.nan

    def _after_step(self) -> None:
        at_epoch_end = self.step % self.per_epoch == 0
        if self.step % self.train.log_every_steps == 0 or self.step == self.total:
            self._log()
        number, late = self._agree(self.stop.received, time.monotonic() - self._last_save >= self.train.save_every_s)
        every_steps, every_epochs = self.train.save_every_steps, self.train.save_every_epochs
        due = (every_steps and self.step % every_steps == 0) or (
            every_epochs and at_epoch_end and self.step // self.per_epoch % every_epochs == 0
        )
        if number:
            self._stop_here(number)
        if due or late or self._evaluation_due():
            self._save()
        self._maybe_evaluate()

    def _agree(self, *values: int) -> list[int]:
        """The largest of each value over all processes: a flag that one has set, the signal that one has received."""
        return agree(*values, device=self.accelerator.device)

    def _stop_here(self, number: int, saved: bool = False) -> None:
        if not saved:
            self._save()
        raise exit_for(number)(
            f"stopped by a signal at step {self.step} of {self.total}; a checkpoint is written", "run the same command again to continue"
        )

    def _evaluation_due(self) -> bool:
        if self.evaluate is None or self.step <= self.evaluated:
            return False
        every = self.train.eval_every_epochs
        at_epoch_end = self.step % self.per_epoch == 0
        return self.step == self.total or bool(every and at_epoch_end and self.step // self.per_epoch % every == 0)

    def _maybe_evaluate(self) -> None:
        if not self._evaluation_due():
            return

        def stop() -> None:
            if number := self._agree(self.stop.received)[0]:
                self._stop_here(number)

        if self.shards:
            self.shards.gather_full().to(self.accelerator.device)
        self._last_eval = self.evaluate(self, stop)
        if self.shards:
            self.shards.full_copy.to("cpu")
        self.evaluated = self.step
        if self._best_weights is not None and self.best.take(self.step, self.best_of, self._last_eval):
            self._best_weights.load_state_dict(self.evaluated_model.state_dict())
        self.run.log_metrics(kind="eval", step=self.step, epoch=self.step / self.per_epoch, **self._last_eval)
        if self.train.tensorboard:
            self.accelerator.log(self._last_eval, step=self.step)
        self.model.train()

    def _share_skipped(self) -> None:
        """Lets every process know what the others have skipped; all reach this together."""
        for theirs in gather_object([self.run.pop_unsynced_skips()]):
            self.run.skipped.update(theirs)

    def _log(self) -> None:
        self._share_skipped()
        rates = {f"lr_{n}" if n != MAIN else "lr": s(self.step - 1) for n, s in self.schedules.items()}
        values = {**self.window.means(), **rates}
        self.run.log_metrics(
            kind="train",
            step=self.step,
            total=self.total,
            epoch=round(self.step / self.per_epoch, 6),
            **values,
            **self._timing,
            skipped=len(self.run.skipped),
        )
        if self.train.tensorboard:
            self.accelerator.log(values, step=self.step)
        self.window = RunningMean()

    def _save(self) -> None:
        self._share_skipped()
        state = {
            "step": self.step,
            "evaluated": self.evaluated,
            "window": vars(self.window),
            "last_eval": self._last_eval,
            "best": vars(self.best),
            "skipped": self.run.skipped,
            "world": self.accelerator.num_processes,
            "effective_batch": self.effective,
        }
        self.checkpoints.save(self.accelerator, self.step, state, self.method.extra_state(), self._kept)
        self._last_save = time.monotonic()
