"""The ledger with one column a run: the present one, and any other whose claims.csv is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.folders import project_root, results_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

RELEASED = "released/claims.csv"  # of a run: its chapter on released weights


def other_ledgers(run: Run, beside: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """The ledgers that stand beside the run's own, by the name of their column.

    In this order: the reference run, if the run is of another profile; those that ship in
    book/reference/claims/; the released weights, where they were measured; and the runs of
    `beside`, names of folders under results/.
    """
    reference = project_root() / "book" / "reference"
    found: dict[str, Path] = {}
    settings = reference / "settings.json"
    if settings.is_file():
        numbers = json.loads((reference / "numbers.json").read_text(encoding="utf-8"))
        if (name := str(numbers["run.profile"])) != run.profile.name:
            found[name] = reference / "claims.csv"
    found |= {
        path.stem: path
        for path in sorted((reference / "claims").glob("*.csv"))
        if path.stem != run.profile.name
    }
    found["released"] = run.dir / RELEASED
    for name in beside:
        found[name] = results_root() / name / "claims.csv"
        if not found[name].is_file():
            raise UserError(f"no ledger of run {name!r}: {found[name]}: `make book RUN={name}`")
    tables = {name: read_csv(path) for name, path in found.items() if path.is_file()}
    return {name: table for name, table in tables.items() if len(table)}


def side_by_side(ledgers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a claim of the first ledger, a column a ledger: the verdict by its present rule and the
    number that it turned on. A ledger that does not ask a claim has an empty cell.
    """
    first = next(iter(ledgers.values()))
    shown = first[["claim", "title", "paper"]].copy()
    for name, table in ledgers.items():
        cells = {
            row["claim"]: f"{row['verdict']}{_number(row['value'])}"
            for row in table.to_dict("records")
        }
        shown[name] = [cells.get(claim, "") for claim in shown["claim"]]
    return shown


def _number(value: float) -> str:
    return f" ({value:.3g})" if np.isfinite(value) else ""
