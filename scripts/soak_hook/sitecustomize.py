"""Loaded by every Python process that `scripts/soak` starts: notes what happens to a run folder, or strikes at one moment of it.

A moment is an event (a file of the run opened, renamed, removed; a line logged; the command begun) and a delay after it, so that it is
the same moment whatever else the machine does. `SOAK` is a JSON object: `folder` (run folder), `record` (file to note events in) or
`label`, `delay_s`, `number` (signal), `target` ("self", "launcher" or the rank of a worker), `processes`.
"""

import json
import os
import re
import sys
import threading
import time

BEGUN = "begun"
_WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree", "shutil.copytree")


def install(plan: dict) -> None:
    """Hooks this process, whose rank decides whether it is the one to be watched."""
    rank, owner, pids = os.environ.get("RANK"), os.getpid(), plan["folder"] + ".pids"
    os.makedirs(pids, exist_ok=True)
    several = plan["processes"] > 1
    try:
        with open(f"{pids}/{rank or ('launcher' if several else '0')}", "x", encoding="utf-8") as file:
            file.write(str(owner))
    except FileExistsError:  # a process that one of them has started
        return
    if rank != "0" and (several or rank is not None):
        return
    folder, counts, events = plan["folder"] + os.sep, {}, []
    since, asleep = [0.0], [False]

    def strike() -> None:
        target = owner
        if plan["target"] != "self":
            with open(f"{pids}/{plan['target']}", encoding="utf-8") as file:
                target = int(file.read())
        with open(plan["folder"] + ".struck", "w", encoding="utf-8") as file:
            file.write("finished" if os.path.exists(folder + "result.json") else "running")
        os.kill(target, plan["number"])

    def happened(label: str) -> None:
        counts[label] = counts.get(label, 0) + 1
        label = f"{label} #{counts[label]}"
        if "record" in plan:
            events.append([round(time.monotonic() - since[0], 4), label])
        elif label == plan["label"]:
            if plan["delay_s"] < 0.001:
                strike()
            else:
                timer = threading.Timer(plan["delay_s"], strike)
                timer.daemon = True
                timer.start()

    def hook(event: str, args: tuple) -> None:
        if asleep[0] or os.getpid() != owner:
            return
        asleep[0] = True  # what this function opens is not an event
        try:
            look(event, args)
        finally:
            asleep[0] = False

    def look(event: str, args: tuple) -> None:
        if event == "import" and args[0] == "tasks.core.config" and not since[0]:
            since[0] = time.monotonic()
            happened(BEGUN)
        elif event in _WATCHED and isinstance(args[0], str | os.PathLike):
            path = os.fspath(args[0])
            if isinstance(path, str) and path.startswith(folder):
                happened(described(event, path, args))

    def described(event: str, path: str, args: tuple) -> str:
        name = re.sub(rf"\.{owner}\.tmp", ".tmp", path.removeprefix(folder))
        if event == "open" and name.endswith("metrics.jsonl") and "a" in str(args[1]):
            return f"log {name} {lines(path)}"
        return f"{event} {name}"

    def lines(path: str) -> int:
        try:
            with open(path, "rb") as file:
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0

    def note() -> None:
        if os.getpid() == owner:
            with open(plan["record"], "w", encoding="utf-8") as file:
                json.dump([*events, [time.monotonic() - since[0], "end #1"]], file)

    sys.addaudithook(hook)
    if "record" in plan:
        import atexit

        atexit.register(note)


if "SOAK" in os.environ:
    install(json.loads(os.environ["SOAK"]))
