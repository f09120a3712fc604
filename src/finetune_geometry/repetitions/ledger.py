"""The numbers of the ledger over one repetition, as far as weights and answers give them.

A cell is measured and judged as if it were a run of its own. Lines between models and hidden states
are measured for the run's own six only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.evaluation.claims import Ledger, load_ledger, look_up
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.geometry.collection_tables import collection_tables
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.variation import Cell

HEADLINE_COLUMNS = ["cell", "kind", "quantity", "a", "b", "value"]
MEASURE_COLUMNS = ["cell", "claim", "measure", "value", "low", "high"]
Tables = Mapping[str, pd.DataFrame]


def measure_spread(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """What the chapter on the spread needs of one cell: `headlines`, and `measures_of`."""
    tables = cell_tables(run, cell)
    return {
        "headlines": headlines(cell, tables),
        "measures": measures_of(cell, tables, load_ledger(), run.profile.flat()),
    }


def cell_tables(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """The tables of the ledger that weights and answers give, for one cell.

    Answers are those that `evaluation/predictions/` holds of its six adapters.
    """
    settings, evaluation = run.profile.geometry, run.profile.evaluation
    adapters = [load_adapter(run.adapter_dir(name), role) for role, name in cell.adapters.items()]
    found = collection_tables(
        adapters,
        list(cell.adapters),
        k=settings.k,
        confidence=evaluation.confidence,
        seed=settings.seed,
    )
    answers = pd.concat(
        [
            run.read_table(f"evaluation/predictions/{cell.adapters[method]}.parquet").assign(
                model=method
            )
            for method in METHODS
        ]
    )
    return {
        **found.ledger,
        "accuracy": accuracy_table(answers, evaluation.confidence),
        "mcnemar": mcnemar_table(answers, evaluation.equivalence_margin, evaluation.confidence),
    }


def headlines(cell: Cell, tables: Tables) -> pd.DataFrame:
    """The numbers whose spread is asked for; columns HEADLINE_COLUMNS.

    `quantity`: "cosine" of two adapters (all modules), "angle" (degrees: the smallest of the top-k
    left subspaces, median over modules), "norm" and "rank" (entropy rank, mean over modules) of one
    delta, "accuracy" of one model, and the "spread" of the five accuracies without DPO.
    """
    rows: list[tuple[Any, ...]] = []
    cosine = tables["cosine"].query("level == 'global'")
    for row in cosine.query("quantity == 'cosine'").to_dict("records"):
        rows.append(("cosine", row["a"], row["b"], row["value"]))
    for row in cosine.query("quantity == 'norm'").to_dict("records"):
        rows.append(("norm", row["a"], "", row["value"]))
    angles = tables["angles"]
    ranks = angles.query("quantity == 'entropy_rank' and level == 'mean'")
    for row in ranks.to_dict("records"):
        rows.append(("rank", row["a"], "", row["value"]))
    left = angles.query("quantity == 'angle_smallest' and level == 'median' and side == 'left'")
    for row in left[left["k"] == left["k"].max()].to_dict("records"):
        rows.append(("angle", row["a"], row["b"], row["value"]))
    accuracy = tables["accuracy"].set_index("model")["accuracy"]
    rows += [("accuracy", method, "", float(accuracy[method])) for method in METHODS]
    five = accuracy[[method for method in METHODS if method != "dpo"]]
    rows.append(("spread", "five", "", float(five.max() - five.min())))
    return pd.DataFrame(
        [(cell.name, cell.kind, *row) for row in rows], columns=HEADLINE_COLUMNS
    ).dropna(subset=["value"])


def measures_of(
    cell: Cell, tables: Tables, ledger: Ledger, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Every number of the ledger that the cell's tables give; columns MEASURE_COLUMNS.

    settings: the profile's values by dotted name. A number without an interval has NaN ends.
    """
    rows = []
    for claim, made in ledger.claims.items():
        for name, measure in made.measures.items():
            if (number := look_up(measure, tables, settings)) is not None:
                rows.append((cell.name, claim, name, number.value, number.low, number.high))
    return pd.DataFrame(rows, columns=MEASURE_COLUMNS)
