"""Several stages of training in one run, each from the model of another: killed anywhere, the same command goes on.

Every stage is a run of the loop in a folder of its own within the run, with its own checkpoints and its own `model/`.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.checkpoint import CONFIG, WEIGHTS
from tasks.core.data.rows import Rows
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.run import Run, last_logged
from tasks.core.engine.state import last_state
from tasks.core.files import replacing_folder

Stage = tuple[str, Any]
"""Name of the folder, settings."""


def train_stages(
    run: Run,
    config: Any,
    rows: Rows,
    stages: Sequence[Stage],
    train: Callable[[int, str, Any], None],
    models: Mapping[str, str],
    result: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Trains every stage that has no model yet, each from its newest checkpoint, and ends the run; returns its result.

    Args:
        run: whose folder holds those of the stages.
        config: of the run; has `train`.
        rows: the training set, recorded.
        stages: in order.
        train: trains one to its end and writes its model, given its number, name and settings.
        models: folder in the run -> the stage whose model goes there.
        result: what the run reports.
    """
    accelerator = make_accelerator(config.train, run)
    run.record_data(rows)
    run.record(device=str(accelerator.device), seed=config.train.seed)
    for number, (name, settings) in enumerate(stages):
        if _finished(run.folder / name):
            run.skipped.update((last_state(run.folder / name / "checkpoints") or {}).get("skipped", {}))
        else:
            train(number, name, settings)
        accelerator.wait_for_everyone()
    if run.main:
        for target, name in models.items():
            with replacing_folder(run.folder / target) as partial:
                shutil.copytree(run.folder / name / "model", partial, dirs_exist_ok=True)
        run.finish(result())
    accelerator.wait_for_everyone()
    return run.result


def stage_numbers(run: Run, names: Sequence[str], *keys: str) -> dict[str, Any]:
    """`STAGE_KEY`, the last logged values of these keys in every stage."""
    told: dict[str, Any] = {}
    for name in names:
        last = last_logged(run.folder / name / "metrics.jsonl")
        told |= {f"{name}_{key}": last[key] for key in keys if key in last}
    return told


def _finished(folder: Path) -> bool:
    return all((folder / "model" / name).is_file() for name in (WEIGHTS, CONFIG))
