"""Spectra of deltas, and the principal angles between their leading singular subspaces.

Tables are laid out as `table_layout` says, with two more columns: `side` ("left": output
directions, "right": input directions) and `k`, the dimension of the subspaces. Angles in tables are
in degrees, those of functions in radians.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE, Adapter
from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.geometry.cores import ModuleCores, map_modules
from finetune_geometry.geometry.table_layout import TIDY_COLUMNS, Row, with_averages
from finetune_geometry.settings.errors import UserError

SIDES = ("left", "right")


def principal_angles(u: Array, v: Array) -> Array:
    """Principal angles between two subspaces, in radians, rising.

    Args:
        u, v: orthonormal bases, (..., n, k1) and (..., n, k2). There are min(k1, k2) angles.

    Cosines are the singular values of u^T v (Bjorck and Golub 1973). Those of small angles
    all round to 1, so below 45 degrees the sines are taken, the singular values of the
    residual v - u u^T v (Knyazev and Argentati 2002).
    """
    if u.shape[-2] != v.shape[-2] or 0 in (u.shape[-1], v.shape[-1]):
        raise UserError(f"bases of shape {u.shape} and {v.shape}: need (n, k1), (n, k2), k >= 1")
    if u.shape[-1] < v.shape[-1]:
        u, v = v, u
    overlap = np.swapaxes(u, -1, -2) @ v
    cosines = np.clip(np.linalg.svd(overlap, compute_uv=False), 0.0, 1.0)
    small = cosines**2 >= 0.5
    angles: Array = np.arccos(cosines)
    near = small.any(-1)
    if near.any():
        sines = np.linalg.svd(v[near] - u[near] @ overlap[near], compute_uv=False)[..., ::-1]
        angles[near] = np.where(small[near], np.arcsin(np.clip(sines, 0.0, 1.0)), angles[near])
    return np.sort(angles, -1)


def picked_angles(angles: Array) -> dict[str, Array]:
    """Of rising angles, (..., k) in radians, the three that tables hold: (...), in degrees."""
    k = angles.shape[-1]
    middle = (angles[..., (k - 1) // 2] + angles[..., k // 2]) / 2
    picked = {
        "angle_smallest": angles[..., 0],
        "angle_median": middle,
        "angle_largest": angles[..., -1],
    }
    return {quantity: np.degrees(angle) for quantity, angle in picked.items()}


@dataclass(frozen=True, eq=False)
class ModuleAngles:
    """What `principal_angle_table` has to say of one module, as numbers only: many adapters have
    so many pairs that rows of text would take more room and time than the angles.

    Attributes:
        names: the M adapters, whose M (M - 1) / 2 pairs come in the order of `combinations`.
        slots: (quantity, side, k) of each column of the two arrays.
        numbers: (pairs, slots).
        there: (pairs, slots), whether the table has a row for this value.
    """

    module: str
    layer: int
    names: tuple[str, ...]
    slots: tuple[tuple[str, str, int], ...]
    numbers: Array
    there: NDArray[np.bool_]


def module_angles(cores: ModuleCores, ks: Sequence[int]) -> ModuleAngles:
    """Angles of all pairs in one module, one call for many small matrices."""
    pairs = list(combinations(range(len(cores.names)), 2))
    rank = np.array([min(cores.ranks[i], cores.ranks[j]) for i, j in pairs])
    slots: list[tuple[str, str, int]] = []
    values: list[Array] = []
    there: list[NDArray[np.bool_]] = []

    def add(quantity: str, side: str, k: int, found: Array, where: NDArray[np.bool_]) -> None:
        slots.append((quantity, side, k))
        values.append(np.zeros(len(pairs)))
        values[-1][where] = found
        there.append(where)

    for side in SIDES:
        for k in ks:
            bases, defined = cores.bases(side, k), rank >= k
            both = [pair for pair, holds in zip(pairs, defined, strict=True) if holds]
            angles = np.empty((0, k))
            if both:
                angles = principal_angles(
                    np.stack([bases[i] for i, _ in both]), np.stack([bases[j] for _, j in both])
                )
            for quantity, found in picked_angles(angles).items():
                add(quantity, side, k, found, defined)
            add("undefined_angle", side, k, rank[~defined], ~defined)
        first = cores.bases(side, 1)
        leading = [
            min(abs(float(np.sum(first[i] * first[j]))), 1.0)
            for i, j in pairs
            if {i, j} <= first.keys()
        ]
        add("leading_vector_cosine", side, 1, np.array(leading), rank > 0)
    return ModuleAngles(
        cores.module,
        cores.layer,
        cores.names,
        tuple(slots),
        np.stack(values, 1),
        np.stack(there, 1),
    )


def tabulate_angles(parts: Sequence[ModuleAngles]) -> pd.DataFrame:
    """The table of `principal_angle_table` from the modules' numbers."""
    there = np.stack([part.there for part in parts])  # (modules, pairs, slots)
    module, pair, slot = np.nonzero(there)
    of_pair = list(combinations(parts[0].names, 2))
    columns = {
        "a": _texts(a for a, _ in of_pair)[pair],
        "b": _texts(b for _, b in of_pair)[pair],
        "level": "module",
        "module": _texts(part.module for part in parts)[module],
        "layer": np.array([part.layer for part in parts])[module],
        "quantity": _texts(quantity for quantity, _, _ in parts[0].slots)[slot],
        "value": np.stack([part.numbers for part in parts])[there],
        "side": _texts(side for _, side, _ in parts[0].slots)[slot],
        "k": np.array([k for _, _, k in parts[0].slots])[slot],
    }
    return with_averages(pd.DataFrame(columns)[[*TIDY_COLUMNS, "side", "k"]])


def _texts(texts: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(texts), dtype=object)


def principal_angle_table(
    adapters: Sequence[Adapter], *, ks: Sequence[int], **options: Any
) -> pd.DataFrame:
    """Angles between the spans of the top-k singular vectors, all pairs, both sides, each k.

    Quantities: "angle_smallest", "angle_median", "angle_largest" of the k angles (degrees), and
    "leading_vector_cosine", |u1 . u1'| on the left and |v1 . v1'| on the right: another number
    than the smallest angle. Rows for every module, and their "mean" and "median". Where k is
    above the numerical rank of a delta there is no top-k subspace: the row's quantity is
    "undefined_angle", its value that rank (0: the delta is zero), and no average sees it. As with
    any SVD, the top-k subspace itself is known to eps * s_1 / (s_k - s_k+1) only.
    `options`: see `cores.map_modules`.
    """
    check_ks(ks)
    return tabulate_angles(map_modules(lambda cores: module_angles(cores, ks), adapters, **options))


def check_ks(ks: Sequence[int]) -> None:
    """Raise `UserError` unless every k is a whole number of at least 1."""
    for k in ks:
        if k != int(k) or k < 1:
            raise UserError(f"k = {k}: dimension of a subspace: use whole numbers of at least 1")


def entropy_rank(values: Array) -> float:
    """exp of the entropy of p_i = s_i / sum(s) (Roy and Vetterli 2007); 0 for the zero delta."""
    total = values.sum()
    if total == 0:
        return 0.0
    p = values[values > 0] / total
    return float(np.exp(-np.sum(p * np.log(p))))


def stable_rank(values: Array) -> float:
    """||dW||_F^2 / ||dW||_2^2 = sum(s^2) / max(s)^2; 0 for the zero delta."""
    return float(np.sum((values / values[0]) ** 2)) if values.size and values[0] > 0 else 0.0


def spectrum_rows(cores: ModuleCores) -> list[Row]:
    """Rows of `spectrum_table` for one module."""
    rows: list[Row] = []
    for name, values, rank, norm, tail in zip(
        cores.names, cores.singular_values, cores.ranks, cores.norms, cores.tails, strict=True
    ):
        if name == BASE:
            continue
        where = (name, BASE, "module", cores.module, cores.layer)
        if cores.exact is not None:
            rows.append((*where, "truncated_norm", float(tail / norm) if norm > 0 else 0.0, 0))
        rows += [
            (*where, "rank", float(rank), 0),
            (*where, "entropy_rank", entropy_rank(values), 0),
            (*where, "stable_rank", stable_rank(values), 0),
        ]
        rows += [(*where, "singular_value", float(s), i) for i, s in enumerate(values, start=1)]
    return rows


def tabulate_spectra(parts: Sequence[list[Row]]) -> pd.DataFrame:
    """The table of `spectrum_table` from the modules' rows."""
    rows = [row for part in parts for row in part]
    return with_averages(pd.DataFrame(rows, columns=[*TIDY_COLUMNS, "k"]))


def spectrum_table(adapters: Sequence[Adapter], **options: Any) -> pd.DataFrame:
    """Singular values ("singular_value", k its index from 1) and effective ranks of each delta.

    "rank" counts the singular values above rounding; "entropy_rank" and "stable_rank" are two
    rival effective ranks, see the functions of those names. Of full fine-tunings these see the
    leading part only; "truncated_norm" is then the share of the norm left out.
    `options`: see `cores.map_modules`.
    """
    return tabulate_spectra(map_modules(spectrum_rows, adapters, **options))
