"""Chance levels: what cosines and angles are when nothing is shared.

A high-dimensional angle means nothing without its chance level: two random 10-dimensional
subspaces of R^4096 meet at 85 degrees at the closest. All draws are exact and small: a tall
Gaussian matrix enters only through the triangular factor of its QR decomposition, whose law is
known (Bartlett 1933), so that the cost does not depend on d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.depth import layers_of
from finetune_geometry.deltas.lowrank import Array, LowRankDelta
from finetune_geometry.geometry.subspaces import SIDES, picked_angles, principal_angles
from finetune_geometry.settings.errors import UserError

_SUMS = [("", 0, "inner"), ("", 0, "norm1"), ("", 0, "norm2")]
CHANCE_COLUMNS = ["level", "side", "k", "quantity", "low", "value", "high"]


def gaussian_r(d: int, n: int, rng: np.random.Generator) -> Array:
    """R of the QR decomposition of a (d, n) standard Gaussian matrix, (min(d, n), n), d >= 1.

    Up to signs of its rows (which no measure here sees): chi variables with d, d - 1, ... degrees
    of freedom on the diagonal, standard normal ones above it (Bartlett's decomposition).
    """
    m = min(d, n)
    r = np.triu(rng.standard_normal((m, n)), k=1)
    np.fill_diagonal(r, np.sqrt(rng.chisquare(d - np.arange(m))))
    return r


def chance_angles(d: int, k: int, *, draws: int, seed: int) -> Array:
    """Principal angles of two independent, uniformly random k-dimensional subspaces of R^d.

    Returns (draws, k), radians, each row rising. One subspace may be fixed to the first k axes;
    then only the (d, k) Gaussian basis of the other is random, its last d - k rows through R.
    """
    if not 1 <= k <= d:
        raise UserError(f"k = {k}: subspaces of R^{d}: k must lie between 1 and {d}")
    rng = np.random.default_rng(seed)
    axes = np.eye(k + min(d - k, k), k)
    angles = np.empty((draws, k))
    for draw in range(draws):
        top = rng.standard_normal((k, k))
        rest = gaussian_r(d - k, k, rng) if d > k else np.empty((0, k))
        basis, _ = np.linalg.qr(np.vstack([top, rest]))
        angles[draw] = principal_angles(axes, basis)
    return angles


def smallest_angle_limit(d: int, k: int) -> float:
    """Smallest principal angle of random subspaces as d grows at fixed k / d, in radians.

    cos^2 = 4 a (1 - a), a = k / d: the upper edge of Wachter's (1980) law. Real draws at finite
    d come out a little larger.
    """
    a = k / d
    return float(np.arccos(np.sqrt(4 * a * (1 - a)))) if a < 0.5 else 0.0


def random_lora_pair(
    shape: tuple[int, int], r: int, rng: np.random.Generator, *, shared_a: bool
) -> tuple[LowRankDelta, LowRankDelta]:
    """Two LoRA deltas with independent Gaussian B, and A independent or one and the same.

    Given in the frame of their joint compression (see `cores`), which leaves every angle, norm
    and inner product as it would be for factors of the full shape (d_out, r) and (r, d_in).
    """
    d_out, d_in = shape
    b = gaussian_r(d_out, 2 * r, rng)
    a = gaussian_r(d_in, r if shared_a else 2 * r, rng)
    first, second = a[:, :r].T, (a if shared_a else a[:, r:]).T
    return LowRankDelta(b[:, :r], first), LowRankDelta(b[:, r:], second)


def chance_table(
    shapes: Mapping[str, tuple[int, int]],
    ks: Sequence[int],
    *,
    r: int | Mapping[str, int],
    draws: int,
    seed: int,
    shared_a: bool = True,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Chance level of every quantity of the cosine and angle tables, for these modules.

    Two adapters with independent random B; `shared_a` gives both the same A, as a shared
    initialisation that training hardly moves would. `draws` such pairs are made for each shape
    that occurs; an adapter pair is a random choice among them for every module. `r` is the rank of
    all modules, or of each. Modules narrower than a k have no angle there and enter no average.

    Returns:
        Columns CHANCE_COLUMNS: `level` as `table_layout` says ("layer" and "global" for the cosine
        alone); `value` is the median over the draws, `low` and `high` are percentiles of the
        given confidence. Angles in degrees.
    """
    rng = np.random.default_rng(seed)
    sizes = [(shape, r[m] if isinstance(r, Mapping) else r) for m, shape in shapes.items()]
    pools = {
        size: [_measures(*size, ks, rng, shared_a) for _ in range(draws)]
        for size in dict.fromkeys(sizes)
    }
    modules = [[pools[size][draw] for draw in rng.permutation(draws)] for size in sizes]
    values = {
        key: np.array([[found[key] for found in drawn] for drawn in modules if key in drawn[0]])
        for key in dict.fromkeys(key for pool in pools.values() for key in pool[0])
    }  # quantity -> (modules, draws)
    inner, norm1, norm2 = (values[key] for key in _SUMS)

    def stacked(members: list[int]) -> Array:
        """Cosines of these modules stacked, (draws,)."""
        energy1, energy2 = ((n[members] ** 2).sum(axis=0) for n in (norm1, norm2))
        return np.asarray(inner[members].sum(axis=0) / np.sqrt(energy1 * energy2))

    layers: dict[int, list[int]] = {}
    for place, layer in enumerate(layers_of(shapes).values()):
        layers.setdefault(layer, []).append(place)
    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    rows: list[tuple[Any, ...]] = [
        ("global", "", 0, "cosine", *np.quantile(stacked([*range(len(shapes))]), tails)),
        ("layer", "", 0, "cosine", *np.quantile([stacked(m) for m in layers.values()], tails)),
    ]
    for key, sample in values.items():
        if key in _SUMS:
            continue
        for level, drawn in (
            ("module", sample),
            ("mean", sample.mean(axis=0)),
            ("median", np.median(sample, axis=0)),
        ):
            rows.append((level, *key, *np.quantile(drawn, tails)))
    return pd.DataFrame(rows, columns=CHANCE_COLUMNS)


def _measures(
    shape: tuple[int, int], r: int, ks: Sequence[int], rng: np.random.Generator, shared_a: bool
) -> dict[tuple[str, int, str], float]:
    """(side, k, quantity) -> value for one random pair."""
    one, two = random_lora_pair(shape, r, rng, shared_a=shared_a)
    inner, norm1, norm2 = one.inner(two), one.norm(), two.norm()
    found = dict(zip(_SUMS, (inner, norm1, norm2), strict=True))
    found["", 0, "cosine"] = inner / (norm1 * norm2)
    for side, u, v in zip(SIDES, one.svd()[::2], two.svd()[::2], strict=True):
        found[side, 1, "leading_vector_cosine"] = abs(float(u[:, 0] @ v[:, 0]))
        for k in (k for k in ks if k <= min(u.shape[1], v.shape[1])):
            for quantity, angle in picked_angles(principal_angles(u[:, :k], v[:, :k])).items():
                found[side, k, quantity] = float(angle)
    return found


def same_gradient_cosine(d_in: int, r: int, *, draws: int, seed: int) -> Array:
    """Cosines of two LoRA updates by one and the same gradient, from two independent A, (draws,).

    At B = 0 the gradient of B is g A^T (g: that of the weight), so the first step of plain gradient
    descent moves the weight along g A^T A. Here g and A are Gaussian, g with 4 r rows. Two
    independent A agree to about r / (d_in + r + 1), by E[A^T A] = r I and E[(A^T A)^2] =
    r (d_in + r + 1) I; one shared A gives 1 by construction.
    """
    rng = np.random.default_rng(seed)
    cosines = np.empty(draws)
    for draw in range(draws):
        # In the frame of the two A and g, of 6 r dimensions, instead of d_in.
        frame = gaussian_r(d_in, 6 * r, rng).T
        one, two, g = frame[:r], frame[r : 2 * r], frame[2 * r :]
        first, second = LowRankDelta(g @ one.T, one), LowRankDelta(g @ two.T, two)
        cosines[draw] = first.inner(second) / (first.norm() * second.norm())
    return cosines
