"""One file per measurement of `scripts/bench`: `add_arguments(parser)` and `run(args)`."""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data"
VID = [sys.executable, "-m", "vidcli"]


def vid(*words: object) -> dict:
    """One `vid` command; its JSON result. The seconds it took are kept beside the run, so that a repeated bench still knows them."""
    words = [str(w) for w in words]
    note = Path(words[words.index("--out") + 1] + ".seconds")
    started = time.monotonic()
    done = subprocess.run([*VID, *words, "--json", "-q"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"vid {' '.join(words)} ended with exit code {done.returncode}")
    if not note.exists():
        note.write_text(f"{time.monotonic() - started:.0f}")
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": float(note.read_text())}
