"""One comparison: its tables, and the few ways in which sentences and figures look into them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

# What tables call the orthogonal fraction, of the reference's direction and of its subspace.
TO_DIRECTION = "orthogonal_to_direction"
TO_SUBSPACE = "orthogonal_to_subspace"
POOLED = ("global", "mean", "median")
# Tables of pairs and modules, which `Comparison.value` looks into.
OF_PAIRS = ("cosine", "principal_angles", "orthogonal_fraction", "spectra", "pairs")


def at_level(table: pd.DataFrame, level: str) -> pd.DataFrame:
    """The rows of one level: "global", "layer", "mean" or "median"."""
    return table[table["level"] == level]


def of_modules(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of single modules."""
    return table[table["level"] == "module"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tables of one comparison, and what is needed to read them.

    Attributes:
        names: the adapters, in the order given; the base is not among them.
        base_models: adapter -> the base model that it names, "" if it names none.
        tables: "cosine", "principal_angles", "orthogonal_fraction", "spectra" (laid out as
            `table_layout` says), "pairs" (see `pairs.tabulate_pairs`), "energy" (`energy`), "rank"
            (`rank_needed`), "merging" (`merging`); "path" (`series_path`) of a series; "heads"
            (`saved_heads`) where something is saved whole; and "chance": that of angles, with the
            column `shared_a`: was A drawn once for both adapters of the random pairs, or
            independently?
        shapes: (d_out, d_in) of each module compared.
        k: dimension of the subspaces.
        ranks: lowest and highest rank of a module that was changed.
        chance_orthogonal: norm fraction of a random delta orthogonal to a k-dimensional left
            subspace.
        extras: adapter -> its tensors that are no LoRA factors and were not compared.
        left_out: adapter -> number of its modules that others lack and that were not compared.
        plane: of a series its points and the share of energy that their plane holds, see
            `similarity.plane`; else None.
    """

    names: tuple[str, ...]
    reference: str
    base_models: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    shapes: Mapping[str, tuple[int, int]]
    k: int
    ranks: tuple[int, int]
    chance_orthogonal: float
    extras: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, int]
    plane: tuple[pd.DataFrame, float] | None = None

    @cached_property
    def _pooled(self) -> dict[tuple[Any, ...], float]:
        """The rows of all modules together, by what `value` is asked for."""
        found = {}
        for name in OF_PAIRS:
            for level in POOLED:
                rows = at_level(self.tables[name], level)
                rows = rows.assign(**{c: d for c, d in (("side", ""), ("k", 0)) if c not in rows})
                columns = (rows[c] for c in ("a", "b", "quantity", "side", "k", "value"))
                for a, b, quantity, side, k, value in zip(*columns, strict=True):
                    found[name, frozenset({a, b}), quantity, level, side, k] = float(value)
        return found

    def value(
        self,
        table: str,
        quantity: str,
        a: str,
        b: str,
        *,
        level: str = "global",
        side: str = "",
        k: int = 0,
    ) -> float | None:
        """One number of a pair, in either order, over all modules; None if undefined."""
        return self._pooled.get((table, frozenset({a, b}), quantity, level, side, k))

    def angle_modules(self, a: str, b: str) -> int:
        """In how many modules the pair has angles at this comparison's k."""
        return self._angle_modules.get(frozenset({a, b}), 0)

    @cached_property
    def _angle_modules(self) -> dict[frozenset[str], int]:
        rows = self.tables["principal_angles"]
        rows = rows[
            (rows["quantity"] == "angle_smallest")
            & (rows["side"] == "left")
            & (rows["k"] == self.k)
        ]
        rows = of_modules(rows)
        pairs = zip(rows["a"], rows["b"], strict=True)
        return dict(Counter(frozenset(pair) for pair in pairs))

    def chance(self, quantity: str, level: str, *, side: str, shared_a: bool = True) -> Any:
        """The row `low`, `value`, `high` of an angle's chance level at this k, or None."""
        rows = self.tables["chance"]
        rows = rows[
            (rows["quantity"] == quantity)
            & (rows["level"] == level)
            & (rows["side"] == side)
            & (rows["k"] == self.k)
            & (rows["shared_a"] == shared_a)
        ]
        return rows.iloc[0] if len(rows) else None
