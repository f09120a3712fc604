"""Arithmetic on the factors of low-rank products: Gram tables, thin QR and SVD, all in fp64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.linalg.lapack import dgeqrf, dorgqr, dpocon, dpotrf

from finetune_geometry.deltas.lowrank import Array, LowRankDelta

# `gram_of_factors` leaves to the frame what would lose more than two digits of fp64.
CANCELLING = 200.0  # (sum of |b_c| |a_c| over the columns)^2 / ||dW||^2; at most r if orthogonal
CLOSE = 0.01  # ||dW_i - dW_j||^2 / (||dW_i||^2 + ||dW_j||^2)
# 1 / condition of the scaled table, below which `cholesky_frame` gives none. Tables of adapters of
# Qwen3-4B's shapes differed from those by Householder QR by 1e-12 at 2e-6, by 8e-11 at 2e-9.
DEPENDENT = 1e-7


def equal(one: LowRankDelta, two: LowRankDelta) -> bool:
    """Whether two deltas have the same factors and scale, number for number.

    False says nothing: other factors can have the same product.
    """
    same = np.array_equal(one.A, two.A) and np.array_equal(one.B, two.B)
    return same and one.scale == two.scale


def gram_of_factors(
    deltas: Sequence[LowRankDelta], tables: tuple[Array, Array] | None = None
) -> tuple[Array, Array] | None:
    """`ModuleCores.gram` from products of the factors, at a third of the cost of the frame.

    <dW_i, dW_j> is the sum over columns c of i and d of j of (b_c . b_d)(a_c . a_d). Rounding
    grows with how much the columns cancel, so None is returned where they do, or where two deltas
    are so close that their distance would be lost: the frame is exact there, too.

    Args:
        tables: `ModuleCores.tables`, if they are at hand.
    """
    changed = [i for i, delta in enumerate(deltas) if delta.r]
    inner, sizes = np.zeros((len(deltas),) * 2), np.zeros(len(deltas))
    if changed:
        if tables is None:
            outer = np.vstack([deltas[i].scale * deltas[i].B.T for i in changed])
            inside = np.vstack([deltas[i].A for i in changed])
            products = (outer @ outer.T) * (inside @ inside.T)
        else:
            scales = np.concatenate([np.full(delta.r, delta.scale) for delta in deltas])
            products = tables[0] * tables[1] * np.outer(scales, scales)
        starts = np.cumsum([0, *(deltas[i].r for i in changed)])[:-1]
        inner[np.ix_(changed, changed)] = block_sums(products, [deltas[i].r for i in changed])
        sizes[changed] = np.add.reduceat(np.sqrt(np.diagonal(products)), starts)
    energy = np.diagonal(inner)
    distance2 = energy[:, None] + energy - 2 * inner
    np.fill_diagonal(distance2, 0.0)
    apart = distance2 >= CLOSE * (energy[:, None] + energy)
    np.fill_diagonal(apart, True)
    lost = energy[changed] < np.finfo(np.float64).tiny * 1e50  # zero, or squares that underflow
    if lost.any() or (sizes**2 > CANCELLING * energy).any() or not apart.all():
        return None
    return inner, distance2


def gram_of_svds(
    deltas: Sequence[LowRankDelta],
    left: Sequence[Array],
    values: Sequence[Array],
    right: Sequence[Array],
) -> tuple[Array, Array]:
    """`ModuleCores.gram` from thin SVDs, where columns of the factors cancel or deltas are close.

    <dW_i, dW_j> = sum over a, b of s_ia s_jb (u_ia . u_jb)(v_ia . v_jb): nothing cancels that does
    not cancel between the deltas themselves.
    """
    outer = np.hstack([u * s for u, s in zip(left, values, strict=True)])
    inside = np.hstack(right)
    inner = block_sums((outer.T @ outer) * (inside.T @ inside), [s.size for s in values])
    energy = np.array([np.sum(s**2) for s in values])
    np.fill_diagonal(inner, energy)
    distance2 = energy[:, None] + energy - 2 * inner
    np.fill_diagonal(distance2, 0.0)
    for i, j in combinations(range(len(energy)), 2):
        if distance2[i, j] < CLOSE * (energy[i] + energy[j]):
            one, two = deltas[i], deltas[j]
            exact = 0.0 if equal(one, two) else (one - two).norm() ** 2
            distance2[i, j] = distance2[j, i] = exact
    return inner, distance2


def block_sums(products: Array, sizes: Sequence[int]) -> Array:
    """Sums over the blocks of a symmetric matrix, (blocks, blocks); an empty block gives 0."""
    filled = [i for i, size in enumerate(sizes) if size]
    sums = np.zeros((len(sizes),) * 2)
    if filled:
        starts = np.cumsum([0, *(sizes[i] for i in filled)])[:-1]
        found = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)
        sums[np.ix_(filled, filled)] = (found + found.T) / 2
    return sums


def thin_svd(delta: LowRankDelta) -> tuple[Array, Array, Array]:
    """`LowRankDelta.svd` through LAPACK itself: numpy's qr lets one thread run at a time."""
    q_out, r_out = _thin_qr(delta.B)
    q_in, r_in = _thin_qr(delta.A.T)
    u, s, vt = np.linalg.svd(delta.scale * (r_out @ r_in.T), full_matrices=False)
    return q_out @ u, s, q_in @ vt.T


def _thin_qr(columns: Array) -> tuple[Array, Array]:
    """Q (d, n) and R (n, n) of (d, r), n the smaller of d and r."""
    d, r = columns.shape
    if not r:
        return np.zeros((d, 0)), np.zeros((0, 0))
    factored, tau = dgeqrf(columns, lwork=64 * r)[:2]
    n = min(d, r)
    return dorgqr(factored[:, :n], tau, lwork=64 * n)[0], np.triu(factored[:n])


def cholesky_frame(table: Array) -> Array | None:
    """R, (n, n) and upper triangular, with R^T R = X^T X for n columns X of which this table is
    given: the columns in an orthonormal basis of their span.

    None where the columns, taken at length 1, are too nearly dependent (`DEPENDENT`), or where
    one is 0 or its square underflows.
    """
    squares = np.diagonal(table)
    if not squares.size or squares.min() < np.finfo(np.float64).tiny * 1e50:
        return None
    lengths = np.sqrt(squares)
    scaled = table / lengths / lengths[:, None]
    factor, failed = dpotrf(scaled, clean=True)
    if failed or dpocon(factor, np.linalg.norm(scaled, 1))[0] < DEPENDENT:
        return None
    return np.asarray(factor * lengths)


def r_factor(rows: Array) -> Array:
    """R of the QR decomposition of rows^T: (n, d) to (min(n, d), n)."""
    if not rows.size:
        return np.zeros((0, len(rows)))
    # LAPACK itself, because numpy's qr lets one thread run at a time.
    factored = dgeqrf(rows.T, lwork=64 * len(rows), overwrite_a=True)[0]
    return np.triu(factored[: min(rows.shape)])
