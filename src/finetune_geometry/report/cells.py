"""Repetitions held side by side: what makes a number vary, and which verdicts hang on the draw.

The tables come from `repetitions/ledger.py`, one cell at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from finetune_geometry.evaluation.claims import Ledger
from finetune_geometry.evaluation.judging import Number, judge_claims


def judged_cells(ledger: Ledger, measures: pd.DataFrame) -> pd.DataFrame:
    """The ledger of every cell by the present rules; columns cell, then those of `judge_claims`.

    measures: rows of `measures_of`, of all cells. What is not among them was not measured.
    """
    found = []
    for name, part in measures.groupby("cell", sort=False):
        known = {
            (row["claim"], row["measure"]): Number(row["value"], row["low"], row["high"])
            for row in part.to_dict("records")
        }
        numbers = {
            claim: {key: known.get((claim, key)) for key in made.measures}
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
