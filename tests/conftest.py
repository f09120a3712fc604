"""One smoke run of all notebooks for the whole session, by the same workflow as `make book`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))  # its scripts are no package

Workflow = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Call workflow/run.py on the smoke profile with further arguments."""
    results = tmp_path_factory.mktemp("results")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "workflow" / "run.py"), "--profile", "smoke"]
        return subprocess.run(
            [*command, *arguments],
            env=os.environ | {"FINETUNE_GEOMETRY_RESULTS": str(results)},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    run.results = results  # type: ignore[attr-defined]
    return run


def tracked_files() -> dict[Path, int]:
    """Files of the checkout that a run must neither add to nor change, and when they changed."""
    folders = ("src", "notebooks", "models", "book", "workflow")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files if path.suffix != ".pyc"}


@pytest.fixture(scope="session")
def files_before() -> dict[Path, int]:
    return tracked_files()


@pytest.fixture(scope="session")
def smoke_run(workflow: Workflow, files_before: dict[Path, int]) -> Path:
    """Folder of a run of every notebook; the book is not rendered yet."""
    done = workflow("--until", "numbers")
    assert done.returncode == 0, done.stdout + done.stderr
    return workflow.results / "smoke"  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def smoke_book(workflow: Workflow, smoke_run: Path) -> Path:
    """Folder of the rendered pages of that run."""
    done = workflow()
    log = smoke_run / "logs" / "book.log"
    said = log.read_text(encoding="utf-8")[-6000:] if log.is_file() else ""
    assert done.returncode == 0, done.stdout + done.stderr + said
    return smoke_run / "html"


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 checkpoint of 2 layers, for the tests of training and sampling."""
    from toy import save_toy_model  # kept here: the geometry's tests need no transformers

    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")


def execute(source: Path, output: Path, *arguments: str, results: Path) -> str:
    """Execute one notebook source by papermill; what it said, or AssertionError with it."""
    tools = Path(sys.executable).parent
    made = subprocess.run(
        [tools / "jupytext", "--quiet", "--to", "ipynb", "--output", "-", source],
        capture_output=True,
        check=True,
    )
    done = subprocess.run(
        [tools / "papermill", "--no-progress-bar", "-", output, *arguments],
        input=made.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ
        | {
            "FINETUNE_GEOMETRY_RESULTS": str(results),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said
