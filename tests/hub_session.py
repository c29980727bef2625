"""`vid` and the real Hub client in processes of their own, which read the variables they are given when they start."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_server import TOKEN, Hub


def environment(hub: Hub, home: Path, **changes: str | None) -> dict[str, str]:
    """Variables of a process that knows this Hub only; its cache is in `home`. LFS uploads, unless `HF_HUB_DISABLE_XET` is set to None."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "VID_CACHE": None}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": None, "HF_HUB_CACHE": None, "PYTHONPATH": os.pathsep.join(sys.path)}
    merged = {**os.environ, **own, **quiet, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def python(code: str, env: dict[str, str], cwd: Path, *arguments: str) -> str:
    """What `code` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


SESSION = """
import contextlib, io, json, sys
from vidcli import app
told = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = app.main(command)
    told.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""


def session(env: dict[str, str], cwd: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Runs `vid` with each of these arguments, one after the other in one process: (exit code, stdout, stderr) of each."""
    return [tuple(told) for told in json.loads(python(SESSION, env, cwd, json.dumps(commands)).splitlines()[-1])]
