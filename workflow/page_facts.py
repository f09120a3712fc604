"""What the book says of the making of its pages: the box "Run this page alone", the status page.

All of it comes from files: the notebook's own parameters, book/jobs.json (job_table.py), and of the
run that is shown its timing and versions. Like build_book.py this module needs nothing of the
package.
"""

from __future__ import annotations

import csv
import json
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from shipped import REFERENCE, ROOT, stem_of

VERSIONS = "versions.json"
#: What results or pages hang on.
PACKAGES = (
    *("torch", "transformers", "peft", "trl", "datasets", "accelerate", "tokenizers"),
    *("math-verify", "numpy", "scipy", "pandas", "statsmodels", "matplotlib", "safetensors"),
    *("snakemake", "papermill", "jupytext", "jupyter-book", "sphinx"),
)
PARAMETER = re.compile(r"(\w+): ([^=]+?) = (.+?)  # (.+)")
OWN = "this run"
BOX = "run-alone"  # the class of the box, and the identifier of its cell
Timing = Mapping[str, Mapping[str, Any]]


def parameters(notebook: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each parameter of a notebook (as JSON), in their order."""
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = "".join(cell["source"]).splitlines()
            matches = [PARAMETER.fullmatch(line) for line in lines]
            return [(match[1], match[3], match[4]) for match in matches if match]
    return []


def timing_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What each notebook took, by its stem: of a run timing/*.json, of the reference timing.csv.

    A run's own timing.csv is of its last whole pass and may be older than what is shown.
    """
    if (folder / "timing").is_dir():
        files = sorted((folder / "timing").glob("*.json"))
        told = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
        return {stem: taken for stem, taken in told.items() if taken}
    path = folder / "timing.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {
        stem_of(row.pop("notebook")): {key: float(value) for key, value in row.items()}
        for row in rows
    }


def trainings_of(folder: Path) -> list[dict[str, Any]]:
    """What the trainings and measurements of a run's repetitions took, one after another."""
    files = sorted((folder / "timing").glob("*/*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def versions_here() -> dict[str, str]:
    """Python and the packages of PACKAGES that are installed, by name."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def box(name: str, notebook: Mapping[str, Any], job: Mapping[str, Any], took: str, run: str) -> str:
    """The folded box of one page, as text of a markdown cell.

    name: of the notebook, as in "geometry/cosine". job: its entry in book/jobs.json. took: what is
    said of its time. run: the papermill options that name the run, "" for the default one.
    """
    rows = [
        f"| `{parameter}` | `{_cell(default)}` | {_prose(meaning)} |"
        for parameter, default, meaning in parameters(notebook)
    ]
    root = "../" * name.count("/")
    reads = [
        f"{', '.join(f'`{file}`' for file in files)} of []({root}{maker})"
        for maker, files in job["reads"].items()
    ]
    reads += [f"`{pattern}` of the checkout" for pattern in job["files"]]
    if job["repeats"]:
        reads.append(
            "what was measured of repetitions of the trainings (`cells/`), which are made when a "
            "run is asked for this page"
        )
    needs = "It loads a model." if job["loads_model"] else "It loads no model and needs no GPU."
    lines = [
        ":::{admonition} Run this page alone",
        f":class: dropdown {BOX}",
        "",
        "```console",
        f"$ .venv/bin/papermill notebooks/{name}.ipynb out.ipynb \\",
        f"    {run}-p NAME VALUE",
        "```",
        "",
        "| parameter | default | meaning |",
        "|---|---|---|",
        *rows,
        "",
        f"**Reads** {'; '.join(reads)}." if reads else "**Reads** nothing of other pages.",
        "",
        f"**Took** {took} {needs}",
        ":::",
    ]
    return "\n".join(lines)


def with_box(notebook: dict[str, Any], text: str) -> dict[str, Any]:
    """The notebook (as JSON) with the box below the cell that declares its parameters."""
    cells = list(notebook["cells"])
    places = [
        n
        for n, cell in enumerate(cells)
        if {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", []))
    ]
    if not places:
        return notebook
    made = {"cell_type": "markdown", "id": BOX, "metadata": {}, "source": text}
    cells.insert(places[-1] + 1, made)
    return {**notebook, "cells": cells}


def in_words(stem: str, own: Timing, reference: Timing, whose: str) -> str:
    """What is said of the time of one notebook."""
    for timing, where in ((own, whose), (reference, "in the reference run")):
        if stem in timing:
            taken = timing[stem]
            memory = f" and {taken['peak_mib']:.0f} MiB" if "peak_mib" in taken else ""
            return f"{taken['seconds']:.0f} s{memory} {where}."
    return "a time that no run has measured yet."


def status_rows(
    names: Sequence[str], shown: Sequence[str], own: Timing, reference: Timing
) -> list[list[str]]:
    """The table of the status page: a heading, and one row a notebook.

    names: the notebooks in their order; shown: those that the run shows from the reference.
    """
    rows = [["chapter", "pages of", "date", "seconds", "CPU s", "peak MiB"]]
    for name in names:
        borrowed = name in shown
        taken = (reference if borrowed else own).get(stem_of(name), {})
        day = ""
        if "started" in taken:
            day = datetime.fromtimestamp(taken["started"], UTC).date().isoformat()
        numbers = [
            f"{taken[key]:.0f}" if key in taken else ""
            for key in ("seconds", "cpu_seconds", "peak_mib")
        ]
        whose = "reference run" if borrowed else OWN
        rows.append([f"[](../notebooks/{name})", whose, day, *numbers])
    return rows


def add_facts(source: Path, names: Sequence[str], folder: Path, shown: Sequence[str]) -> None:
    """Put the boxes and the tables of the status page into an assembled book.

    source: the assembled book. names: its notebooks. folder: of the run, or of the reference.
    """
    own, reference = timing_of(folder), timing_of(REFERENCE)
    jobs = json.loads((ROOT / "book" / "jobs.json").read_text(encoding="utf-8"))
    numbers = json.loads((source / "numbers.json").read_text(encoding="utf-8"))
    run, profile = numbers.get("run.name", ""), numbers.get("run.profile", "")
    options = "" if run == profile == "tiny" else f"-r profile {profile} -r run {run} "
    for name in names:
        page = source / "notebooks" / f"{name}.ipynb"
        notebook = json.loads(page.read_text(encoding="utf-8"))
        if name in jobs:
            took = in_words(stem_of(name), {} if name in shown else own, reference, f"in {OWN}")
            notebook = with_box(notebook, box(name, notebook, jobs[name], took, options))
            page.write_text(json.dumps(notebook), encoding="utf-8")
    rows = status_rows(names, shown, own, reference)
    if further := trainings_of(folder):
        seconds = sum(taken.get("seconds", 0.0) for taken in further)
        rows.append([f"{len(further)} jobs for repetitions", OWN, "", f"{seconds:.0f}"])
    total = sum(float(row[3]) for row in rows[1:] if row[3])
    rows.append(["**sum**", "", "", f"{total:.0f}"])
    _write_csv(source / "book" / "status.csv", rows)
    path = folder / VERSIONS
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    told = [[f"`{name}`", version] for name, version in held.items()]
    told = told or [["not recorded", "this run is older than the record of versions"]]
    _write_csv(source / "book" / "versions.csv", [["package", "version"], *told])


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    width = max(map(len, rows))
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*row, *[""] * (width - len(row))] for row in rows)


def _cell(text: str) -> str:
    """Code in a cell of a table, where a bar would end the cell."""
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """A comment as prose: signs that MyST reads as markup stand for themselves."""
    return re.sub(r"([|\\*_\[\]<>{}$`#])", r"\\\1", text)
