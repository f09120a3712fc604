"""The box "Run this page alone" and the status page: what they say, and that it is true."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import build_book
import job_table
import jupytext
import page_facts
import pytest
from conftest import ROOT
from jobs import JOBS

PARAMETERS = """profile: str = "tiny"  # which profile: smoke, tiny
steps: int | None = None  # optimiser steps; None: the profile's value
factors: list = [0.5, 1.0]  # of each delta, a|b"""


def notebook(*tags: str) -> dict[str, Any]:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# Title"}]
    cells += [
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": PARAMETERS.splitlines(True)}
        for tag in tags
    ]
    return {"cells": [*cells, {"cell_type": "code", "metadata": {}, "source": "1"}]}


JOB = {
    "reads": {"ingredients/rollouts": ["rollouts/card.json"], "methods/sft": ["adapters/sft/"]},
    "files": ["book/claims.yaml"],
    "repeats": True,
    "loads_model": True,
}


def test_the_table_of_jobs_is_that_of_the_workflow() -> None:
    kept = job_table.TABLE.read_text(encoding="utf-8")
    assert kept == job_table.text(), "book/jobs.json is stale: run python workflow/job_table.py"
    assert list(json.loads(kept)) == [job.name for job in JOBS]


def test_every_file_that_a_notebook_reads_is_in_the_table() -> None:
    for name, told in job_table.table().items():
        job = next(job for job in JOBS if job.name == name)
        files = [file for part in told["reads"].values() for file in part]
        assert all(file.startswith(tuple(files)) for file in job.reads)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_the_parameters_of_every_notebook_are_found(job: Any) -> None:
    source = jupytext.read(job.source)
    cell = next(c for c in source.cells if "parameters" in c.metadata.get("tags", []))
    found = page_facts.parameters(source)
    assert len(found) == len(cell.source.splitlines())
    assert found[0][:2] == ("profile", '"tiny"')


def test_the_box_says_how_to_run_what_it_reads_and_what_it_takes() -> None:
    text = page_facts.box("controls/ray", notebook("parameters"), JOB, "7 s.", "-r run mine ")
    assert (
        "papermill notebooks/controls/ray.ipynb out.ipynb \\\n    -r run mine -p NAME VALUE" in text
    )
    assert "| `steps` | `None` | optimiser steps; None: the profile's value |" in text
    assert r"| of each delta, a\|b |" in text  # a bar would end the cell
    assert "`adapters/sft/` of [](../methods/sft)" in text
    assert "`book/claims.yaml` of the checkout" in text
    assert "what was measured of repetitions of the trainings" in text
    assert "**Took** 7 s. It loads a model." in text
    alone = {**JOB, "reads": {}, "files": [], "repeats": False, "loads_model": False}
    text = page_facts.box("your_adapters", notebook("parameters"), alone, "7 s.", "")
    assert "**Reads** nothing of other pages." in text
    assert "needs no GPU" in text


def test_the_box_stands_below_the_parameters() -> None:
    made = page_facts.with_box(notebook("parameters", "injected-parameters"), "box")
    assert [cell["source"] for cell in made["cells"]][3:] == ["box", "1"]
    made = page_facts.with_box(notebook("parameters"), "box")
    assert made["cells"][2] == {
        "cell_type": "markdown", "id": page_facts.BOX, "metadata": {}, "source": "box"
    }  # fmt: skip
    assert page_facts.with_box(notebook(), "box") == notebook()


def test_what_a_run_has_not_measured_is_told_of_the_reference_run() -> None:
    own = {"sft": {"seconds": 10.2, "peak_mib": 99.6}}
    reference = {"sft": {"seconds": 20.0}, "ray": {"seconds": 30.0}}
    words = [page_facts.in_words(stem, own, reference, "here") for stem in ("sft", "ray", "new")]
    assert words == [
        "10 s and 100 MiB here.",
        "30 s in the reference run.",
        "a time that no run has measured yet.",
    ]


@pytest.fixture
def assembled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folders of a run and of its book: two notebooks, one of them the reference's."""
    run, source, reference = (tmp_path / name for name in ("run", "source", "reference"))
    for folder in (run / "timing" / "trainings", source / "book", reference):
        folder.mkdir(parents=True)
    (run / "timing" / "sft.json").write_text(
        json.dumps({"started": 86400 * 365, "seconds": 12.4, "cpu_seconds": 11, "peak_mib": 300})
    )
    (run / "timing" / "second_seed.json").write_text("{}")
    (run / "timing" / "trainings" / "order.json").write_text('{"seconds": 40.0}')
    (reference / "timing.csv").write_text(
        "notebook,started,seconds,cpu_seconds,peak_mib\n"
        "controls/second_seed,0,20.6,20,500\nbook,0,5,,\n"
    )
    (source / "numbers.json").write_text('{"run.name": "mine", "run.profile": "tiny"}')
    for name in ("methods/sft", "controls/second_seed"):
        page = source / "notebooks" / f"{name}.ipynb"
        page.parent.mkdir(parents=True)
        page.write_text(json.dumps(notebook("parameters")))
    monkeypatch.setattr(page_facts, "REFERENCE", reference)
    return run, source


def table_of(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_status_page_is_made_from_the_run_s_files(assembled: tuple[Path, Path]) -> None:
    run, source = assembled
    names = ["methods/sft", "controls/second_seed"]
    page_facts.add_facts(source, names, run, ["controls/second_seed"])
    _, *rows = table_of(source / "book" / "status.csv")
    assert rows == [
        ["[](../notebooks/methods/sft)", "this run", "1971-01-01", "12", "11", "300"],
        ["[](../notebooks/controls/second_seed)", "reference run", "1970-01-01",
         "21", "20", "500"],
        ["1 jobs for repetitions", "this run", "", "40", "", ""],
        ["**sum**", "", "", "73", "", ""],
    ]  # fmt: skip
    assert table_of(source / "book" / "versions.csv")[1][0] == "not recorded"
    page = (source / "notebooks" / "methods" / "sft.ipynb").read_text(encoding="utf-8")
    assert "-r profile tiny -r run mine -p NAME VALUE" in page
    assert "12 s and 300 MiB in this run" in page
    (run / page_facts.VERSIONS).write_text(json.dumps(page_facts.versions_here()))
    page_facts.add_facts(source, names, run, [])
    versions = dict(table_of(source / "book" / "versions.csv")[1:])
    assert {"`python`", "`sphinx`", "`jupyter-book`"} <= set(versions)


def test_the_reference_has_its_times_in_a_table(assembled: tuple[Path, Path]) -> None:
    _, source = assembled
    page_facts.add_facts(source, ["controls/second_seed"], page_facts.REFERENCE, [])
    _, row, total = table_of(source / "book" / "status.csv")
    assert row[1:] == ["this run", "1970-01-01", "21", "20", "500"]
    assert total[3] == "21"


def test_an_assembled_book_has_boxes_on_all_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = tmp_path / "executed"
    for name in build_book.notebooks():
        page = executed / f"{name}.ipynb"
        page.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(jupytext.read(ROOT / "notebooks" / f"{name}.py"), page)
    numbers = ROOT / "book" / "reference" / "numbers.json"
    source = tmp_path / "source"
    build_book.assemble(source, executed, numbers, numbers.with_name("claims.csv"))
    for name in build_book.notebooks():
        page = json.loads((source / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        boxes = [c["source"] for c in page["cells"] if c.get("id") == page_facts.BOX]
        assert len(boxes) == 1
        assert f"notebooks/{name}.ipynb out.ipynb \\\n    -p NAME" in boxes[0]
