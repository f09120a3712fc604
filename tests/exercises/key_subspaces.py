"""Answers to notebooks/exercises/subspaces; the book shows them, folded."""

from __future__ import annotations

import numpy as np


def principal_angles(U, V):
    Q_U, Q_V = np.linalg.qr(U)[0], np.linalg.qr(V)[0]
    cosines = np.linalg.svd(Q_U.T @ Q_V, compute_uv=False)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def orthogonal_fraction(delta, reference):
    along = np.sum(delta * reference) / np.sum(reference**2) * reference
    return np.linalg.norm(delta - along) / np.linalg.norm(delta)


def outside_subspace(delta, basis):
    return 1 - np.sum((basis.T @ delta) ** 2) / np.sum(delta**2)


def chance_angle(d, k, draws, seed):
    rng = np.random.default_rng(seed)
    smallest = []
    for _ in range(draws):
        U, V = (np.linalg.qr(rng.standard_normal((d, k)))[0] for _ in range(2))
        # The largest cosine belongs to the smallest angle.
        cosine = np.linalg.svd(U.T @ V, compute_uv=False)[0]
        smallest.append(np.degrees(np.arccos(min(cosine, 1.0))))
    return np.median(smallest)
