"""What becomes of adapters that are merged: what they share, what they do not, what cancels.

Merged is taken in the plainest sense, the mean of the deltas (task arithmetic with equal weights,
Ilharco et al. 2022, arXiv:2212.04089). Conflicts of sign are those that TIES (Yadav et al. 2023,
arXiv:2306.01708) resolves, counted on a random block of the entries of each module, from the
factors, so that no whole matrix is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.lowrank import Array, LowRankDelta
from finetune_geometry.geometry.cores import ModuleCores
from finetune_geometry.geometry.similarity import InnerProducts

SAMPLE = 64  # rows and columns of the block of each module
KEPT = 0.2  # share of the largest entries that TIES keeps (its "top 20 %")
ALL = "all"
MERGING_COLUMNS = [
    "a", "b", "common", "common_if_unrelated", "interference", "sign_conflict",
    "sign_conflict_of_largest", "opposed", "opposed_by_chance",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Signs:
    """Agreement of signs in a block of one module's entries, to be pooled over modules.

    Attributes:
        entries: of the whole module, d_out d_in, which the block stands for.
        conflict, both: (M, M) shares of the block's entries in which the signs of two adapters
            differ, and in which both change anything.
        conflict_of_largest, both_of_largest: the same of entries that are among the largest 20 % of
            the module's in both.
        opposed, opposed_by_chance, mass: mean |entry| summed over the adapters: that against the
            sign of the sum, the same if each sign were drawn anew, and all of it.
    """

    names: tuple[str, ...]
    entries: int
    conflict: Array
    both: Array
    conflict_of_largest: Array
    both_of_largest: Array
    opposed: float
    opposed_by_chance: float
    mass: float


def block_of(delta: LowRankDelta, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """The entries of a delta in some rows and columns, (len(rows), len(columns))."""
    if delta.full is not None:
        return np.asarray(delta.full[np.ix_(rows, columns)])
    return np.asarray(delta.scale * (delta.B[rows] @ delta.A[:, columns]))


def sign_rows(cores: ModuleCores, *, sample: int = SAMPLE, seed: int = 0) -> Signs:
    """Conflicts of sign of all pairs in a block of `sample` random rows and columns of one module.

    A smaller module counts whole. The rows and columns hang on `seed` and the module's name alone,
    so that all adapters are looked at in the same entries. TIES trims each adapter as a whole; here
    each module is trimmed by itself.
    """
    d_out, d_in = cores.shape
    rng = np.random.default_rng([seed, crc32(cores.module.encode())])
    rows = np.sort(rng.permutation(d_out)[:sample])
    columns = np.sort(rng.permutation(d_in)[:sample])
    entries = np.stack([block_of(delta, rows, columns).ravel() for delta in cores.deltas])
    signs, sizes = np.sign(entries), np.abs(entries)
    threshold = np.quantile(sizes, 1 - KEPT, axis=1, keepdims=True)
    both, conflict = _conflicts(signs)
    both_of_largest, conflict_of_largest = _conflicts(signs * (sizes >= threshold))
    drawn = sizes * rng.choice([-1.0, 1.0], size=sizes.shape)
    return Signs(
        cores.names,
        d_out * d_in,
        conflict,
        both,
        conflict_of_largest,
        both_of_largest,
        _opposed(entries),
        _opposed(drawn),
        float(sizes.mean(axis=1).sum()),
    )


def _conflicts(signs: Array) -> tuple[Array, Array]:
    """(M, M) shares of the entries in which both have a sign, and in which the two differ."""
    known = np.abs(signs)
    both = known @ known.T / signs.shape[1]
    return both, np.maximum((both - signs @ signs.T / signs.shape[1]) / 2, 0.0)


def _opposed(entries: Array) -> float:
    """Mean over the entries of the sizes whose sign is not that of the sum over adapters."""
    # Those for and those against add up to the sizes, and their difference is |sum|.
    sizes, total = np.abs(entries).sum(axis=0), np.abs(entries.sum(axis=0))
    return float(((sizes - total) / 2).mean())


def common_share(inner: Array) -> float:
    """||mean||^2 over the mean of ||.||^2 of M deltas, from their inner products (M, M).

    The part of the energy that the mean keeps, common to all; the rest is private:
    mean ||x_i||^2 = ||mean||^2 + mean ||x_i - mean||^2. 1 for equal deltas, 1 / M for deltas at
    right angles, 0 for deltas that cancel; 0 if all are zero.
    """
    energy = float(np.trace(inner)) / len(inner)
    return max(float(inner.mean()) / energy, 0.0) if energy > 0 else 0.0


def tabulate_merging(parts: Sequence[InnerProducts], signs: Sequence[Signs]) -> pd.DataFrame:
    """One row for all adapters together (`a` = `b` = "all"), then one a pair; the base is left out.

    Columns: `common`, the share of the mean energy that the mean of the deltas keeps, see
    `common_share`, and `common_if_unrelated` = 1 / M, what it would be at right angles;
    `interference` = 1 - common / (1 / M), the share that the sum loses of the energy it would have
    at right angles: 0 there, positive where the deltas cancel, negative down to 1 - M where they
    add up; `sign_conflict`, the share of entries whose signs differ, and that among the largest
    fifth of both (by chance 0.5 each; missing for all together); `opposed`, the share of the
    absolute change that goes against the sign of the sum, which TIES would drop, and
    `opposed_by_chance`, if every sign were drawn anew (both missing for a pair).
    """
    chosen = [i for i, name in enumerate(parts[0].names) if name != BASE]
    inner = np.sum([part.inner for part in parts], axis=0)[np.ix_(chosen, chosen)]
    names = [parts[0].names[i] for i in chosen]
    weights = np.array([part.entries for part in signs], dtype=float)

    def pooled(what: str) -> Array:
        total = np.tensordot(weights, np.stack([getattr(part, what) for part in signs]), 1)
        return np.asarray(total)[np.ix_(chosen, chosen)]

    shares = []
    for conflict, both in (
        ("conflict", "both"),
        ("conflict_of_largest", "both_of_largest"),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            shares.append(pooled(conflict) / pooled(both))
    mass = sum(w * part.mass for w, part in zip(weights, signs, strict=True))
    against = [
        sum(w * getattr(part, what) for w, part in zip(weights, signs, strict=True)) / mass
        if mass > 0
        else np.nan
        for what in ("opposed", "opposed_by_chance")
    ]
    rows = [(ALL, ALL, *_energies(inner), np.nan, np.nan, *against)]
    for i, j in combinations(range(len(names)), 2):
        energies = _energies(inner[np.ix_([i, j], [i, j])])
        conflicts = (share[i, j] for share in shares)
        rows.append((names[i], names[j], *energies, *conflicts, np.nan, np.nan))
    return pd.DataFrame(rows, columns=MERGING_COLUMNS)


def _energies(inner: Array) -> tuple[float, float, float]:
    common = common_share(inner)
    return common, 1 / len(inner), 1 - common * len(inner) if np.trace(inner) > 0 else 0.0
