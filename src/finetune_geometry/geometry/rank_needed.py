"""How much rank a change needed: the singular values that hold its energy, and the rank given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.geometry.cores import ModuleCores
from finetune_geometry.geometry.subspaces import entropy_rank, stable_rank

SHARES = {"rank_90": 0.90, "rank_99": 0.99}
RANK_COLUMNS = [
    "adapter", "module", "layer", "kind", "rank_given", "stable_rank", "entropy_rank", *SHARES,
]  # fmt: skip


def energy_rank(values: Array, share: float, tail: float = 0.0) -> float:
    """The least number of singular values that hold `share` of the energy; 0 for the zero delta.

    Args:
        values: singular values, falling.
        share: of the sum of their squares.
        tail: energy beyond `values` (full fine-tuning, of which only the leading ones are known).

    By Eckart and Young (1936) no change of lower rank comes as near to this one. NaN if `values`
    hold less than the share.
    """
    energy = np.cumsum(np.asarray(values, dtype=float) ** 2)
    whole = (float(energy[-1]) if energy.size else 0.0) + tail
    if whole == 0:
        return 0.0
    # A sum that misses the share by rounding alone has it.
    enough = np.flatnonzero(energy >= share * whole * (1 - 1e-12))
    return float(enough[0] + 1) if enough.size else float("nan")


def rank_rows(cores: ModuleCores) -> list[tuple[object, ...]]:
    """Rows of `tabulate_ranks` for one module, without the rank given."""
    rows: list[tuple[object, ...]] = []
    for name, values, tail in zip(cores.names, cores.singular_values, cores.tails, strict=True):
        if name != BASE:
            needed = (energy_rank(values, share, float(tail) ** 2) for share in SHARES.values())
            effective = stable_rank(values), entropy_rank(values)
            rows.append((name, cores.module, cores.layer, cores.kind, *effective, *needed))
    return rows


def tabulate_ranks(
    parts: Sequence[list[tuple[object, ...]]], given: Callable[[str, str], int]
) -> pd.DataFrame:
    """One row a module of each adapter.

    Args:
        parts: the rows of each module.
        given: the rank that an adapter (first) was given in a module (second).

    Columns: `adapter`, `module`, `layer`, `kind`; `rank_given`; `stable_rank` and `entropy_rank`,
    see `subspaces`; `rank_90` and `rank_99`, see `energy_rank`.
    """
    columns = [column for column in RANK_COLUMNS if column != "rank_given"]
    table = pd.DataFrame([row for part in parts for row in part], columns=columns)
    ranks = [given(a, m) for a, m in zip(table["adapter"], table["module"], strict=True)]
    return table.assign(rank_given=ranks)[RANK_COLUMNS]
