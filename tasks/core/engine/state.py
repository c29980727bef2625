"""Checkpoints of a training run: written beside, renamed when whole, marked DONE, pruned after."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.core.files import replacing, write_text

DONE = "DONE"


class Checkpoints:
    """The `checkpoints/` folder of a run.

    A folder `step-00000012` counts only with its DONE marker, which is written last. Model and optimizer states are written by
    Accelerate, so that
    DDP and FSDP share one path; each process adds what is its own.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep

    def whole(self) -> list[Path]:
        """Usable checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(p for p in self.folder.glob("step-*") if (p / DONE).exists())

    def save(self, accelerator: Any, step: int, state: dict[str, Any], own: list[dict], extra_modules: dict[str, torch.nn.Module]) -> None:
        """Writes one checkpoint; called by all processes together."""
        final = self.folder / f"step-{step:08d}"
        if (final / DONE).exists():  # an evaluation came after it
            if accelerator.is_main_process:
                for name, module in extra_modules.items():
                    with replacing(final / f"{name}.pt") as temporary:
                        torch.save(module.state_dict(), temporary)
                write_text(final / "state.json", json.dumps(state))
            accelerator.wait_for_everyone()
            return
        partial = self.folder / f"partial-{step:08d}"
        if accelerator.is_main_process:
            for stale in (*self.folder.glob("partial-*"), final):
                shutil.rmtree(stale, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial), safe_serialization=True)
        torch.save(own, partial / f"own-{accelerator.process_index}.pt")
        if accelerator.is_main_process:
            for name, module in extra_modules.items():
                torch.save(module.state_dict(), partial / f"{name}.pt")
            write_text(partial / "state.json", json.dumps(state))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            os.replace(partial, final)
            write_text(final / DONE, "")
            self._prune()
        accelerator.wait_for_everyone()

    def _prune(self) -> None:
        for old in self.whole()[: -self.keep]:
            (old / DONE).unlink()
            shutil.rmtree(old, ignore_errors=True)

    def load(self, accelerator: Any, extra_modules: dict[str, torch.nn.Module]) -> tuple[dict[str, Any], list[dict]] | None:
        """Restores the newest whole checkpoint into what Accelerate prepared; None when there is none.

        Returns:
            the run state and this process' own extra state (empty for a process that the saving world did not have).
        """
        found = self.whole()
        if not found:
            return None
        newest = found[-1]
        accelerator.load_state(str(newest))
        for name, module in extra_modules.items():
            module.load_state_dict(torch.load(newest / f"{name}.pt", map_location="cpu", weights_only=True))
        own_file = newest / f"own-{accelerator.process_index}.pt"
        own = torch.load(own_file, map_location=accelerator.device, weights_only=True) if own_file.exists() else []
        return json.loads((newest / "state.json").read_text(encoding="utf-8")), own
