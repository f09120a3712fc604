"""Which point of a ray is taken: by right answers to validation problems, or by the loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE

FLOOR = 0.05  # a base with a smaller share of right answers leaves a choice to the loss


def best_factors(table: pd.DataFrame) -> pd.Series:
    """Of each adapter the factor with most right answers, the base's 0 included.

    table: of `geometry.rays.along_rays`. Of equally good ones the nearest to 1. Where no problem
    was answered the loss decides.
    """
    base = table[table["model"] == BASE].iloc[0]
    by_answers = table.loc[table["model"] != BASE, "problems"].max() > 0
    chosen = {}
    for name, rows in table[table["model"] != BASE].groupby("model", sort=False):
        rows = pd.concat([rows, base.to_frame().T])
        cost = -rows["right"] if by_answers else rows["loss"]
        near = (rows["factor"] - 1).abs()
        order = np.lexsort((near.astype(float), cost.astype(float)))
        chosen[name] = float(rows["factor"].iloc[order[0]])
    return pd.Series(chosen, name="factor")
