"""What ships of the reference run, and how a run shows a part of it.

shipped.py NAME WHOSE TIMING PAGE NUMBERS TABLE... fills the outputs of one notebook. WHOSE says of
the settings that it depends on whether they are the "same" as in the reference run or "other" ones.
shipped.py --cell TABLE... CARD fills what was measured of one repetition.

book/reference/ holds numbers and tables of the reference run, written by reference.py; its executed
notebooks lie beside their sources. A chapter that a run need not make anew is put into the run's
folder from there, with a note on its page and `from_reference` among its numbers.

Like build_book.py this module needs nothing of the package.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "book" / "reference"
MARK = "from_reference"
EXPLORABLES = ("arrows", "depth", "line", "film", "ray", "token")  # interactive figures
EXECUTE = "execute.txt"  # in the run's folder: what this run was asked to make itself


def results() -> Path:
    """The folder of all runs."""
    return Path(os.environ.get("FINETUNE_GEOMETRY_RESULTS") or ROOT / "results").resolve()


def stem_of(name: str) -> str:
    """The last part of a notebook's name: of its numbers, its timing, and `make controls ONLY=`."""
    return name.rpartition("/")[2]


def with_note(notebook: dict[str, Any], text: str) -> dict[str, Any]:
    """The notebook (as JSON) with a note below the title of its page."""
    first, *others = notebook["cells"]
    lines = "".join(first["source"]).splitlines()
    title = next(i for i, line in enumerate(lines) if line.startswith("# "))
    lines[title + 1 : title + 1] = ["", ":::{important}", text, ":::"]
    return {**notebook, "cells": [{**first, "source": "\n".join(lines)}, *others]}


def shown_from_reference(run: Path) -> list[str]:
    """Names of the notebooks that the run in this folder shows from the reference run."""
    shown = []
    for page in sorted((run / "notebooks").rglob("*.ipynb")):
        name = page.relative_to(run / "notebooks").with_suffix("").as_posix()
        numbers = run / "numbers" / f"{stem_of(name)}.json"
        if numbers.is_file() and json.loads(numbers.read_text(encoding="utf-8")).get(MARK):
            shown.append(name)
    return shown


def asked_for(run: Path) -> set[str]:
    """Stems of the shipped chapters, and repetitions, that this run was asked to make itself."""
    path = run / EXECUTE
    return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()


NOTES = {
    "same": (
        "This page shows the **reference run**, not yours: what it measures need not be made anew "
        "in every run, and every setting that it depends on is as it was there."
    ),
    "other": (
        "This page shows the **reference run**, which has **other settings** than yours. Nothing "
        "on it was measured in your run: its trainings take many times as long as the rest of "
        "the book, so they are made only when asked for."
    ),
}


def show_cell(*files: str) -> int:
    """Fill what was measured of one repetition from the reference run; the card is the last."""
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REFERENCE / file, file)
    card = json.loads(Path(files[-1]).read_text(encoding="utf-8")) | {MARK: True}
    Path(files[-1]).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return 0


def main(name: str, whose: str, timing: str, page: str, numbers: str, *tables: str) -> int:
    """Fill the outputs of one notebook, relative to the run's folder, from the reference run."""
    note = (
        f"{NOTES[whose]} To execute it for your run, type `make controls ONLY={stem_of(name)}`; "
        "`make controls` executes all such pages."
    )
    for output in (timing, page, numbers, *tables):
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    executed = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    noted = with_note(json.loads(executed), note)
    Path(page).write_text(json.dumps(noted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    values = json.loads((REFERENCE / numbers).read_text(encoding="utf-8")) | {MARK: True}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    Path(numbers).write_text(text, encoding="utf-8")
    for table in tables:
        shutil.copy(REFERENCE / table, table)
    # What it took is known only where it was executed.
    Path(timing).write_text("{}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--cell":
        sys.exit(show_cell(*sys.argv[2:]))
    sys.exit(main(*sys.argv[1:]))
