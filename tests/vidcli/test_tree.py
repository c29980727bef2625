"""The tree of commands: what stands in it is what the commands say, and only the one that is called is imported."""

import inspect
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest

from vidcli import commands
from vidcli.tree import COMMANDS, GROUPS

MODULES = {name: name.replace(" ", "_").replace("-", "_") for name in COMMANDS}


def test_every_module_is_a_command():
    assert sorted(MODULES.values()) == sorted(module.name for module in iter_modules(commands.__path__))
    assert {name.partition(" ")[0] for name in COMMANDS if " " in name} == set(GROUPS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name):
    module = import_module(f"vidcli.commands.{MODULES[name]}")
    told = getattr(module, "HELP", None) or inspect.cleandoc(module.command.__doc__)
    assert COMMANDS[name] == " ".join(told.split("\n\n")[0].split())


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (["--help"], []),
        (["eval", "--help"], []),
        (["pretrain", "--help"], ["pretrain"]),
        (["eval", "classify", "--help"], ["eval_classify"]),
    ],
)
def test_help_imports_one_command_and_no_heavy_library(words, imported):
    code = (
        "import sys\nfrom vidcli.app import main\nmain(sys.argv[1:])\n"
        "heavy = ('torch', 'numpy', 'yaml')\n"
        "print(*(name for name in sys.modules if name.startswith('vidcli.commands.') or name in heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stderr.split() == [f"vidcli.commands.{name}" for name in imported]


def test_a_shell_that_completes_words_knows_every_option(monkeypatch):
    from typer.main import get_command

    from vidcli.tree import tree

    monkeypatch.setenv("_VID_COMPLETE", "complete_bash")
    found = get_command(tree([]))
    assert any("--preset" in parameter.opts for parameter in found.commands["pretrain"].params)
    assert any("--protocol" in parameter.opts for parameter in found.commands["eval"].commands["classify"].params)
