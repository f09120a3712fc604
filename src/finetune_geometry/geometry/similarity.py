"""Cosines, norms, distances, and the part of a delta that is orthogonal to a reference.

Tables are laid out as `table_layout` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE, Adapter
from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.geometry.cores import ModuleCores, map_modules
from finetune_geometry.geometry.table_layout import TIDY_COLUMNS, Row, levels, with_averages
from finetune_geometry.settings.errors import UserError


@dataclass(frozen=True, eq=False)
class InnerProducts:
    """What one module contributes to norms, cosines and distances: sums over its entries."""

    module: str
    layer: int
    names: tuple[str, ...]
    inner: Array  # (M, M): <dW_i, dW_j>
    distance2: Array  # (M, M): ||dW_i - dW_j||^2, from the difference itself


def inner_products(cores: ModuleCores) -> InnerProducts:
    """Frobenius inner products and squared distances of all pairs in one module."""
    return InnerProducts(cores.module, cores.layer, cores.names, *cores.gram)


def cosine(inner: Array) -> Array:
    """Cosines from a matrix of inner products, (..., M, M); 0 where a delta is zero."""
    norms = np.sqrt(np.diagonal(inner, axis1=-2, axis2=-1))
    # Divided one after the other: the product of two tiny norms would underflow.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = inner / norms[..., :, None] / norms[..., None, :]
    return np.clip(np.nan_to_num(ratio, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)


def tabulate_cosines(parts: Sequence[InnerProducts]) -> pd.DataFrame:
    """The table of `cosine_table` from the modules' sums."""
    names = parts[0].names
    rows: list[Row] = []
    for where, group in levels(parts):
        inner = sum(part.inner for part in group)
        distance2 = sum(part.distance2 for part in group)
        norms, cosines = np.sqrt(np.diagonal(inner)), cosine(inner)
        rows += [(n, BASE, *where, "norm", norms[i]) for i, n in enumerate(names) if n != BASE]
        for i, j in combinations(range(len(names)), 2):
            pair = names[i], names[j]
            rows.append((*pair, *where, "distance", np.sqrt(distance2[i, j])))
            if norms[i] > 0 and norms[j] > 0:
                rows.append((*pair, *where, "cosine", cosines[i, j]))
            else:
                rows.append((*pair, *where, "undefined_cosine", 0.0))
    return with_averages(pd.DataFrame(rows, columns=TIDY_COLUMNS))


def cosine_table(adapters: Sequence[Adapter], **options: Any) -> pd.DataFrame:
    """Cosines, norms and distances of all pairs: global, by layer, by module, mean and median.

    Quantities: "cosine" (Frobenius inner product over the norms), "distance" (Frobenius norm of
    the difference; defined for the base, too), "norm" (the distance from the base).
    `options` are those of `cores.map_modules`.
    """
    return tabulate_cosines(map_modules(inner_products, adapters, **options))


def plane(parts: Sequence[InnerProducts]) -> tuple[pd.DataFrame, float]:
    """The adapters as points of the plane that holds most of their length, the base at (0, 0).

    Columns `name`, `x`, `y`, in units of the Frobenius norm; and the share of the sum of squared
    norms that the plane holds (1: the picture is exact). The leading eigenvectors of the matrix of
    inner products, uncentred, so that distances from the origin are lengths of deltas.
    """
    inner = np.sum([part.inner for part in parts], axis=0)
    values, vectors = np.linalg.eigh(inner)
    top = np.argsort(values)[::-1][:2]
    points = vectors[:, top] * np.sqrt(np.maximum(values[top], 0.0))
    # The longest delta points to the right and, then, up: eigenvectors have no sign.
    signs = np.sign(points[np.argmax(np.abs(points), axis=0), range(len(top))])
    points = points * np.where(signs == 0, 1.0, signs)
    table = pd.DataFrame({"name": parts[0].names, "x": points[:, 0], "y": points[:, -1]})
    total = float(np.trace(inner))
    return table, float(np.maximum(values[top], 0.0).sum() / total) if total > 0 else 1.0


def bootstrap_global_cosine(
    parts: Sequence[InnerProducts], *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Percentile interval of the global cosine when whole modules are drawn anew with replacement.

    It shows how much the number hangs on a few modules; modules of one network are no
    independent sample, so it is not an interval for another training run. Columns `a`, `b`,
    `low`, `high`; pairs with a zero delta are left out.
    """
    inner = np.stack([part.inner for part in parts])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=draws)
    cosines = cosine(np.einsum("dm,mij->dij", counts.astype(float), inner))
    tail = (1 - confidence) / 2
    low, high = np.quantile(cosines, [tail, 1 - tail], axis=0)
    names, norms = parts[0].names, np.diagonal(inner.sum(axis=0))
    rows = [
        (names[i], names[j], low[i, j], high[i, j])
        for i, j in combinations(range(len(names)), 2)
        if norms[i] > 0 and norms[j] > 0
    ]
    return pd.DataFrame(rows, columns=["a", "b", "low", "high"])


@dataclass(frozen=True, eq=False)
class OrthogonalParts:
    """What one module contributes to the orthogonal fractions, for every adapter beside the
    reference."""

    module: str
    layer: int
    names: tuple[str, ...]  # without the reference
    energy: Array  # (M,): ||dW_a||^2
    along: Array  # (M,): <dW_a, dW_ref> / ||dW_ref||^2, 0 where the reference is zero
    to_direction: Array  # (M,): ||dW_a - along * dW_ref||^2
    to_subspace: dict[tuple[str, int], Array]  # (side, k) -> (M,): energy, top-k subspace
    reference_energy: float
    reference_rank: int


def orthogonal_parts(cores: ModuleCores, reference: str, ks: Sequence[int]) -> OrthogonalParts:
    """Split every delta of a module into its part along the reference and the rest."""
    if reference not in cores.names:
        raise UserError(
            f"no reference {reference!r}: adapters: it must be one of {', '.join(cores.names)}"
        )
    ref = cores.names.index(reference)
    others = [i for i in range(len(cores.names)) if i != ref]
    ref_energy = float(cores.norms[ref] ** 2)
    along, to_direction = (part[others] for part in cores.split(ref))
    to_subspace = {(side, k): np.zeros(len(others)) for side in ("left", "right") for k in ks}
    for place, i in enumerate(others):
        for side, k in to_subspace:
            spectrum = cores.singular_values[i]
            weighted = cores.basis(i, side, len(spectrum)) * spectrum
            basis = cores.basis(ref, side, min(k, cores.ranks[ref]))
            residual = weighted - basis @ (basis.T @ weighted)
            # What the leading part leaves out counts as orthogonal: an upper bound.
            to_subspace[side, k][place] = np.sum(residual**2) + cores.tails[i] ** 2
    names = tuple(cores.names[i] for i in others)
    energy = cores.norms[others] ** 2
    return OrthogonalParts(
        cores.module, cores.layer, names, energy, along, to_direction, to_subspace, ref_energy,
        cores.ranks[ref],
    )  # fmt: skip


def tabulate_orthogonal_fractions(parts: Sequence[OrthogonalParts], reference: str) -> pd.DataFrame:
    """The table of `orthogonal_fraction_table` from the modules' sums."""
    rows: list[Row] = []
    for level, group in levels(parts):
        ref_energy = sum(p.reference_energy for p in group)
        for i, name in enumerate(parts[0].names):
            where = (name, reference, *level)
            energy = sum(p.energy[i] for p in group)
            if energy == 0 or ref_energy == 0:
                rows.append((*where, "undefined_orthogonal_fraction", 0.0, "", 0))
                continue
            along = sum(p.along[i] * p.reference_energy for p in group) / ref_energy
            # Orthogonal to the pooled direction = orthogonal to each module's own, plus what the
            # coefficients differ from the pooled one: two sums of squares, nothing cancels.
            rest = sum(
                p.to_direction[i] + (p.along[i] - along) ** 2 * p.reference_energy for p in group
            )
            rows += _fractions(where, "orthogonal_to_direction", rest / energy, "", 0)
            for side, k in parts[0].to_subspace:
                rest = sum(p.to_subspace[side, k][i] for p in group)
                rows += _fractions(where, "orthogonal_to_subspace", rest / energy, side, k)
    return with_averages(pd.DataFrame(rows, columns=[*TIDY_COLUMNS, "side", "k"]))


def _fractions(where: Row, what: str, energy: float, side: str, k: int) -> list[Row]:
    energy = min(max(float(energy), 0.0), 1.0)
    return [
        (*where, f"{what}_norm", float(np.sqrt(energy)), side, k),
        (*where, f"{what}_energy", energy, side, k),
    ]


def orthogonal_fraction_table(
    adapters: Sequence[Adapter],
    *,
    reference: str = "sft",
    ks: Sequence[int] = (10,),
    **options: Any,
) -> pd.DataFrame:
    """How much of each delta is orthogonal to the reference's: `a` the adapter, `b` the reference.

    Quantities: "orthogonal_to_direction_norm", ||dW - its projection on the reference|| / ||dW||,
    and its square "orthogonal_to_direction_energy"; "orthogonal_to_subspace_norm" and
    "orthogonal_to_subspace_energy", the same for the span of the reference's top-k singular vectors
    (columns `side`, `k`; a k above the reference's rank means its whole span). Global: all modules
    stacked, so that orthogonal_to_direction_norm = sqrt(1 - global cosine^2). A zero delta, or a
    zero reference: "undefined_orthogonal_fraction". `options`: see `cores.map_modules`.
    """
    parts = map_modules(lambda cores: orthogonal_parts(cores, reference, ks), adapters, **options)
    return tabulate_orthogonal_fractions(parts, reference)


def chance_orthogonal_fraction(
    shapes: Mapping[str, tuple[int, int]], k: int, *, side: str
) -> float:
    """Norm fraction of a random delta orthogonal to a fixed k-dimensional subspace, all modules
    stacked.

    As energy it is 1 - k / d on average, with d = d_out on the left and d_in on the right; modules
    count by their number of entries.
    """
    entries = np.array([d_out * d_in for d_out, d_in in shapes.values()], dtype=float)
    d = np.array([shape[0] if side == "left" else shape[1] for shape in shapes.values()])
    return float(np.sqrt(np.average(1 - np.minimum(k / d, 1.0), weights=entries)))
