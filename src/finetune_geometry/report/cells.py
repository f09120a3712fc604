"""The ledger's numbers over repetitions: other orders of the rows, other A, other bases.

A cell (`settings/variations.py`) is a set of the six methods trained alike. Each is measured and
judged as if it were a run of its own, as far as weights and answers go: lines between models and
hidden states are measured for the run's own six only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.evaluation.claims import Ledger, look_up
from finetune_geometry.evaluation.judging import judge_claims
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.geometry.collection_tables import collection_tables
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.variation import Cell

HEADLINE_COLUMNS = ["cell", "kind", "quantity", "a", "b", "value"]
Tables = Mapping[str, pd.DataFrame]


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


def judged_cells(
    ledger: Ledger, tables: Mapping[str, Tables], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """The ledger of every cell by the present rules; columns cell, then those of `judge_claims`."""
    found = []
    for name, of_cell in tables.items():
        numbers = {
            claim: {k: look_up(m, of_cell, settings) for k, m in made.measures.items()}
            for claim, made in ledger.claims.items()
        }
        table, _, _ = judge_claims(ledger.claims, numbers)
        found.append(table.assign(cell=name))
    table = pd.concat(found, ignore_index=True)
    return table[["cell", *(column for column in table.columns if column != "cell")]]


def components(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """What makes a headline number vary, one row each; all spreads are standard deviations.

    table: rows of `headlines` of all cells.

    Columns: quantity, a, b; `mean`, `low`, `high` over the orders (Student's t, the run among them,
    one A and one base); `order`: over these; `draw`: over pairs of an A and an order; `initial`, of
    the A alone: the root of what `draw`'s variance is above that of `order`, 0 where it is below;
    `base`: over the bases, the run's among them, with one A and one order. NaN where there are
    fewer than two cells.
    """
    rows = []
    for key, part in table.groupby(["quantity", "a", "b"], sort=False):
        value = {kind: found["value"].to_numpy() for kind, found in part.groupby("kind")}
        own = value.get("run", np.empty(0))
        orders = np.concatenate([own, value.get("order", np.empty(0))])
        bases = np.concatenate([own, value.get("student", np.empty(0))])
        draws = value.get("draw", np.empty(0))
        order, draw, base = (_deviation(found) for found in (orders, draws, bases))
        half = np.nan
        if len(orders) > 1:
            quantile = student_t.ppf((1 + confidence) / 2, len(orders) - 1)
            half = quantile * order / np.sqrt(len(orders))
        mean = float(orders.mean())
        initial = float(np.sqrt(max(draw**2 - order**2, 0.0))) if np.isfinite(draw) else np.nan
        rows.append((*key, mean, mean - half, mean + half, order, draw, initial, base))
    columns = ["quantity", "a", "b", "mean", "low", "high", "order", "draw", "initial", "base"]
    return pd.DataFrame(rows, columns=columns)


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def margins(judged: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """How often a claim gets the run's own verdict, and how far its number is from its line.

    judged: of `judged_cells`. kinds: cell -> its kind. Columns: claim, title, verdict (of the
    run), same and cells (over all cells), value and line_value (means over orders, of the cells in
    which the claim turned on the same measure and line as in the run), spread (standard deviation
    of their difference) and margin, the mean difference in units of it.
    """
    rows = []
    for claim, part in judged.groupby("claim", sort=False):
        own = part[part["cell"] == "run"].iloc[0]
        orders = part[part["cell"].map(kinds).isin(["run", "order"])]
        orders = orders[(orders["measure"] == own["measure"]) & (orders["line"] == own["line"])]
        apart = (orders["value"] - orders["line_value"]).to_numpy(dtype=float)
        apart = apart[np.isfinite(apart)]
        spread = _deviation(apart)
        rows.append(
            {
                "claim": claim,
                "title": own["title"],
                "verdict": own["verdict"],
                "same": int((part["verdict"] == own["verdict"]).sum()),
                "cells": len(part),
                "value": float(orders["value"].mean()),
                "line_value": float(orders["line_value"].mean()),
                "spread": spread,
                "margin": float(apart.mean() / spread) if spread > 0 else float("nan"),
            }
        )
    return pd.DataFrame(rows)
