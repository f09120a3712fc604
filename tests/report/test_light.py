"""What the command imports: nothing heavy, and for `--help` next to nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from synthetic import module_name, write_adapter

#: No part of the base package.
HEAVY = ("torch", "transformers", "peft", "seaborn", "statsmodels", "IPython", "pyarrow")


def python(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compare_does_without_what_the_base_package_lacks(tmp_path):
    """pandas imports pyarrow where there is one: here it is not found, as if not installed."""
    rng = np.random.default_rng(0)
    given = []
    for name in ("one", "two"):
        factors = {
            module_name(i): (rng.standard_normal((24, 4)), rng.standard_normal((4, 20)))
            for i in range(2)
        }
        given.append(f"{name}={write_adapter(tmp_path / name, factors)}")
    script = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

asked, HEAVY = [], json.loads(sys.argv[1])
sys.meta_path.insert(0, Missing())
from finetune_geometry.cli import main
code = main(["compare", *sys.argv[2:]])
loaded = sorted(set(HEAVY) & set(sys.modules))
print(json.dumps([code, loaded, sorted(set(asked) - {"pyarrow"})]))
"""
    out = tmp_path / "report"
    given += ["--draws", "5", "--out", str(out)]
    said = python(script, json.dumps(HEAVY), *given)
    assert json.loads(said.splitlines()[-1]) == [0, [], []]
    assert (out / "index.html").is_file()


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["compare", "--kk", "1"]])
def test_help_imports_no_mathematics(arguments):
    script = """
import json, sys
from finetune_geometry.cli import main
main(sys.argv[1:])
heavy = {"numpy", "scipy", "pandas", "matplotlib", "jinja2", "rich.progress", "safetensors"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""
    assert json.loads(python(script, *arguments).splitlines()[-1]) == []


def test_every_option_is_in_the_help():
    script = "from finetune_geometry.cli import main; main(['compare', '--help'])"
    said = python(script)
    for option in (
        "--base-model", "--out", "--json", "--reference", "--k", "--draws", "--seed", "--series",
        "--intersection", "--any-base",
    ):  # fmt: skip
        assert f"{option} " in said


@pytest.fixture
def command(tmp_path):
    """A comparison of two adapters, ready to run."""
    rng = np.random.default_rng(0)
    given = [
        f"{name}={write_adapter(tmp_path / name, {module_name(0): factors})}"
        for name in ("one", "two")
        if (factors := (rng.standard_normal((24, 4)), rng.standard_normal((4, 20))))
    ]
    program = [sys.executable, "-m", "finetune_geometry.cli", "compare"]
    return [*program, *given, "--draws", "5", "--json"]


def test_a_reader_who_has_seen_enough_is_no_error(command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_progress_is_told_on_a_terminal_and_nowhere_else(command):
    silent = subprocess.run(command, capture_output=True, check=True)
    assert silent.stderr == b""
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
        assert b"1/1" in os.read(ours, 100_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == silent.stdout
