"""Every notebook: its form, its execution in the smoke profile, and that a second one is equal."""

from __future__ import annotations

import ast
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import pytest
from build_book import notebooks
from conftest import ROOT, Workflow, execute, tracked_files
from jobs import JOBS, SECTIONS
from trainings import covers

from finetune_geometry.settings.objectives import METHODS

# Those with functions for the reader to write are no jobs: test_exercises.py.
SOURCES = sorted(
    path for path in (ROOT / "notebooks").rglob("*.py") if path.parent.name != "exercises"
)
NAMES = [str(path.relative_to(ROOT / "notebooks").with_suffix("")) for path in SOURCES]
every_source = pytest.mark.parametrize("source", SOURCES, ids=NAMES)
every_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def executed(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


# The form of the sources.


def test_the_workflow_and_the_book_know_every_notebook() -> None:
    assert set(NAMES) == set(notebooks()) == {job.name for job in JOBS}


@every_source
def test_no_cell_shows_where_a_file_was_written(source: Path) -> None:
    """`write_table` returns a path of the machine, and a cell shows its last value."""
    for cell in code_cells(jupytext.read(source)):
        *_, last = ast.parse(cell["source"]).body
        if isinstance(last, ast.Expr) and "remove-cell" not in tags(cell):
            assert not re.search(r"this_run\.(write_|path)", ast.unparse(last)), cell["source"]


@every_source
def test_first_comes_the_cell_of_typed_commented_parameters(source: Path) -> None:
    notebook = jupytext.read(source)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    parameters, setup, *_ = code_cells(notebook)
    assert "parameters" in tags(parameters)
    assert sum("parameters" in tags(cell) for cell in notebook.cells) == 1
    lines = parameters["source"].splitlines()
    assert lines[0].startswith('profile: str = "tiny"  #')
    assert lines[1].startswith('run: str = ""  #')
    for line in lines:  # what `papermill --help-notebook` shows
        assert re.fullmatch(r"\w+: [\w| \[\],]+ = .+  # .{8,}", line), line
        assert isinstance(ast.parse(line).body[0], ast.AnnAssign)
    assert "check_parameters(globals())" in setup["source"]
    assert "Run.open(" in setup["source"]


@every_source
def test_figures_have_a_name_a_caption_and_an_alternative_text(source: Path) -> None:
    for cell in code_cells(jupytext.read(source)):
        figure = cell["metadata"].get("mystnb", {})
        if figure:
            assert figure["figure"]["name"].startswith("fig-")
            assert figure["figure"]["caption"].strip().endswith((".", "?", "!"))
            assert len(figure["image"]["alt"].split()) >= 5


@every_source
def test_numbers_that_the_prose_quotes_are_recorded(source: Path) -> None:
    assert "this_run.record(" in code_cells(jupytext.read(source))[-1]["source"]


@every_source
def test_a_notebook_ends_with_a_take_away(source: Path) -> None:
    prose = [c["source"] for c in jupytext.read(source).cells if c["cell_type"] == "markdown"]
    assert re.search(r"^## (The )?Take-?away", prose[-1], re.M | re.I)


@every_job
def test_the_executed_notebook_beside_the_source_is_of_this_source(job: Any) -> None:
    """Made by `make reference`; prose may be mended without executing, code may not."""
    beside = json.loads(job.source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    expected = [cell["source"] for cell in code_cells(jupytext.read(job.source))]
    assert ["".join(cell["source"]) for cell in code_cells(beside)] == expected
    assert str(ROOT) not in json.dumps(beside)
    assert "papermill" not in beside["metadata"]


# The six method notebooks: the difference of two notebooks is the difference of the methods.

METHOD_SOURCES = {m: ROOT / "notebooks" / "methods" / f"{m}.py" for m in METHODS}


def plain(text: str, method: str) -> str:
    """`text` with the method's name and label replaced by one word."""
    text = re.sub(rf"\b{re.escape(METHODS[method])}\b", "METHOD", text)
    name = method.replace("_", "[_-]")  # labels of figures have hyphens
    return re.sub(rf"(?<![a-z]){name}(?![a-z])", "METHOD", text)


def shape(method: str) -> list[tuple[str, ...]]:
    """The notebook's skeleton: headings, and the tags and figure names of its code cells."""
    skeleton: list[tuple[str, ...]] = []
    for cell in jupytext.read(METHOD_SOURCES[method]).cells:
        if cell.cell_type == "markdown":
            skeleton += [("heading", h) for h in re.findall(r"^##+ .*$", cell.source, re.M)]
        else:
            figure = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "")
            skeleton.append(("code", *tags(cell), plain(figure, method)))
    return skeleton


def setup_without_names(source: str) -> list[str]:
    """The setup cell without the lines that name a parameter or import a helper."""
    listed = re.compile(r'    "(\w+)": \1,|from .* import .*|import .*')
    return [line for line in source.splitlines() if not listed.fullmatch(line)]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "sft"])
def test_method_notebooks_differ_only_where_the_methods_do(method: str) -> None:
    assert shape(method) == shape("sft")
    sft, other = (
        [(cell, plain(cell["source"], m)) for cell in code_cells(jupytext.read(METHOD_SOURCES[m]))]
        for m in ("sft", method)
    )
    # Shared parameters come first, and have the same types and defaults.
    before, after = (
        [line.partition("#")[0] for line in cells[0][1].splitlines()] for cells in (sft, other)
    )
    assert after[: len(before)] == before
    assert setup_without_names(sft[1][1]) == setup_without_names(other[1][1])
    for (cell, one), (_, two) in zip(sft[2:], other[2:], strict=True):
        # The picture of the loss is where the methods differ.
        if "weight" not in cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", ""):
            assert one == two


# The executed notebooks of the smoke run.


@every_job
def test_executed_without_errors_and_warnings(smoke_run: Path, job: Any) -> None:
    notebook = executed(smoke_run, job.name)
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            if output.get("name") == "stderr" and "remove-stderr" not in tags(cell):
                pytest.fail("on stderr: " + "".join(output["text"]))


@every_job
def test_every_figure_cell_shows_one_image(smoke_run: Path, job: Any) -> None:
    for cell in code_cells(executed(smoke_run, job.name)):
        if cell["metadata"].get("mystnb"):
            images = [
                output
                for output in cell["outputs"]
                if {"image/png", "image/svg+xml"} & set(output.get("data", {}))
            ]
            assert len(images) == 1, cell["metadata"]["mystnb"]["figure"]["name"]


@every_job
def test_all_that_a_notebook_promises_is_there(smoke_run: Path, job: Any) -> None:
    for name in job.outputs:
        assert (smoke_run / name).stat().st_size > 0
    assert not list(smoke_run.rglob("*.partial")) + list(smoke_run.rglob("*.old"))


@every_job
def test_a_notebook_declares_what_it_reads_of_the_profile(smoke_run: Path, job: Any) -> None:
    """A value read but not declared could change without the notebook being made again.

    The other way round a section of which nothing is read makes it again for nothing. That asks no
    more than one value of a section: some are read on a GPU, or of a hub's data, alone.
    """
    read = json.loads((smoke_run.parent / "reads" / f"{job.stem}.json").read_text(encoding="utf-8"))
    assert not [key for key in read if not any(covers(part, key) for part in job.settings)]
    assert not [part for part in job.settings if not any(covers(part, key) for key in read)]


@every_job
def test_a_step_that_loads_the_model_says_so(smoke_run: Path, job: Any) -> None:
    """Where a GPU is needed, it gets one; any other step must do without."""
    if job.settings == SECTIONS:  # the verdict records the whole profile
        assert not job.loads_model
        return
    read = json.loads((smoke_run.parent / "reads" / f"{job.stem}.json").read_text(encoding="utf-8"))
    assert job.loads_model == ("model.attention" in read)


def test_a_run_touches_no_file_of_the_checkout(
    smoke_run: Path, files_before: dict[Path, int]
) -> None:
    assert tracked_files() == files_before


def test_a_second_run_has_nothing_to_do(smoke_run: Path, workflow: Workflow) -> None:
    done = workflow("--until", "numbers")
    assert "Nothing to do" in done.stdout, done.stdout + done.stderr


def test_another_learning_rate_of_dpo_re_runs_dpo_and_what_depends_on_it(
    smoke_run: Path, workflow: Workflow
) -> None:
    said = workflow("--until", "numbers", "--set", "methods.dpo.learning_rate=0.5", "--", "-n")
    again = set(re.findall(r"execute notebooks/(\S+)", said.stdout))
    assert {name for name in again if name.startswith("methods/")} == {"methods/dpo"}
    assert not {name for name in again if name.startswith("ingredients/")} - {
        job.name for job in JOBS if any("adapters/dpo" in path for path in job.reads)
    }
    assert {"geometry/cosine", "evaluation/accuracy", "evaluation/verdict"} <= again


def test_a_misspelt_parameter_is_an_error(smoke_run: Path, tmp_path: Path) -> None:
    source = ROOT / "notebooks" / "geometry" / "cosine.py"
    with pytest.raises(AssertionError, match=r"unknown parameter 'prfile'.*did you mean 'profile'"):
        execute(source, tmp_path / "out.ipynb", "-r", "prfile", "smoke", results=smoke_run.parent)


def test_two_runs_with_one_seed_give_the_same_bytes(smoke_run: Path, tmp_path: Path) -> None:
    """Rollouts, an unpaired and a paired training, and a table, made once more."""
    again = tmp_path / "smoke"
    shutil.copytree(smoke_run / "adapters", again / "adapters")
    for method in ("sft", "dpo"):
        shutil.rmtree(again / "adapters" / method)

    def make(name: str) -> None:
        source, out = ROOT / "notebooks" / f"{name}.py", tmp_path / f"{Path(name).stem}.ipynb"
        execute(source, out, "-r", "profile", "smoke", results=tmp_path)

    make("ingredients/rollouts")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, ["methods/sft", "methods/dpo"]))
    make("geometry/cosine")
    for name in (
        "rollouts/rollouts.parquet",
        "adapters/sft/adapter_model.safetensors",
        "adapters/dpo/adapter_model.safetensors",
        "geometry/cosine.csv",
    ):
        assert (again / name).read_bytes() == (smoke_run / name).read_bytes(), name


def test_a_method_notebook_works_on_its_own(smoke_run: Path, tmp_path: Path) -> None:
    """A varied run keeps its own adapter and leaves the run's alone."""
    shutil.copytree(smoke_run / "rollouts", tmp_path / "smoke" / "rollouts")
    source = ROOT / "notebooks" / "methods" / "dpo.py"
    parameters = ["-r", "profile", "smoke", "-p", "learning_rate", "1e-3", "-p", "steps", "2"]
    execute(source, tmp_path / "out.ipynb", *parameters, results=tmp_path)
    (adapter,) = (tmp_path / "smoke" / "adapters").iterdir()
    card = json.loads((adapter / "card.json").read_text(encoding="utf-8"))
    assert adapter.name == "dpo-varied"
    assert (card["learning_rate"], card["steps"]) == (1e-3, 2)
