"""Chance for the cosine of one given pair: from its own energies, and from whether A is shared.

Which cosine unrelated adapters have depends on where they started. LoRA draws A at random and
sets B to 0; two adapters with one A write into the same few input directions, so that their
cosines scatter far more than those of adapters with an A each. Whether A is shared can be seen in
the factors as saved, since training moves A little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.lowrank import Array, LowRankDelta
from finetune_geometry.geometry.cores import ModuleCores
from finetune_geometry.geometry.similarity import cosine
from finetune_geometry.geometry.table_layout import TIDY_COLUMNS, Row, levels

# Mean cosine of the saved A of two adapters. Of 133 public adapters, every pair with one initial A
# had at least 0.82, every other pair at most 0.015. A high learning rate turns A further: pairs of
# this book's default run, which are known to share their start, have 0.6. Between: unclear.
SHARED_A = 0.5
UNRELATED_A = 0.1
# The chance levels that may hold for a pair, by what `start_of` says.
CHANCE_OF = {
    "shared": ["chance_shared_a"],
    "independent": ["chance_independent_a"],
    "unclear": ["chance_shared_a", "chance_independent_a"],
    "no A": ["chance_shared_a", "chance_independent_a"],
}
ALPHA = 0.05  # false alarms among unrelated pairs, and families of them
_LEAST = 1e-9  # of the law's n - 1: with n = 1 every cosine is 1 or -1 and proves nothing


@dataclass(frozen=True, eq=False)
class PairMoments:
    """What one module contributes to the chance level of every pair's cosine."""

    module: str
    layer: int
    names: tuple[str, ...]
    inner: Array  # (M, M): <dW_i, dW_j>, the energies on the diagonal
    left: Array  # (M, M): variance of the module's cosine if the left side is turned at random
    both: float  # the same if both sides are
    cosine_of_a: Array  # (M, M): Frobenius cosine of the A as saved; NaN where there is none


def pair_moments(cores: ModuleCores) -> PairMoments:
    """Inner products of one module, and the variances of its cosines if nothing is shared.

    Let Q be a random rotation of the d_out output directions (Haar measure) and M = dW_j dW_i^T.
    Then <Q dW_i, dW_j> = <Q, M>. By the symmetry of Q its entries have mean 0, variance 1 / d_out
    and no covariance, so that the cosine of Q dW_i and dW_j has the variance

        E <Q, M>^2 / (||dW_i||^2 ||dW_j||^2) = ||dW_i dW_j^T||^2 / (d_out ||dW_i||^2 ||dW_j||^2).

    With the input directions turned as well, dW_i becomes Q dW_i P, all entries of which have
    variance ||dW_i||^2 / (d_out d_in) and no covariance, and the cosine's variance is
    1 / (d_out d_in). The first fits adapters whose input directions are given, such as those of
    one shared A; the second adapters with an A each. Of a full fine-tuning the frame holds the
    leading part only; the rest counts as if its input directions were random.
    """
    names, (d_out, d_in) = cores.names, cores.shape
    overlap = np.zeros((len(names),) * 2)  # ||dW_i dW_j^T||^2 of changes of length 1
    changed = [i for i, values in enumerate(cores.singular_values) if cores.norms[i] > 0]
    if changed:
        # dW_i dW_j^T = U_i S_i (V_i^T V_j) S_j U_j^T, whose norm the U do not change.
        values = [cores.singular_values[i] / cores.norms[i] for i in changed]
        right = np.hstack([cores.right[i] * s for i, s in zip(changed, values, strict=True)])
        starts = np.cumsum([0, *(s.size for s in values)])[:-1]
        squares = (right.T @ right) ** 2
        sums = np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)
        if cores.exact is not None:
            kept = np.array([np.sum(s**2) for s in values])
            sums += np.maximum(1 - np.outer(kept, kept), 0.0) / d_in
        overlap[np.ix_(changed, changed)] = sums
    return PairMoments(
        cores.module,
        cores.layer,
        names,
        cores.gram[0],
        overlap / d_out,
        1 / (d_out * d_in),
        _cosines_of_a(cores.deltas),
    )


def _cosines_of_a(deltas: Sequence[LowRankDelta]) -> Array:
    """Cosines of the factors A themselves: they tell a common start, unlike anything of dW.

    0 for unequal ranks, which cannot come from one start; NaN where one of them has no A (a full
    fine-tuning, the base).
    """
    cosines = np.full((len(deltas),) * 2, np.nan)
    have = [i for i, d in enumerate(deltas) if d.full is None and np.any(d.A)]
    flat = {i: deltas[i].A.ravel() / np.linalg.norm(deltas[i].A) for i in have}
    for i, j in combinations(have, 2):
        alike = deltas[i].A.shape == deltas[j].A.shape
        cosines[i, j] = cosines[j, i] = float(flat[i] @ flat[j]) if alike else 0.0
    return cosines


def start_of(cosine_of_a: float | None) -> str:
    """What the mean cosine of A says: "shared", "independent", "unclear"; None: "no A"."""
    if cosine_of_a is None:
        return "no A"
    if cosine_of_a >= SHARED_A:
        return "shared"
    return "independent" if cosine_of_a <= UNRELATED_A else "unclear"


def bound(variance: Array) -> Array:
    """|cosine| that 95 % of random cosines of the given variances stay below."""
    freedom = np.maximum(1 / variance - 1, _LEAST)
    return np.sqrt(np.asarray(special.betaincinv(0.5, freedom / 2, 1 - ALPHA)))


def p_value(cosines: Array, variance: Array) -> Array:
    """Two-sided p values of cosines whose chance has mean 0 and this variance.

    cos^2 is taken as Beta(1/2, (n - 1) / 2) with n = 1 / variance, the law for two random arrows
    in R^n. That is exact for two deltas of rank 1 with one input direction, of which the left side
    is turned, and an approximation otherwise.
    """
    freedom = np.maximum(1 / variance - 1, _LEAST)
    p = np.asarray(special.betaincc(0.5, freedom / 2, cosines**2))
    return np.where(freedom > _LEAST, p, 1.0)


def holm(p_values: Sequence[float]) -> Array:
    """Holm's step-down adjustment (1979): the chance of any false alarm in the family stays at the
    level that the adjusted p values are held against. (n,) to (n,)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def tabulate_pairs(parts: Sequence[PairMoments]) -> pd.DataFrame:
    """The chance level of each pair's cosine, laid out as `table_layout` says, without the base.

    Quantities: "cosine_of_a" (by module, and their "mean"; no rows if one of the pair has no A);
    "chance_shared_a" and "chance_independent_a" ("global" and by "layer"), the |cosine| below which
    95 % of unrelated adapters of these energies stay; "p" and "p_corrected" ("global"), the latter
    corrected over all pairs of the table by Holm's method.

    The variance of a cosine of stacked modules is sum_m e_im e_jm var_m / (sum e_im  sum e_jm),
    with the energies e = ||dW||^2 of each module m. For a shared A, p is that of the left side
    turned at random. Otherwise it is the larger of this and of both sides turned: the former holds
    whatever the input sides are, while random input sides that happen to agree make a cosine large
    more often than the law of `p_value` says.
    """
    names = parts[0].names
    of_a = np.stack([part.cosine_of_a for part in parts])
    rows: list[Row] = []
    raw: dict[tuple[str, str], float] = {}
    pooled = [(where, *_stacked(group)) for where, group in levels(parts) if where[0] != "module"]
    for i, j in combinations(range(len(names)), 2):
        if BASE in (names[i], names[j]):
            continue
        pair = names[i], names[j]
        known = np.isfinite(of_a[:, i, j])
        mean = float(of_a[known, i, j].mean()) if known.any() else None
        if mean is not None:
            rows += [
                (*pair, "module", part.module, part.layer, "cosine_of_a", value)
                for part, value in zip(parts, of_a[:, i, j], strict=True)
                if np.isfinite(value)
            ]
            rows.append((*pair, "mean", "", -1, "cosine_of_a", mean))
        for where, changed, bounds, chances in pooled:
            if not (changed[i] and changed[j]):
                continue
            rows.append((*pair, *where, "chance_shared_a", bounds[0, i, j]))
            rows.append((*pair, *where, "chance_independent_a", bounds[1, i, j]))
            if where[0] == "global":
                left, both = chances[:, i, j]
                raw[pair] = float(left if start_of(mean) == "shared" else max(left, both))
    for (pair, p), adjusted in zip(raw.items(), holm(list(raw.values())), strict=True):
        rows.append((*pair, "global", "", -1, "p", p))
        rows.append((*pair, "global", "", -1, "p_corrected", float(adjusted)))
    return pd.DataFrame(rows, columns=TIDY_COLUMNS)


def _stacked(group: Sequence[PairMoments]) -> tuple[Array, Array, Array]:
    """Of some modules stacked to one vector: which adapters change (M,), and for the left and for
    both sides turned the bounds and the p values of the cosines, (2, M, M) each."""
    inner = np.sum([part.inner for part in group], axis=0)
    energies = np.stack([np.diagonal(part.inner) for part in group])  # (modules, M)
    total = energies.sum(axis=0)
    changed = total > 0
    shares = energies / np.where(changed, total, 1.0)
    left = np.einsum("mi,mj,mij->ij", shares, shares, np.stack([part.left for part in group]))
    both = np.einsum("mi,mj,m->ij", shares, shares, [part.both for part in group])
    # Without any overlap the cosine is rounding alone, about 1e-16, and must not look like more.
    variance = np.maximum(np.stack([left, both]), 1e-24)
    return changed, bound(variance), p_value(cosine(inner), variance)
