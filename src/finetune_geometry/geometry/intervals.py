"""Intervals for the numbers of the ledger that their tables hold without one.

All are percentile bootstraps over whole modules. They show how much a number hangs on a few
modules; modules of one network are no independent sample, and no such interval covers another
training run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import Adapter
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import (
    InnerProducts,
    OrthogonalParts,
    bootstrap_global_cosine,
    inner_products,
    orthogonal_parts,
)
from finetune_geometry.geometry.table_layout import bootstrap_averages


def bootstrap_orthogonal_fractions(
    parts: Sequence[OrthogonalParts], *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Intervals of the norm fraction orthogonal to the reference's direction, of all modules and of
    each layer.

    Whole modules are drawn anew with replacement, those of a layer among themselves. Columns `a`,
    `level` ("global" or "layer"), `layer`, `low`, `high`; zero deltas are left out.
    """
    rng = np.random.default_rng(seed)
    energy = np.stack([part.energy for part in parts])  # (modules, adapters), as the next two
    along = np.stack([part.along for part in parts])
    rest = np.stack([part.to_direction for part in parts])
    reference = np.array([part.reference_energy for part in parts])[:, None]
    layers = np.array([part.layer for part in parts])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows: list[tuple[Any, ...]] = []
    for layer in (-1, *sorted(set(layers.tolist()) - {-1})):
        members = np.flatnonzero(layers == layer) if layer >= 0 else np.arange(len(parts))
        times = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), draws)
        total, held = times @ energy[members], times @ reference[members]
        with np.errstate(divide="ignore", invalid="ignore"):
            # To the pooled direction, as in `similarity.tabulate_orthogonal_fractions`.
            pooled = times @ (along * reference)[members] / held
            apart = (along[members][None] - pooled[:, None]) ** 2 * reference[members]
            share = (times @ rest[members] + np.einsum("dm,dma->da", times, apart)) / total
        low, high = np.quantile(np.sqrt(np.clip(share, 0.0, 1.0)), tails, axis=0)
        where = ("layer", layer) if layer >= 0 else ("global", -1)
        rows += [
            (name, *where, low[i], high[i])
            for i, name in enumerate(parts[0].names)
            if np.isfinite(low[i])
        ]
    return pd.DataFrame(rows, columns=["a", "level", "layer", "low", "high"])


def with_intervals(
    tables: Mapping[str, pd.DataFrame],
    adapters: Sequence[Adapter],
    *,
    reference: str = "sft",
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """The ledger's tables with `low` and `high` for global cosines, averaged angles and ranks, and
    norm fractions orthogonal to the `reference`'s direction; the others as they are.

    adapters: those that the tables are of, the base among them.
    """
    parts = map_modules(
        lambda cores: (inner_products(cores), orthogonal_parts(cores, reference, ())), adapters
    )
    inner, rest = zip(*parts, strict=True)
    return add_intervals(tables, inner, rest, reference=reference, confidence=confidence, seed=seed)


def add_intervals(
    tables: Mapping[str, pd.DataFrame],
    inner: Sequence[InnerProducts],
    rest: Sequence[OrthogonalParts],
    *,
    reference: str,
    confidence: float,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """`with_intervals` from what each module contributes."""
    sampling: dict[str, Any] = {"confidence": confidence, "seed": seed}
    cosines = bootstrap_global_cosine(inner, **sampling)
    cosines = cosines.assign(level="global", quantity="cosine")
    averages = bootstrap_averages(tables["angles"], **sampling)
    fractions = bootstrap_orthogonal_fractions(rest, **sampling)
    fractions = fractions.assign(b=reference, quantity="orthogonal_to_direction_norm")
    return {
        **tables,
        "cosine": tables["cosine"].merge(
            cosines, on=["a", "b", "level", "quantity"], how="left", validate="many_to_one"
        ),
        "angles": tables["angles"].merge(averages, how="left", validate="many_to_one"),
        "fraction": tables["fraction"].merge(
            fractions, on=["a", "b", "level", "layer", "quantity"], how="left"
        ),
    }
