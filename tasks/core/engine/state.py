"""Checkpoints of a training run: written beside, renamed when whole, marked DONE, pruned after."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from tasks.core.engine.sharding import Shards
from tasks.core.errors import StorageError, UsageError
from tasks.core.files import cannot_write, follow_umask, replacing, write_text
from tasks.core.reporter import Quiet, Reporter

DONE, SUMS = "DONE", "checksums.json"
_NAME = re.compile(r"step-\d+(\.\d+)?")


class Checkpoints:
    """The `checkpoints/` folder of a run.

    A folder `step-00000012` counts only with its DONE marker, which is written last. Model and optimizer states are written by Accelerate,
    so that one and many processes share one path, or by `shards` in the same files; each process adds what is its own.
    """

    def __init__(self, folder: Path, keep: int, reporter: Reporter | None = None, shards: Shards | None = None):
        self.shards = shards
        self.folder, self.keep, self.reporter = folder, keep, reporter or Quiet()
        self._newest: tuple[Path | None] | None = None

    def complete(self) -> list[Path]:
        """Usable checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        return sorted((p for p in self.folder.glob("step-*") if _NAME.fullmatch(p.name) and (p / DONE).exists()), key=_order)

    def save(self, accelerator: Any, step: int, state: dict[str, Any], own: list[dict], extra_modules: dict[str, torch.nn.Module]) -> None:
        """Writes one checkpoint; called by all processes together.

        Raises:
            StorageError: the disk is full, closed or failing; the checkpoints before are as they were.
        """
        try:
            self._write(accelerator, step, state, own, extra_modules)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = cannot_write(error)
            if accelerator.is_main_process:
                self._sweep()
            if reason is None:
                raise
            raise StorageError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {reason}",
                "those before it are whole: make room and run the same command again to continue",
            ) from error

    def _write(
        self, accelerator: Any, step: int, state: dict[str, Any], own: list[dict], extra_modules: dict[str, torch.nn.Module]
    ) -> None:
        before, again = self._last_of(accelerator, step)  # again: an evaluation came after it, its checkpoint takes the place of the first
        final = self.folder / _following(before.name) if again else before
        partial = self.folder / f"partial-{step:08d}"
        if accelerator.is_main_process:
            self._sweep()
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        if again and accelerator.is_main_process:
            shutil.copytree(before, partial, copy_function=_link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DONE, SUMS))
        elif not again:
            if self.shards is not None:
                self.shards.save(partial)
            else:
                accelerator.save_state(str(partial), safe_serialization=True)
            torch.save(own, partial / f"own-{accelerator.process_index}.pt")
        if accelerator.is_main_process:
            for name, module in extra_modules.items():
                with replacing(partial / f"{name}.pt") as temporary:
                    torch.save(module.state_dict(), temporary)
            write_text(partial / "state.json", json.dumps(state))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_text(partial / SUMS, json.dumps(checksums(partial)))
            follow_umask(partial)
            os.replace(partial, final)
            write_text(final / DONE, "")
            if again:
                _remove(before)
            self._prune()
        accelerator.wait_for_everyone()

    def _last_of(self, accelerator: Any, step: int) -> tuple[Path, bool]:
        """(newest checkpoint of one step or the one it would get, whether there is one), the same for all processes."""
        name = f"step-{step:08d}"
        told = [[p.name for p in self.complete() if p.name.partition(".")[0] == name]]
        if accelerator.num_processes > 1:
            broadcast_object_list(told)
        return self.folder / (told[0][-1] if told[0] else name), bool(told[0])

    def _sweep(self) -> None:
        """Takes away what a killed process has left half written or half removed."""
        whole = self.complete()
        half = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name) and path not in whole]
        for path in (*self.folder.glob("partial-*"), *half):
            shutil.rmtree(path, ignore_errors=True)

    def _prune(self) -> None:
        for old in self.complete()[: -self.keep]:
            _remove(old)

    def newest(self, accelerator: Any) -> Path | None:
        """The newest whole checkpoint whose files are as they were written, the same for all processes; None when there is none.

        Raises:
            UsageError: there are checkpoints, and all of them are damaged.
        """
        if self._newest is None:
            told: list[Any] = [None, None]
            if accelerator.is_main_process:
                told = self._choose()
            if accelerator.num_processes > 1:
                broadcast_object_list(told)
            if told[1]:
                raise UsageError(told[1], "delete the folder checkpoints/ to begin anew, or choose another --out")
            self._newest = (self.folder / told[0] if told[0] else None,)
        return self._newest[0]

    def _choose(self) -> list[Any]:
        """[name of the newest sound checkpoint, what is wrong when none of several is]; damaged ones no longer count afterwards."""
        found = self.complete()
        for place, checkpoint in enumerate(reversed(found)):
            wrong = damaged(checkpoint)
            if not wrong:
                return [checkpoint.name, None]
            older = place + 1 < len(found)
            self.reporter.warn(f"{checkpoint} is damaged ({', '.join(wrong)})" + ("; going back to the one before it" if older else ""))
            if older:
                (checkpoint / DONE).unlink()
        return [None, f"every checkpoint in {self.folder} is damaged" if found else None]

    def load(self, accelerator: Any, extra_modules: dict[str, torch.nn.Module]) -> tuple[dict[str, Any], list[dict]] | None:
        """Restores the newest sound checkpoint into what Accelerate prepared; None when there is none.

        Returns:
            the run state and this process' own extra state (empty for a process that the saving world did not have).
        """
        newest = self.newest(accelerator)
        if newest is None:
            return None
        if self.shards is not None:
            self.shards.load(newest)
        else:
            accelerator.load_state(str(newest))
        for name, module in extra_modules.items():
            module.load_state_dict(torch.load(newest / f"{name}.pt", map_location="cpu", weights_only=True))
        own_file = newest / f"own-{accelerator.process_index}.pt"
        device = accelerator.device if accelerator.device.type != "cpu" else "cpu"  # in a world of processes its name is cpu:0
        own = torch.load(own_file, map_location=device, weights_only=True) if own_file.exists() else []
        return json.loads((newest / "state.json").read_text(encoding="utf-8")), own


def _remove(checkpoint: Path) -> None:
    (checkpoint / DONE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _order(checkpoint: Path) -> tuple[int, ...]:
    """`step-N.2` comes before `step-N.10`."""
    return tuple(int(number) for number in checkpoint.name.removeprefix("step-").split("."))


def _following(name: str) -> str:
    """`step-N` -> `step-N.1` -> `step-N.2`."""
    step, _, times = name.partition(".")
    return f"{step}.{int(times or 0) + 1}"


def _link(source: str, target: str) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def last_state(folder: Path) -> dict[str, Any] | None:
    """The run state of the newest checkpoint in `folder` whose state is as it was written; None without one."""
    for checkpoint in reversed(Checkpoints(folder, 1).complete()):
        try:
            text = (checkpoint / "state.json").read_bytes()
            sums = json.loads((checkpoint / SUMS).read_text(encoding="utf-8")) if (checkpoint / SUMS).exists() else {}
            if sums.get("state.json", hashlib.sha256(text).hexdigest()) == hashlib.sha256(text).hexdigest():
                return json.loads(text)
        except (OSError, ValueError, AttributeError):
            continue
    return None


def checksums(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a checkpoint but its own marks."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (SUMS, DONE)):
        with open(path, "rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def damaged(folder: Path) -> list[str]:
    """Files of a checkpoint that are missing or not as they were written; a checkpoint without checksums is taken as it is."""
    if not (folder / SUMS).exists():
        return []
    try:
        wanted = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        return [SUMS]
    found = checksums(folder)
    return [name for name, digest in wanted.items() if found.get(name) != digest]
