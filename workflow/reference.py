"""Make a run the reference: executed notebooks beside their sources, numbers in book/reference/.

Of a notebook is removed what differs between runs: timestamps, random cell ids, papermill's and the
kernel's bookkeeping, the cell with the injected parameters, paths of this machine. What is left is
the same for two runs of one seed.

book/reference/ is what `make read` renders and what a run shows of the reference (shipped.py):
numbers.json and claims.csv of the whole run, numbers and tables of the chapters that need not be
made anew, what the interactive figures show, the answers of the base and of the teacher, the
settings, how long each step took, the versions of the main packages, and the SHA-256 of the
adapters.

With --only, a few chapters alone are renewed, from a run whose own adapters are the reference's to
the byte: all of them together take longer than one may want to wait. Chapters on repetitions may
come from a run on another processor, which rounds otherwise: their pages say so. What was measured
of each repetition is added to book/reference/cells/, and other runs take it from there.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jobs import JOBS, ROOT, Job
from origins import sha256_of
from page_facts import VERSIONS
from settings_unchanged import cell_ships, settings_of
from shipped import MARK, REFERENCE, shown_from_reference, with_note
from trainings import ADAPTER_FILES

from finetune_geometry.report.explorables import EXPLORABLES, explorable, write_explorables
from finetune_geometry.runs.files import atomic_directory, atomic_write, read_csv
from finetune_geometry.runs.folders import results_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile, load_profile
from finetune_geometry.settings.repetitions import MEASUREMENTS
from finetune_geometry.settings.revisions import locked

ADAPTERS = "adapters.json"
MACHINE = ("papermill", "execution", "ExecuteTime")
#: Notebook, figure, and the file that the README shows.
PICTURE = ("geometry/cosine", "fig-cosine-pairs", "book/_static/cosines.png")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def normalise(notebook: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook (as JSON) with only what a second run would give again."""
    cells = [
        cell
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    count = 0
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index:03d}"
        for key in MACHINE:
            cell["metadata"].pop(key, None)
        if cell["cell_type"] != "code":
            continue
        if cell["source"]:
            count += 1
            cell["execution_count"] = count
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = count
            for holder in (output, output.get("data", {})):
                for key in ("text", "text/plain", "text/html", "text/markdown", "image/svg+xml"):
                    if key in holder:
                        holder[key] = _portable(holder[key])
    metadata = {"kernelspec": notebook["metadata"]["kernelspec"]}
    if "jupytext" in notebook["metadata"]:
        metadata["jupytext"] = notebook["metadata"]["jupytext"]
    metadata["language_info"] = {"name": "python"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _portable(text: Any) -> Any:
    if isinstance(text, list):
        return [_portable(line) for line in text]
    return ADDRESS.sub("0x0", text.replace(f"{ROOT}/", "").replace(str(ROOT), "."))


def refuse_other_settings(folder: Path, profile: Profile) -> None:
    """Raise UserError unless the run was made with the profile's own settings.

    Those of the reference are taken for what every run of its profile has.
    """
    made = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    for key, value in settings_of(locked(profile, folder))["profile"].items():
        if (other := made.get(f"profile.{key}")) != value:
            raise UserError(
                f"made with {key} = {other!r}, the profile {profile.name} has {value!r}: {folder}: "
                "make a run without SET, or change the profile's file"
            )


def copy_notebooks(folder: Path, chosen: Sequence[Job] = tuple(JOBS), note: str = "") -> None:
    for job in chosen:
        executed = folder / "notebooks" / f"{job.name}.ipynb"
        notebook = normalise(json.loads(executed.read_text(encoding="utf-8")))
        if note:
            notebook = with_note(notebook, note)
        with atomic_write(job.source.with_suffix(".ipynb")) as file:
            json.dump(notebook, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")


def copy_numbers(folder: Path, profile: Profile) -> None:
    """Fill book/reference/ anew."""
    names = ["numbers.json", "claims.csv", "timing.csv"]
    for job in JOBS:
        names += job.outputs[1:] if job.shipped else []
    if (folder / VERSIONS).is_file():  # a run of before has none
        names.append(VERSIONS)
    with atomic_directory(REFERENCE) as new:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, new / name)
        if (REFERENCE / "claims").is_dir():  # ledgers of other runs, which this one does not make
            shutil.copytree(REFERENCE / "claims", new / "claims")
        for kept in (REFERENCE, folder):
            copy_cells(kept, new, profile)
        write_explorables(folder, new / "explorables")
        (new / "answers").mkdir()
        for model in ("base", "teacher"):  # those that ship
            path = folder / "evaluation" / "predictions" / f"{model}.parquet"
            if path.is_file():
                shutil.copy(path, new / "answers")
        for name, held in {
            "settings.json": settings_of(profile),
            ADAPTERS: adapters_of(folder),
        }.items():
            text = json.dumps(held, indent=1, sort_keys=True)
            (new / name).write_text(text + "\n", encoding="utf-8")


def copy_cells(folder: Path, reference: Path, profile: Profile) -> list[str]:
    """Copy what was measured of repetitions with these settings; "cell/chapter" of each.

    folder: of a run, or the reference. Not what a run shows from the reference itself, nor what was
    measured with other settings before.
    """
    found = []
    for measurement in MEASUREMENTS.values():
        for cell in measurement.cells(profile):
            outputs = measurement.outputs(cell.name)
            if not cell_ships(measurement, cell.name, profile, folder):
                continue
            if json.loads((folder / outputs[-1]).read_text(encoding="utf-8")).get(MARK):
                continue
            for file in outputs:
                (reference / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / file, reference / file)
            found.append(f"{cell.name}/{measurement.name}")
    return found


def adapters_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights of the adapters that all chapters read, of those that the run has."""
    found = {}
    for name in (*METHODS, "sft-order"):
        weights = folder / "adapters" / name / ADAPTER_FILES[0]
        if weights.is_file():
            found[name] = sha256_of(weights)
    return found


def rounding_note(folder: Path, chapter: str, profile: Profile) -> str:
    """What a page on repetitions says if the run's own six are not those of the other pages.

    "" if they are, and so are all repetitions of one kind of processor.
    """
    known = json.loads((REFERENCE / ADAPTERS).read_text(encoding="utf-8"))
    cards = [
        json.loads((folder / "cells" / cell.name / f"{chapter}.json").read_text(encoding="utf-8"))
        for cell in MEASUREMENTS[chapter].cells(profile)
    ]
    processors = sorted({card["processor"] for card in cards})
    if cards[0]["adapters"] == known and len(processors) == 1:
        return ""
    said = (
        "The trainings of this page were not all made on the processor of the other chapters "
        f"(here: {'; and '.join(processors)}). Another one rounds otherwise, and a training "
        "amplifies that"
    )
    headlines = folder / "cells" / "run" / "headlines.csv"
    if cards[0]["adapters"] != known and headlines.is_file():
        others = json.loads((REFERENCE / "numbers.json").read_text(encoding="utf-8"))
        value = read_csv(headlines).set_index(["quantity", "a", "b"])["value"]
        said += (
            ": the same seeds give SFT and DFT a cosine of "
            f"{value['cosine', 'sft', 'dft']:.3f} here and of {others['cosine.sft_dft']:.3f} "
            f"there, DFT an accuracy of {value['accuracy', 'dft', '']:.1%} and of "
            f"{others['accuracy.dft']:.1%}"
        )
    return f"{said}. Compare the numbers of this page with one another."


def renew(folder: Path, chosen: Sequence[Job], profile: Profile) -> list[str]:
    """Put these chapters of a run into the reference, and what it measured of repetitions.

    Returns "cell/chapter" of each of the latter.
    """
    known = json.loads((REFERENCE / ADAPTERS).read_text(encoding="utf-8"))
    bound = [job.stem for job in chosen if not job.repeats]
    other = [name for name, found in adapters_of(folder).items() if known.get(name) != found]
    if bound and other:
        raise UserError(
            f"the adapter {other[0]} is not the reference's, and {bound[0]} is not about "
            f"repetitions: {folder}: make the whole reference anew, or take a machine with a "
            "processor like that one's"
        )
    measured = copy_cells(folder, REFERENCE, profile)
    for job in chosen:
        note = rounding_note(folder, job.stem, profile) if job.repeats else ""
        copy_notebooks(folder, [job], note)
    made = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    numbers = json.loads((REFERENCE / "numbers.json").read_text(encoding="utf-8"))
    sections = tuple(f"{job.stem}." for job in chosen)
    numbers = {key: value for key, value in numbers.items() if not key.startswith(sections)}
    numbers |= {key: value for key, value in made.items() if key.startswith(sections)}
    with atomic_write(REFERENCE / "numbers.json") as file:
        json.dump(dict(sorted(numbers.items())), file, indent=2, ensure_ascii=False)
        file.write("\n")
    for job in chosen:
        for name in job.outputs[1:]:  # of what every run makes anew the ledger alone is kept
            if job.shipped or name == "claims.csv":
                (REFERENCE / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, REFERENCE / name)
    stems = {job.stem for job in chosen}
    for name, (_, chapters) in EXPLORABLES.items():
        # A run that was asked for a few chapters may lack the table of another one.
        if stems & {*chapters} and explorable(folder, name)["data"] is not None:
            write_explorables(folder, REFERENCE / "explorables", names=[name])
    old, own = (pd.read_csv(path / "timing.csv") for path in (REFERENCE, folder))
    names = [job.name for job in chosen]
    kept = old[~old["notebook"].isin(names)]
    new = own[own["notebook"].isin(names)]
    pd.concat([kept, new]).to_csv(REFERENCE / "timing.csv", index=False)
    return measured


def copy_picture(folder: Path) -> None:
    """The picture of the README: a figure of the run, as its notebook holds it."""
    if PICTURE[0] not in {job.name for job in JOBS}:
        return
    page = folder / "notebooks" / f"{PICTURE[0]}.ipynb"
    notebook = json.loads(page.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == PICTURE[1]:
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    with atomic_write(ROOT / PICTURE[2], "wb") as file:
                        file.write(base64.b64decode(output["data"]["image/png"]))
                    return
    raise UserError(f"no figure {PICTURE[1]} in {PICTURE[0]}: {folder}: name another in PICTURE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--run", default="")
    parser.add_argument(
        "--only", default="all", help='chapters or repetitions, such as "ray order1"'
    )
    parser.add_argument("--numbers-only", action="store_true", help="leave the notebooks alone")
    options = parser.parse_args()
    profile = load_profile(options.profile)
    folder = results_root() / (options.run or profile.name)
    only = options.only.split()
    # A repetition stands for all chapters that read it; some wait for a chapter to come.
    reading = {
        name: {cell.name for cell in measurement.cells(profile)}
        for name, measurement in MEASUREMENTS.items()
    }
    if unknown := {*only} - {"all", *(job.stem for job in JOBS)}.union(*reading.values()):
        raise UserError(f"no chapter {sorted(unknown)[0]!r}: --only: a notebook's last part")
    chosen = [
        job
        for job in JOBS
        if "all" in only or ({job.stem} | reading.get(job.stem, set())) & {*only}
    ]
    for name in ["timing.csv", "numbers.json", *(name for job in chosen for name in job.outputs)]:
        if not (folder / name).is_file():
            raise UserError(f"missing {name}: {folder}: run `make book` first")
    refuse_other_settings(folder, profile)
    names = {job.name for job in chosen}
    if shown := [name for name in shown_from_reference(folder) if name in names]:
        raise UserError(
            f"{shown[0]} is itself shown from the reference run: {folder}: "
            "run `make controls` first"
        )
    if "all" not in only:
        parts = [*(job.stem for job in chosen), *renew(folder, chosen, profile)]
        print(f"{', '.join(parts)} of {folder.name} are the reference's: {REFERENCE}")
        return
    if not options.numbers_only:
        copy_notebooks(folder)
        copy_picture(folder)
    copy_numbers(folder, profile)
    print(f"The run {folder.name} is the reference: {REFERENCE}, {ROOT / 'notebooks'}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
