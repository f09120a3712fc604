"""The workflow on small notebooks of its own: what re-runs, what survives a kill, what is told."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import jobs
import psutil
import pytest
import yaml
from conftest import ROOT
from jobs import CONTROLS, JOBS, imports_of, modules_of
from reference import normalise

from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile

# Three notebooks instead of the book's: "train" takes long enough to be killed.
TABLE = """
JOBS = [
    Job("sample", reads=(), writes=("rows.csv",), settings=("rollouts",)),
    Job("train", reads=("rows.csv",), writes=("adapter",), settings=("methods.dpo",)),
    Job("judge", reads=("adapter",), writes=("claims.csv",), settings=("evaluation",)),
]
"""
NOTEBOOK = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A chapter

# %% tags=["parameters"]
profile: str = "tiny"
run: str = ""

# %%
import time

from finetune_geometry.{module} import check_parameters
from finetune_geometry.runs.records import Run

check_parameters(globals())
this_run = Run.open(profile, run)
{body}
this_run.record("{name}", {{"learning_rate": this_run.profile.training_of("dpo").learning_rate}})
"""
BODIES = {
    "sample": 'this_run.path("rows.csv").write_text("rows")',
    "train": 'this_run.path("begun").touch()\n'
    'while not (this_run.dir.parent / "go").exists(): time.sleep(0.1)\n'
    'this_run.path("adapter").write_text(this_run.path("rows.csv").read_text())',
    "judge": 'this_run.path("claims.csv").write_text("claims")',
}


class Project:
    """A checkout with the real workflow and package, and notebooks: a table, and their bodies."""

    def __init__(self, root: Path, table: str = TABLE, bodies: Mapping[str, str] = BODIES) -> None:
        self.root = root
        self.bodies = bodies
        self.run = root / "results" / "smoke"
        for name in ("workflow", "src"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "_config.yml", "_toc.yml"):
            shutil.copy(ROOT / name, root)
        (root / "book").mkdir()
        (root / "notebooks").mkdir()
        with open(root / "workflow" / "jobs.py", "a", encoding="utf-8") as file:
            file.write(table)
        for name in bodies:
            self.write(name)
        self.started: list[subprocess.Popen[str]] = []
        self.let_train(True)

    def write(self, name: str, body: str = "") -> None:
        # "judge" alone uses a module of its own
        module = "own" if name == "judge" else "settings.parameters"
        (self.root / "src" / "finetune_geometry" / "own.py").write_text(
            "from finetune_geometry.settings.parameters import check_parameters\n", encoding="utf-8"
        )
        text = NOTEBOOK.format(name=name, module=module, body=body or self.bodies[name])
        (self.root / "notebooks" / f"{name}.py").write_text(text, encoding="utf-8")

    def let_train(self, go: bool) -> None:
        """Whether the training comes to its end, or waits to be killed."""
        path = self.run.parent / "go"  # of all runs
        path.parent.mkdir(parents=True, exist_ok=True)
        if go:
            path.touch()
        else:
            path.unlink()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FINETUNE_")}
        started = subprocess.Popen(
            [
                *(sys.executable, str(self.root / "workflow" / "run.py")),
                *("--profile", "smoke", "--until", "numbers", *arguments),
            ],
            env=environment | {"PYTHONPATH": str(self.root / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
        )
        self.started.append(started)
        return started

    def stop(self) -> None:
        """Kill what it started and is still there: no other child of the session, whose smoke run
        goes on meanwhile."""
        for process in self.started:
            if process.poll() is None:
                for member in psutil.Process(process.pid).children(recursive=True):
                    member.kill()
                process.kill()
                process.wait()

    def make(self, *arguments: str) -> str:
        """Run to the end; what was said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=300)
        return said

    def executed(self, *arguments: str) -> set[str]:
        """The notebooks that a run executes (or, with -n, would execute)."""
        return set(re.findall(r"execute notebooks/(\w+)", self.make(*arguments)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("checkout"))
    assert made.executed() == set(BODIES)
    yield made
    made.stop()


def test_a_second_run_has_nothing_to_do(project: Project) -> None:
    assert "Nothing to do" in project.make()


def test_touching_files_re_runs_nothing(project: Project) -> None:
    for path in project.root.rglob("*.py"):
        path.touch()
    assert "Nothing to do" in project.make()


def test_a_changed_value_re_runs_its_notebook_and_what_follows(project: Project) -> None:
    dry = ("--", "--dry-run")
    assert project.executed("--set", "methods.dpo.beta=0.3", *dry) == {"train", "judge"}
    assert project.executed("--set", "evaluation.confidence=0.9", *dry) == {"judge"}
    assert project.executed("--set", "lora.r=4", *dry) == set()


def test_a_changed_value_in_the_profiles_file_counts_too(project: Project) -> None:
    """... and a comment in it does not."""
    path = project.root / "src/finetune_geometry/settings/profiles/smoke.yaml"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(before + "\n# a remark\n", encoding="utf-8")
        assert project.executed("--", "--dry-run") == set()
        path.write_text(before + "\nmethods: {dpo: {beta: 0.3}}\n", encoding="utf-8")
        assert project.executed("--", "--dry-run") == {"train", "judge"}
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_changed_module_re_runs_those_who_import_it(project: Project) -> None:
    path = project.root / "src/finetune_geometry/own.py"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(before + "# a remark\n", encoding="utf-8")
        assert project.executed("--", "--dry-run") == {"judge"}
    finally:
        path.write_text(before, encoding="utf-8")


def test_overrides_reach_the_notebooks(project: Project) -> None:
    project.make("--run", "other", "--set", "methods.dpo.learning_rate=0.25")
    numbers = (project.root / "results/other/numbers.json").read_text(encoding="utf-8")
    assert '"train.learning_rate": 0.25' in numbers
    assert '"profile.methods.dpo.learning_rate": 0.25' in numbers


def test_a_killed_run_completes_and_keeps_others_out(project: Project) -> None:
    project.write("train", BODIES["train"] + "  # edited")
    begun, adapter = project.run / "begun", project.run / "adapter"
    begun.unlink()
    project.let_train(False)
    process = project.start()
    try:
        deadline = time.time() + 60
        while not begun.exists() and time.time() < deadline:
            time.sleep(0.1)
        assert begun.exists()
        assert "being made already" in project.make()
    finally:
        tree = psutil.Process(process.pid).children(recursive=True)
        for member in [*tree, psutil.Process(process.pid)]:
            member.send_signal(signal.SIGKILL)
        process.communicate()
    psutil.wait_procs(tree, timeout=10)
    assert not adapter.exists()
    project.let_train(True)
    assert project.executed() == {"train", "judge"}
    assert adapter.read_text() == "rows"
    assert "Nothing to do" in project.make()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_leaves_no_process_and_no_traceback(project: Project, how: int) -> None:
    project.write("train", BODIES["train"] + f"  # edited {how}")
    begun = project.run / "begun"
    begun.unlink()
    project.let_train(False)
    # A shell has its background jobs ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = project.start()
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.time() + 60
    while not begun.exists() and time.time() < deadline:
        time.sleep(0.1)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) > 1
    process.send_signal(how)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped. The same command goes on" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(tree, timeout=10)[1]
    project.let_train(True)
    assert project.executed() == {"train", "judge"}


def test_a_failed_notebook_is_kept_with_its_traceback(project: Project) -> None:
    project.write("judge", 'raise ValueError("the jury is out")')
    try:
        process = project.start()
        said, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "ValueError: the jury is out" in said
        assert "the jury is out" in (project.run / "logs/judge.ipynb").read_text(encoding="utf-8")
        assert not (project.run / "notebooks/judge.ipynb").exists()
    finally:
        project.write("judge")
    assert project.executed() == {"judge"}


def test_timing_of_every_notebook(project: Project) -> None:
    lines = (project.run / "timing.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("notebook,")
    assert {line.partition(",")[0] for line in lines[1:]} == set(BODIES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "methods.dpo.learning_rat=1"], "did you mean 'learning_rate'"),
        (["--set", "steps"], "key=value"),
        (["--run", "../up"], "RUN"),
        (["--run", "smoke", "--profile", "tiny"], "made with profile 'smoke', not 'tiny'"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    project: Project, arguments: list[str], words: str
) -> None:
    said = project.make(*arguments)
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_reference_notebooks_keep_nothing_of_the_machine() -> None:
    def notebook(stamp: str, address: str) -> dict:
        return {
            "metadata": {
                "kernelspec": {"name": "python3"},
                "papermill": {"start_time": stamp},
                "language_info": {"name": "python", "version": "3.11.9"},
            },
            "cells": [
                {"cell_type": "markdown", "id": stamp, "metadata": {}, "source": "# Title"},
                {
                    "cell_type": "code",
                    "id": stamp + "a",
                    "metadata": {"tags": ["injected-parameters"]},
                    "source": "# Parameters",
                    "outputs": [],
                    "execution_count": 1,
                },
                {
                    "cell_type": "code",
                    "id": stamp + "b",
                    "metadata": {"papermill": {"duration": 1}, "tags": ["hide-input"]},
                    "source": "show()",
                    "execution_count": 7,
                    "outputs": [
                        {"output_type": "stream", "text": [f"{ROOT}/results/x {address}"]},
                    ],
                },
            ],
        }

    first = normalise(notebook("2026-01-01", "0x7f00aa11bb22"))
    assert first == normalise(notebook("2027-02-02", "0x7e00aa11bb22"))
    assert [cell["source"] for cell in first["cells"]] == ["# Title", "show()"]
    assert str(ROOT) not in str(first)
    assert first["cells"][1]["metadata"] == {"tags": ["hide-input"]}


# What follows looks at the book's own table of notebooks.


def test_every_file_that_is_read_is_written_by_one_notebook() -> None:
    written = [name for job in JOBS for name in job.outputs]
    assert len(written) == len(set(written))
    for job in JOBS:
        assert set(job.reads) <= set(written), job.name


def test_only_dpo_depends_on_dpos_values() -> None:
    before, after = load_profile("tiny"), load_profile("tiny", {"methods.dpo.learning_rate": 1.0})
    changed = [job.name for job in JOBS if job.parameters(before) != job.parameters(after)]
    # A control trains DPO, too; the verdict states the whole profile.
    assert changed == ["methods/dpo", "controls/matched_rate", "evaluation/verdict"]
    other = load_profile("tiny", {"training.learning_rate": 1.0})
    changed = [job.name for job in JOBS if job.parameters(before) != job.parameters(other)]
    trained = {f"methods/{method}" for method in METHODS}
    # The path states the schedule that its snapshots stand on.
    trained |= {"ingredients/learning_rate", "controls/reshuffled", "controls/path"}
    trained |= {f"controls/{control}" for control in CONTROLS}
    assert set(changed) == trained | {"evaluation/verdict"}


def test_modules_are_found_through_one_another() -> None:
    names = {path.stem for path in modules_of(ROOT / "src/finetune_geometry/runs/records.py")}
    lowest = {path.stem for path in (ROOT / "src/finetune_geometry/settings").glob("*.py")}
    # What notebooks and the workflow ask, not a run.
    lowest -= {"parameters", "variation", "variations", "dials", "repetitions"}
    assert names == lowest | {"__init__", "files", "folders", "reads"}


@pytest.mark.parametrize(
    ("place", "line", "found"),
    [
        ("note.py", "import package.low.deep", {"low/__init__", "low/deep"}),
        ("note.py", "import package.low.deep as d, os", {"low/__init__", "low/deep"}),
        ("note.py", "from package.low.deep import value", {"low/__init__", "low/deep"}),
        ("note.py", "from package.low import deep", {"low/__init__", "low/deep"}),
        ("note.py", "from package import low", {"low/__init__"}),
        ("note.py", "from package.top import value", {"top"}),
        ("note.py", "from packages.top import value", None),
        ("package/top.py", "from . import other", {"other"}),
        ("package/top.py", "from .other import value", {"other"}),
        ("package/top.py", "from .low.deep import value", {"low/__init__", "low/deep"}),
        ("package/low/deep.py", "from ..other import value", {"other"}),
        ("package/low/deep.py", "from .. import top", {"top"}),
        ("package/low/deep.py", "def f():\n    from . import near", {"low/__init__", "low/near"}),
        ("package/low/__init__.py", "from .near import value", {"low/__init__", "low/near"}),
    ],
)
def test_imports_below_a_package_and_relative_ones_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, line: str, found: set[str] | None
) -> None:
    package = tmp_path / "package"
    (package / "low").mkdir(parents=True)
    for name in ("__init__", "top", "other", "low/__init__", "low/deep", "low/near"):
        (package / f"{name}.py").touch()
    (tmp_path / place).write_text(line + "\n", encoding="utf-8")
    monkeypatch.setattr(jobs, "PACKAGE", package)
    expected = set() if found is None else {"__init__", *found}
    assert imports_of(tmp_path / place) == {package / f"{name}.py" for name in expected}


def test_planning_imports_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); import jobs; "
        "print(*{'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ... and at the files that set the environment up.


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_constraints_pin_every_dependency_by_name_and_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["experiment"], *extras["book"], *extras["dev"][1:]]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_.-]+?(?=[<>=~! \[]|$)", requirement)
        assert name
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in pins(), requirement
    assert pins()["torch"] == "2.13.0"  # no local label: see the head of constraints.txt
    assert pins()["jupyter-book"] == "1.0.4.post1"  # 2.x writes no pages
    assert not [pin for pin in pins().values() if not re.fullmatch(r"[0-9][0-9a-z.]*", pin)]


def test_each_kind_of_user_installs_what_they_use() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["dev"][0] == "finetune-geometry[experiment,book,pdf]"

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}

    experiment, book, base = map(
        names, (extras["experiment"], extras["book"], project["dependencies"])
    )
    assert not experiment & book | experiment & base | book & base
    assert {"torch", "snakemake"} <= experiment
    assert "jupyter-book" in book
    assert {"numpy", "safetensors"} <= base


def test_conda_environment_installs_the_same_project() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert environment["name"] == project["name"]
    *conda, pip = environment["dependencies"]
    assert pip["pip"] == ["--constraint constraints.txt", "--editable .[dev]"]
    python = next(name for name in conda if name.startswith("python="))
    lowest = project["requires-python"].removeprefix(">=")
    assert tuple(map(int, python[7:].split("."))) >= tuple(map(int, lowest.split(".")))


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
