"""`vid` as a process of its own: what is imported, pipes, completion."""

import os
import subprocess
import sys

import pytest

VID = [sys.executable, "-m", "vidcli"]
HEAVY = ("torch", "numpy", "av", "cv2", "decord", "accelerate", "huggingface_hub", "diffusers", "transformers")


def run(*arguments, **environment):
    return subprocess.run([*VID, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (["--help"], ("yaml",)),
        (["pretrain", "--help"], ("yaml",)),
        (["data", "check", "--help"], ("yaml",)),
        (["presets", "list"], ()),
        (["presets", "show", "masked/tats-tiny"], ()),
        (["presets", "show", "masked/tats-tiny", "--resolved"], ()),
        (["config", "show", "--preset", "classify/tiny", "--origin"], ()),
        (["pretrain", "--preset", "masked/nothing"], ()),
    ],
)
def test_nothing_heavy_is_imported(arguments, also):
    watch = "import sys; from vidcli.app import main; main(sys.argv[1:]); sys.stdout.flush(); "
    watch += "print(' '.join(sorted(name for name in sys.modules if '.' not in name)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", watch, *arguments], capture_output=True, text=True, timeout=60)
    imported = set(done.stderr.splitlines()[-1].split())
    assert "vidcli" in imported
    assert not imported & {*HEAVY, *also}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_preset_names(shell):
    variables = {"_VID_COMPLETE": f"complete_{shell}", "COMP_WORDS": "vid pretrain --preset masked/ta", "COMP_CWORD": "3"}
    variables |= {"_TYPER_COMPLETE_ARGS": "vid pretrain --preset masked/ta", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert "masked/tats-tiny" in run(**variables).stdout


def test_completion_script():
    named = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")  # the parent may not be a shell
    assert "_VID_COMPLETE" in named.stdout


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*VID, "presets", "list"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_doctor_finds_what_is_here():
    done = run("doctor", "--json")
    assert done.returncode == 0
    assert '"name": "pyav", "state": "usable"' in done.stdout


ENDING = """
import atexit, threading, time
from vidcli.__main__ import end
class Last:
    def __del__(self):
        print("torn down")
last = Last()
atexit.register(print, "exit function")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
print("begin")
end(7)
"""


def test_threads_and_exit_functions_end_and_nothing_is_torn_down():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "begin\nthread\nexit function\n", "")


def test_what_cannot_be_written_out_at_the_end_is_no_success():
    program = "import sys; from vidcli.__main__ import end; sys.stdout.write('text'); end(int(sys.argv[1]))"
    for code, told in (("0", 120), ("3", 3)):
        with open("/dev/full", "w") as full:
            words, buffered = [sys.executable, "-c", program, code], {**os.environ, "PYTHONUNBUFFERED": ""}
            assert subprocess.run(words, env=buffered, stdout=full, timeout=60).returncode == told
