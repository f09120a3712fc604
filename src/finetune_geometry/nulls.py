"""Chance levels: what cosines and angles are when nothing is shared.

A high-dimensional angle means nothing without its chance level: two random 10-dimensional
subspaces of R^4096 meet at 85 degrees at the closest. All draws are exact and small: a tall
Gaussian matrix enters only through the triangular factor of its QR decomposition, whose law is
known (Bartlett 1933), so that the cost does not depend on d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finetune_geometry.deltas import Array, LowRankDelta
from finetune_geometry.profiles import UserError
from finetune_geometry.subspaces import SIDES, principal_angles

CHANCE_COLUMNS = ["pooled", "side", "k", "quantity", "low", "value", "high"]


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
    r: int,
    draws: int,
    seed: int,
    shared_a: bool = True,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Chance level of every quantity of the cosine and angle tables, for these modules.

    Two adapters with independent random B; `shared_a` gives both the same A, as a shared
    initialisation that training hardly moves would. Each draw makes such a pair for every module.

    Returns:
        Columns `pooled`, `side`, `k`, `quantity`, `low`, `value` (the median over the draws),
        `high` (percentiles of the given confidence). `pooled` is "module" for the value of a
        single module, "mean" or "median" for that average over the modules of one draw, and
        "global" for the cosine of all modules stacked. Angles in degrees.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, int, str], list[float]] = {}
    stacked: list[float] = []
    for _ in range(draws):
        sums = np.zeros(3)
        for shape in shapes.values():
            one, two = random_lora_pair(shape, r, rng, shared_a=shared_a)
            inner, norm1, norm2 = one.inner(two), one.norm(), two.norm()
            sums += inner, norm1**2, norm2**2
            _collect(drawn, ("", 0, "cosine"), inner / (norm1 * norm2))
            vectors1, vectors2 = one.svd()[::2], two.svd()[::2]
            for side, u, v in zip(SIDES, vectors1, vectors2, strict=True):
                first = abs(float(u[:, 0] @ v[:, 0]))
                _collect(drawn, (side, 1, "leading_vector_cosine"), first)
                for k in (k for k in ks if k <= min(u.shape[1], v.shape[1])):
                    angles = np.degrees(principal_angles(u[:, :k], v[:, :k]))
                    _collect(drawn, (side, k, "angle_smallest"), angles[0])
                    _collect(drawn, (side, k, "angle_median"), float(np.median(angles)))
                    _collect(drawn, (side, k, "angle_largest"), angles[-1])
        stacked.append(sums[0] / np.sqrt(sums[1] * sums[2]))
    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    rows = [("global", "", 0, "cosine", *np.quantile(stacked, tails))]
    for key, flat in drawn.items():
        values = np.array(flat).reshape(draws, len(shapes))
        for pooled, sample in (
            ("module", values),
            ("mean", values.mean(axis=1)),
            ("median", np.median(values, axis=1)),
        ):
            rows.append((pooled, *key, *np.quantile(sample, tails)))
    return pd.DataFrame(rows, columns=CHANCE_COLUMNS)


def _collect(
    drawn: dict[tuple[str, int, str], list[float]], key: tuple[str, int, str], value: float
) -> None:
    drawn.setdefault(key, []).append(float(value))
