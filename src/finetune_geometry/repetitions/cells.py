"""The tables of repetitions: `cells/<cell>/<table>.csv` in a run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.variation import Cell


def parts_of(chapter: str, cell: Cell) -> str:
    """The folder of parts (`runs/parts.py`) of one measurement, kept until its card is written."""
    return f"cells/{cell.name}/{chapter}"


def write_cell(run: Run, cell: Cell, tables: Mapping[str, pd.DataFrame]) -> None:
    """Keep what was measured of a cell; its name becomes the first column of every table."""
    for name, table in tables.items():
        rows = table.drop(columns="cell", errors="ignore")
        rows.insert(0, "cell", cell.name)
        run.write_table(f"cells/{cell.name}/{name}.csv", rows)


def read_cells(run: Run, cells: Iterable[Cell], name: str) -> pd.DataFrame:
    """One table of several cells, one below the other.

    Raises UserError, naming what to type, where a cell was not measured.
    """
    found = []
    for cell in cells:
        path = f"cells/{cell.name}/{name}.csv"
        if not (run.dir / path).is_file():
            raise UserError(
                f"missing {path}: {run.dir}: run `make controls ONLY={cell.name}` for this run"
            )
        found.append(run.read_table(path))
    return pd.concat(found, ignore_index=True)


def made_where(run: Run, cells: Iterable[Cell], chapter: str) -> pd.DataFrame:
    """Where each cell was measured: columns cell, kind, made in, processor, minutes.

    "made in" is this run or the reference run, whose tables a run shows of cells that it was not
    asked to make.
    """
    rows = []
    for cell in cells:
        card = run.read_json(f"cells/{cell.name}/{chapter}.json")
        where = "the reference run" if card.get("from_reference") else "this run"
        rows.append((cell.name, cell.kind, where, card["processor"], card["seconds"] / 60))
    return pd.DataFrame(rows, columns=["cell", "kind", "made in", "processor", "minutes"])
