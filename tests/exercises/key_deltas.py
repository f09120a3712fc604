"""Answers to notebooks/exercises/deltas; the book shows them, folded."""

from __future__ import annotations

import numpy as np


def inner_product(B1, A1, B2, A2):
    # tr(X Y) is the sum of X * Y', so no product of the two small matrices is needed either.
    return np.sum((B1.T @ B2) * (A1 @ A2.T))


def norm(B, A, scale):
    return scale * np.sqrt(np.sum((B.T @ B) * (A @ A.T)))


def global_cosine(first, second):
    def inner(one, two):
        return sum(
            np.sum((B1.T @ B2) * (A1 @ A2.T)) for (B1, A1), (B2, A2) in zip(one, two, strict=True)
        )

    lengths = np.sqrt(inner(first, first) * inner(second, second))
    return inner(first, second) / lengths if lengths > 0 else np.nan


def singular_values(B, A):
    # B = Q_B R_B and A' = Q_A R_A, so B A = Q_B (R_B R_A') Q_A'.
    R_B, R_A = np.linalg.qr(B)[1], np.linalg.qr(A.T)[1]
    return np.linalg.svd(R_B @ R_A.T, compute_uv=False)
