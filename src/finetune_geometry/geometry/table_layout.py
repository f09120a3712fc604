"""How the tables of the geometry are laid out, and what is done with any of them.

One value a row, columns TIDY_COLUMNS; some tables have more. `level` says what a row is about:

- "global": all modules, stacked to one vector;
- "layer": the modules of one layer, stacked (of CKA: the hidden states there);
- "module": a single module;
- "mean", "median": that average of the modules' own values.

`module` is the module's name where `level` is "module", and empty everywhere else. `layer` is -1
where no single layer is meant. A quantity of one adapter has `b` = "base": it is measured from the
base model, whose delta is 0. A direction cannot be given to a zero delta: such a row has a
`quantity` that begins with "undefined_", and enters no average; NaN never occurs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.settings.errors import UserError

TIDY_COLUMNS = ["a", "b", "level", "module", "layer", "quantity", "value"]
Row = tuple[Any, ...]


def levels(parts: Sequence[Any]) -> Iterator[tuple[tuple[str, str, int], list[Any]]]:
    """((level, module, layer), parts): all parts together, those of each layer, each one alone."""
    yield ("global", "", -1), list(parts)
    for layer in sorted({part.layer for part in parts} - {-1}):
        yield ("layer", "", layer), [part for part in parts if part.layer == layer]
    for part in parts:
        yield ("module", part.module, part.layer), [part]


def versus(table: pd.DataFrame, reference: str, among: Sequence[str]) -> pd.DataFrame:
    """The rows of pairs with `reference`, in either place, and the column `other` for the partner.

    Only partners in `among`, of which the reference itself is none.
    """
    if reference not in {*table["a"], *table["b"]}:
        raise UserError(
            f"no reference {reference!r}: adapters: it must be one of {', '.join(among)}"
        )
    pairs = table[(table["a"] == reference) | (table["b"] == reference)]
    other = pairs["b"].where(pairs["a"] == reference, pairs["a"])
    return pairs.assign(other=other)[other.isin(set(among) - {reference})]


def with_averages(table: pd.DataFrame) -> pd.DataFrame:
    """Add the "mean" and "median" over the modules of every quantity that has module rows."""
    single = table["level"] == "module"
    undefined = table["quantity"].str.startswith("undefined_")
    groups = table[single & ~undefined].groupby(_keys(table), sort=False)["value"]
    averages = [
        groups.agg(how).reset_index().assign(level=how, module="", layer=-1)
        for how in ("mean", "median")
    ]
    return pd.concat([table, *averages], ignore_index=True)[list(table.columns)]


def bootstrap_averages(
    table: pd.DataFrame, *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The "mean" and "median" rows of a table with columns `low` and `high` beside the value.

    Percentile intervals when whole modules are drawn anew with replacement, as in
    `bootstrap_global_cosine`, with the same warning.
    """
    keys = _keys(table)
    tail = [(1 - confidence) / 2, (1 + confidence) / 2]
    single = table[table["level"] == "module"]
    intervals: list[Row] = []
    for key, values in single.groupby(keys, sort=False)["value"]:
        rng = np.random.default_rng(seed)  # the same modules for every quantity
        drawn = values.to_numpy()[rng.integers(len(values), size=(draws, len(values)))]
        for how, averages in (("mean", drawn.mean(1)), ("median", np.median(drawn, 1))):
            intervals.append((*key, how, *np.quantile(averages, tail)))
    found = pd.DataFrame(intervals, columns=[*keys, "level", "low", "high"])
    return table.merge(found, on=[*keys, "level"])


def _keys(table: pd.DataFrame) -> list[str]:
    """The columns that say what a value is, apart from where in the network it stands."""
    return [c for c in table.columns if c not in ("level", "module", "layer", "value")]
