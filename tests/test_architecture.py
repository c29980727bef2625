"""The import graph: no circle, arrows one way, and contracts that know every task of the registry."""

import tomllib
from pathlib import Path

import grimp
import pytest

from tasks.registry import TASKS

ROOT = Path(__file__).parent.parent
OWN_PACKAGES = {task.name for task in TASKS.values() if task.within is None}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Module -> modules that it imports, inside functions too."""
    found = grimp.build_graph("tasks", "vidcli", cache_dir=None)
    return {module: found.find_modules_directly_imported_by(module) for module in found.modules}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: what is left when modules without imports, or without importers, are taken away."""
    left = {module: {other for other in imported if other in graph and other != module} for module, imported in graph.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        gone = {module for module, others in left.items() if not others or module not in imported}
        if not gone:
            return [sorted(left)] if left else []
        left = {module: others - gone for module, others in left.items() if module not in gone}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_import_runs_in_a_circle(graph):
    assert circles(graph) == []


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize(
    ("room", "closed"),
    [
        ("tasks.core", ["vidcli", "tasks.registry", *(f"tasks.{name}" for name in OWN_PACKAGES)]),
        (
            "tasks.core.data",
            ["tasks.core.video", "tasks.core.audio", "tasks.core.clips", "tasks.core.flow", "tasks.core.engine", "tasks.core.towers"],
        ),
        (
            "tasks.core.video",
            ["tasks.core.audio", "tasks.core.clips", "tasks.core.flow", "tasks.core.engine", "tasks.core.towers", "tasks.core.nn"],
        ),
        ("tasks.core.audio", ["tasks.core.clips", "tasks.core.flow", "tasks.core.engine", "tasks.core.towers", "tasks.core.nn"]),
        ("tasks.core.flow", ["tasks.core.clips", "tasks.core.engine", "tasks.core.towers"]),
        ("tasks.core.clips", ["tasks.core.engine", "tasks.core.towers"]),
        ("tasks.core.inference", ["tasks.core.engine", "tasks.core.towers"]),
        ("tasks.core.nn", ["tasks.core.video", "tasks.core.clips", "tasks.core.engine", "tasks.core.towers"]),
    ],
)
def test_rooms_do_not_open_upward(graph, room, closed):
    wrong = [
        (module, other)
        for module, imported in graph.items()
        if within(module, room)
        for other in imported
        if any(within(other, package) for package in closed)
    ]
    assert wrong == []


def test_every_task_has_a_folder_and_every_folder_is_a_task():
    folders = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")} - {"core"}
    assert folders == OWN_PACKAGES


def test_the_contracts_of_import_linter_know_every_task():
    layers, independent = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    packages = {f"tasks.{name}" for name in OWN_PACKAGES}
    assert set(layers["layers"][1].split(" | ")) == packages
    assert set(independent["forbidden_modules"]) == {*packages, "vidcli"}
