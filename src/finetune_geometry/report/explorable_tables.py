"""Tables of a run for the interactive figures: what several of them need."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from finetune_geometry.figures.palette import in_order, label, look, marker
from finetune_geometry.report.run_files import MARK
from finetune_geometry.runs.files import read_csv

Found = tuple[dict[str, Any], Iterable[str], str]
"""The data of a figure, the adapters in it, its picture."""


class Missing(Exception):
    """A table, or adapters, that the run does not have: its text."""


def table(run: Path, name: str) -> pd.DataFrame:
    """A table of the run. Raises Missing."""
    if not (run / name).is_file():
        raise Missing(name)
    return read_csv(run / name)


def numbers_of(run: Path) -> dict[str, Any]:
    """The run's numbers.json; empty where it has none yet."""
    path = run / "numbers.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def is_from_reference(run: Path, stem: str) -> bool:
    """Whether the run shows this chapter from the reference run."""
    path = run / "numbers" / f"{stem}.json"
    return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get(MARK))


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How each adapter is drawn, as in the book's own figures: label, colour, marker, hollow."""
    shown = in_order(names)
    return {
        name: {
            "label": label(name),
            "colour": (style := look(name, shown))["color"],
            "marker": marker(name, shown),
            "hollow": style["markerfacecolor"] == "white",
        }
        for name in shown
    }


def plain(values: Iterable[Any]) -> list[float | None]:
    """Numbers that JSON can hold: a missing one is None."""
    return [None if pd.isna(value) else float(value) for value in values]


def chance_of(run: Path, level: str, quantity: str, **where: Any) -> list[float] | None:
    """[low, middle, high] of a level of chance; None where the run has no table of it."""
    if not (run / "geometry" / "chance_angles.csv").is_file():
        return None
    rows = table(run, "geometry/chance_angles.csv")
    rows = rows[(rows["level"] == level) & (rows["quantity"] == quantity)]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return (
        [float(rows[column].iloc[0]) for column in ("low", "value", "high")] if len(rows) else None
    )
