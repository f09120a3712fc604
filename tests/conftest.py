"""One smoke run of all notebooks for the whole session, by the same workflow as `make book`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))  # its scripts are no package

Workflow = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = [sys.executable, str(ROOT / "workflow" / "run.py"), "--profile", "smoke"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the smoke run come last: it goes on beside the others meanwhile."""
    items.sort(key=lambda item: "smoke_run" in getattr(item, "fixturenames", []))


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
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session", autouse=True)
def started_run(
    request: pytest.FixtureRequest, results: Path, files_before: dict[Path, int]
) -> Iterator[subprocess.Popen[bytes] | None]:
    """All notebooks, begun with the first test of a session in which any test needs them."""
    if not any("smoke_run" in getattr(i, "fixturenames", []) for i in request.session.items):
        yield None
        return
    with open(results / "said.txt", "wb") as said:
        process = subprocess.Popen(
            [*COMMAND, "--execute", "all", "--until", "numbers"],
            env=os.environ
            | {
                "FINETUNE_GEOMETRY_RESULTS": str(results),
                "FINETUNE_GEOMETRY_READS": str(results / "reads"),
            },
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )
        yield process
        if process.poll() is None:  # the session was stopped before
            process.terminate()  # it ends its own children
            process.wait()


@pytest.fixture(scope="session")
def workflow(results: Path) -> Workflow:
    """Call workflow/run.py on the smoke profile with further arguments."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=os.environ | {"FINETUNE_GEOMETRY_RESULTS": str(results)},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    return run


@pytest.fixture(scope="session")
def smoke_run(started_run: subprocess.Popen[bytes], results: Path) -> Path:
    """Folder of a run of every notebook; the book is not rendered yet."""
    status = started_run.wait()
    assert status == 0, (results / "said.txt").read_text(encoding="utf-8")
    return results / "smoke"


@pytest.fixture(scope="session")
def smoke_book(workflow: Workflow, smoke_run: Path) -> Path:
    """Folder of the rendered pages of that run."""
    done = workflow()
    log = smoke_run / "logs" / "book.log"
    said = log.read_text(encoding="utf-8")[-6000:] if log.is_file() else ""
    assert done.returncode == 0, done.stdout + done.stderr + said
    return smoke_run / "html"


class Reading(NamedTuple):
    """What `make read` left: its folder of results, what it said, tracked files that it changed."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    changed: set[Path]


@pytest.fixture(scope="session")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """The reference run, rendered once, in an environment that has nothing but what it needs."""
    folder = tmp_path_factory.mktemp("reading")
    before = tracked_files()
    done = subprocess.run(
        [sys.executable, str(ROOT / "workflow" / "read_reference.py")],
        env={"PATH": os.environ["PATH"], "FINETUNE_GEOMETRY_RESULTS": str(folder)},
        capture_output=True,
        text=True,
    )
    changed = {path for path, _ in set(before.items()) ^ set(tracked_files().items())}
    return Reading(folder, done, changed)


@pytest.fixture(scope="session")
def reference_book(reading: Reading) -> Path:
    """Folder of the rendered pages of the reference run."""
    assert reading.done.returncode == 0, reading.done.stderr
    return reading.folder / "read" / "html"


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 checkpoint of 2 layers, for the tests of training and sampling."""
    from toy import save_toy_model  # kept here: the geometry's tests need no transformers

    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="session")
def small_book_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the rendered pages of tests/book/small_book.py, without links to a repository."""
    import small_book
    from repository_links import VARIABLE

    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        small_book.make(folder)
    return folder / "html"


def execute(
    source: Path, output: Path, *arguments: str, results: Path, under: Sequence[str] = ()
) -> str:
    """Execute one notebook source by papermill; what it said, or AssertionError with it.

    under: a command that runs papermill.
    """
    tools = Path(sys.executable).parent
    made = subprocess.run(
        [tools / "jupytext", "--quiet", "--to", "ipynb", "--output", "-", source],
        capture_output=True,
        check=True,
    )
    done = subprocess.run(
        [*under, tools / "papermill", "--no-progress-bar", "-", output, *arguments],
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


@pytest.fixture(params=["joint", "own"])
def frame(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to singular vectors, of few adapters and of many: one QR of all columns; and the
    table of their products or, where that would lose digits, a QR of each adapter's own."""
    if request.param == "own":
        monkeypatch.setattr("finetune_geometry.geometry.cores.JOINT", -1)
    return str(request.param)


@pytest.fixture
def close_figures() -> Iterator[None]:
    """No figure of one test is left open for the next."""
    yield
    plt.close("all")
