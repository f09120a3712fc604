"""The tables of the ledger for a collection of adapters, in one pass over the modules.

A run of this book has a notebook for each table; a collection has weights and nothing else. So
everything that the ledger asks of weights is measured at once, with the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE, Adapter, zero_adapter
from finetune_geometry.geometry.cores import ModuleCores, map_modules
from finetune_geometry.geometry.intervals import add_intervals
from finetune_geometry.geometry.pairs import (
    CHANCE_OF,
    PairMoments,
    pair_moments,
    start_of,
    tabulate_pairs,
)
from finetune_geometry.geometry.similarity import (
    InnerProducts,
    OrthogonalParts,
    bootstrap_global_cosine,
    inner_products,
    orthogonal_parts,
    tabulate_cosines,
    tabulate_orthogonal_fractions,
)
from finetune_geometry.geometry.subspaces import (
    ModuleAngles,
    entropy_rank,
    module_angles,
    tabulate_angles,
)
from finetune_geometry.geometry.table_layout import TIDY_COLUMNS, Row, with_averages

REFERENCE = "sft"
PAIR_COLUMNS = ["a", "b", "cosine", "low", "high", "cosine_of_a", "start", "chance"]


@dataclass(frozen=True)
class _Module:
    """What one module contributes."""

    every: PairMoments  # of all adapters
    ranks: list[Row]
    parts: InnerProducts | None  # of those with a part in the ledger
    angles: ModuleAngles | None
    rest: OrthogonalParts | None  # off the reference's direction


@dataclass(frozen=True)
class CollectionTables:
    """What was measured.

    Attributes:
        ledger: tables by the names that the ledger has for them; empty without a part.
        pairs: a row for every two adapters: columns `a`, `b`, `cosine` (all modules stacked),
            `low`, `high`, `cosine_of_a` (mean over modules), `start` (what that says, see
            `pairs.start_of`), and `chance`, the |cosine| that 95 % of unrelated adapters with such
            a start stay below.
        adapters: columns `name`, `norm`, `entropy_rank` (mean over modules).
    """

    ledger: dict[str, pd.DataFrame]
    pairs: pd.DataFrame
    adapters: pd.DataFrame


def collection_tables(
    adapters: Sequence[Adapter],
    parts: Sequence[str],
    *,
    k: int,
    confidence: float,
    seed: int,
) -> CollectionTables:
    """Measure a collection: all of it by pairs, and those with a part as the ledger asks.

    Args:
        adapters: of one base model, all of the same modules; distinct names.
        parts: names of those that play a part in the ledger.
        k: dimension of the subspaces whose angles are taken.
        confidence, seed: of the intervals over modules.
    """
    base = zero_adapter(adapters[0])
    wanted = [adapter.name for adapter in adapters if adapter.name in parts]
    measured = [*adapters, base]

    def measure(cores: ModuleCores) -> _Module:
        every = pair_moments(cores)
        ranks: list[Row] = [
            (name, BASE, "module", cores.module, cores.layer, "entropy_rank", entropy_rank(s))
            for name, s in zip(cores.names, cores.singular_values, strict=True)
            if name != BASE
        ]
        if not wanted:
            return _Module(every, ranks, None, None, None)
        few = cores.among([BASE, *wanted])
        rest = orthogonal_parts(few, REFERENCE, ()) if REFERENCE in wanted else None
        return _Module(every, ranks, inner_products(few), module_angles(few, [1, k]), rest)

    found = map_modules(measure, measured, any_base=True)
    ranks = with_averages(
        pd.DataFrame([row for part in found for row in part.ranks], columns=TIDY_COLUMNS)
    )
    every = [part.every for part in found]
    means = ranks[ranks["level"] == "mean"].set_index("a")["value"]
    norms = _norms(every)
    table = pd.DataFrame({"name": [adapter.name for adapter in adapters]})
    table["norm"] = [norms[name] for name in table["name"]]
    table["entropy_rank"] = [float(means[name]) for name in table["name"]]
    return CollectionTables(
        _ledger(found, ranks, wanted, confidence, seed), _pairs(every, confidence, seed), table
    )


def _norms(every: Sequence[PairMoments]) -> dict[str, float]:
    total = np.sum([part.inner.diagonal() for part in every], axis=0)
    return {name: float(square) ** 0.5 for name, square in zip(every[0].names, total, strict=True)}


def _ledger(
    found: Sequence[_Module], ranks: pd.DataFrame, wanted: Sequence[str], confidence: float,
    seed: int,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    inner = [part.parts for part in found if part.parts is not None]
    if not inner:
        return {}
    of_parts = ranks[ranks["a"].isin(wanted)].assign(side="both", k=0)
    angles = tabulate_angles([part.angles for part in found if part.angles is not None])
    tables = {
        "cosine": tabulate_cosines(inner),
        "angles": pd.concat([angles, of_parts], ignore_index=True),
        "fraction": pd.DataFrame(columns=[*TIDY_COLUMNS, "side", "k"]),
    }
    rest = [part.rest for part in found if part.rest is not None]
    if rest:
        tables["fraction"] = tabulate_orthogonal_fractions(rest, REFERENCE)
        tables = add_intervals(
            tables, inner, rest, reference=REFERENCE, confidence=confidence, seed=seed
        )
    # What a run's chapters on controls would have written.
    everywhere = tables["cosine"][tables["cosine"]["level"] == "global"]
    leading = tables["angles"]["quantity"] == "leading_vector_cosine"
    return {
        **tables,
        "seed_cosine": everywhere[everywhere["quantity"] == "cosine"],
        "seed_angles": tables["angles"][leading & (tables["angles"]["level"] == "mean")],
        "rate_cosine": everywhere,
    }


def _pairs(every: Sequence[PairMoments], confidence: float, seed: int) -> pd.DataFrame:
    """The columns of `CollectionTables.pairs`."""
    moments = tabulate_pairs(every)
    moments = moments[moments["level"].isin(["global", "mean"])]
    known = moments.set_index(["a", "b", "quantity"])["value"].to_dict()
    inner = [InnerProducts(p.module, p.layer, p.names, p.inner, p.inner) for p in every]
    intervals = bootstrap_global_cosine(inner, confidence=confidence, seed=seed)
    ends = intervals.set_index(["a", "b"])[["low", "high"]].to_dict("index")
    total = np.sum([part.inner for part in every], axis=0)
    rows = []
    for i, j in combinations(range(len(every[0].names)), 2):
        pair = every[0].names[i], every[0].names[j]
        if pair not in ends:
            continue  # one of them is zero
        cosine = float(total[i, j] / (total[i, i] * total[j, j]) ** 0.5)
        of_a = known.get((*pair, "cosine_of_a"))
        start = start_of(of_a)
        chance = max(known[*pair, quantity] for quantity in CHANCE_OF[start])
        rows.append((*pair, cosine, ends[pair]["low"], ends[pair]["high"], of_a, start, chance))
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)
