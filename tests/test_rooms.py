"""The rooms (folders) of the package: imports run one way, and the geometry half needs no torch."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from jobs import imports_of

PACKAGE = ROOT / "src" / "finetune_geometry"
#: From the lowest to the highest: a module imports its own room and lower ones.
ROOMS = (
    *("settings", "deltas", "problems", "runs", "estimates", "models", "rollouts"),
    *("evaluation", "geometry", "repetitions", "methods", "figures", "report", "exercises"),
)
#: Rooms that a room does without, though they lie below it.
APART = {
    "problems": {"deltas"},
    "estimates": {"deltas", "problems"},
    "figures": set(ROOMS) - {"settings", "figures"},
    "report": {"problems", "estimates", "models", "rollouts", "repetitions", "methods"},
    "geometry": {"rollouts", "methods"},
    "repetitions": {"estimates"},
    "methods": {"evaluation", "geometry", "repetitions"},
    "exercises": set(ROOMS) - {"exercises"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
#: What trains, runs or reads a language model.
HEAVY_ROOMS = ("models", "rollouts", "methods")
HEAVY = {
    *("geometry/line_scores.py", "geometry/hidden_states.py"),
    *("evaluation/answers.py", "geometry/rays.py"),
    *("repetitions/rays.py", "repetitions/causes.py", "repetitions/behaviour.py"),
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_run_downwards(module: Path) -> None:
    if module.parent == PACKAGE:
        return  # the command line, above all rooms
    own = room_of(module)
    below = set(ROOMS[: ROOMS.index(own) + 1]) - APART.get(own, set())
    for imported in imports_of(module) - {PACKAGE / "__init__.py"}:
        assert room_of(imported) in below, f"{name_of(module)} imports {name_of(imported)}"


def test_every_room_says_what_lives_there() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS)
    for room in ROOMS:
        said = importlib.import_module(f"finetune_geometry.{room}").__doc__ or ""
        assert len(said.split()) > 10, room
        assert "mport" in said, f"{room} does not say what it may import"


def test_the_geometry_half_needs_no_torch() -> None:
    light = [
        f"finetune_geometry.{name_of(path)[:-3].replace('/', '.')}"
        for path in MODULES
        if room_of(path) not in HEAVY_ROOMS and name_of(path) not in HEAVY
    ]
    script = f"""
import importlib, sys
for name in {light!r}:
    importlib.import_module(name)
    heavy = {{"torch", "transformers", "peft", "trl", "datasets"}} & set(sys.modules)
    assert not heavy, (name, heavy)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_module_stays_small() -> None:
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines < 300, f"{name_of(path)} has {lines} lines"


def test_what_the_mutation_tool_is_told_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    told = project["tool"]["mutmut"]
    named = [*told["only_mutate"], *told["pytest_add_cli_args_test_selection"], *told["also_copy"]]
    assert [name for name in named if not (ROOT / name).exists()] == []
