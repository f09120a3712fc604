"""Checks for notebooks/exercises/deltas: what low-rank products tell without being multiplied out.

A delta is scale * B @ A with B (d_out, r) and A (r, d_in). The definitions are those of
`deltas/lowrank.py` and `geometry/similarity.py`.
"""

from __future__ import annotations

import numpy as np

from finetune_geometry.exercises.asking import (
    Answer,
    Array,
    WrongAnswer,
    ask,
    ask_thinly,
    check,
    judge,
)


def factors(rng: np.random.Generator, d_out: int, d_in: int, r: int) -> tuple[Array, Array]:
    """Gaussian B (d_out, r) and A (r, d_in)."""
    return rng.standard_normal((d_out, r)), rng.standard_normal((r, d_in))


@check(
    "Two r x r matrices are enough. For the paper's q projection that is 2,048 numbers instead of "
    "ten million."
)
def check_inner_product(answer: Answer) -> None:
    """`answer(B1, A1, B2, A2)` to a number, without a matrix of shape (d_out, d_in)."""
    rng = np.random.default_rng(1)
    d_out, d_in = 400, 500
    B1, A1 = factors(rng, d_out, d_in, 3)
    B2, A2 = factors(rng, d_out, d_in, 3)
    left, right = B1.T @ B2, A1 @ A2.T
    mistakes = [
        (
            np.trace(left) * np.trace(right),
            "You multiplied two traces. The trace of a product is not the product of the traces.",
        ),
        (
            np.trace(left @ right),
            "One of your two small matrices is transposed: it is the trace of "
            "(B1' B2)(A2 A1'), where the inner indices belong to the same adapter.",
        ),
        (
            np.sum(B1 * B2) * np.sum(A1 * A2),
            "You multiplied the inner products of the factors. Those change when (B, A) is "
            "rewritten as (B G, G^-1 A), and the delta does not.",
        ),
        (
            np.sum(B1 * B2) + np.sum(A1 * A2),
            "You compared the factors and not the products. The delta is B A.",
        ),
    ]
    found = ask_thinly(answer, B1, A1, B2, A2, entries=d_out * d_in)
    judge(found, np.sum(left * right), mistakes, "For two random adapters of rank 3")


@check("The length of the product needs the angle between the factors, too: |B| |A| is only a "
       "bound.")  # fmt: skip
def check_norm(answer: Answer) -> None:
    """`answer(B, A, scale)` to the Frobenius norm of scale * B @ A, without the full matrix."""
    rng = np.random.default_rng(2)
    d_out, d_in, scale = 300, 600, 2.0
    B, A = factors(rng, d_out, d_in, 4)
    B[:, 1] = 3 * B[:, 0]  # far from orthogonal
    squared = np.sum((B.T @ B) * (A @ A.T))
    norm = scale * np.sqrt(squared)
    bound = np.linalg.norm(B) * np.linalg.norm(A)
    mistakes = [
        (
            scale * bound,
            "You multiplied the norms of the factors. That is an upper bound, reached only if "
            "everything points one way.",
        ),
        (bound, "That is the product of the norms of the factors, and the scale is missing."),
        (
            np.sqrt(squared),
            "The scale is missing: the delta is (alpha / r) B A, and every norm is off by that.",
        ),
        (
            scale**2 * squared,
            "That is the squared norm, the energy. Take the root.",
        ),
        (np.sqrt(scale * squared), "The scale belongs outside the root, or squared inside."),
        (
            scale * np.linalg.svd(np.linalg.qr(B)[1] @ A, compute_uv=False)[0],
            "That is the largest singular value. The Frobenius norm counts all of them.",
        ),
    ]
    found = ask_thinly(answer, B, A, scale, entries=d_out * d_in)
    judge(found, norm, mistakes, "For a delta with scale 2")


@check("The global cosine is a mean weighted by squared lengths, so large modules decide. And the "
       "base has none: an arrow of length zero has no direction.")  # fmt: skip
def check_global_cosine(answer: Answer) -> None:
    """`answer(first, second)`: two lists of (B, A), one pair a module, to a number; NaN for the
    zero delta."""
    rng = np.random.default_rng(3)
    first = [factors(rng, 8, 6, 2) for _ in range(3)]
    second = [(B + 0.5 * rng.standard_normal(B.shape), A) for B, A in first]
    second[2] = (-0.2 * second[2][0], second[2][1])
    one, two = ([B @ A for B, A in modules] for modules in (first, second))
    inner = np.array([np.sum(x * y) for x, y in zip(one, two, strict=True)])
    lengths = np.array([[np.linalg.norm(x) for x in deltas] for deltas in (one, two)])
    cosines = inner / lengths.prod(axis=0)
    mistakes = [
        (
            cosines.mean(),
            "You took the mean of the modules' cosines: you divided by the number of modules. The "
            "global cosine sums inner products and squared norms first and divides once.",
        ),
        (np.median(cosines), "That is the median of the modules' cosines, another number."),
        (
            inner.sum() / lengths.prod(axis=0).sum(),
            "Numerator right, denominator not: sum the squared norms of each adapter, take two "
            "roots, multiply. You summed products of norms.",
        ),
        (
            inner.sum() / (lengths**2).sum(axis=1).prod(),
            "You divided by squared norms. Take the roots.",
        ),
        (
            np.abs(inner).sum() / np.sqrt((lengths**2).sum(axis=1).prod()),
            "You took absolute values. A module that points the other way counts against.",
        ),
        (inner.sum(), "That is the inner product. Divide by both norms."),
    ]
    right = inner.sum() / np.sqrt((lengths**2).sum(axis=1).prod())
    judge(ask(answer, first, second), right, mistakes, "For three modules")
    base = [(np.zeros_like(B), A) for B, A in first]
    try:
        found = ask(answer, first, base)
    except ZeroDivisionError:
        raise WrongAnswer(
            "With the zero delta you divide by zero: return `np.nan` there."
        ) from None
    message = "The base has no direction, so its cosine is not {}: return `np.nan`."
    judge(found, np.nan, [(v, message.format(v)) for v in (0, 1)], "With the zero delta")


@check("Two thin QR decompositions and an SVD of an r x r matrix: exact, and cheap at any width.")
def check_singular_values(answer: Answer) -> None:
    """`answer(B, A)` to the r singular values of B @ A, falling, without the full matrix."""
    rng = np.random.default_rng(4)
    d_out, d_in, r = 300, 400, 4
    B, A = factors(rng, d_out, d_in, r)
    B = B * np.array([1.0, 2.0, 4.0, 8.0])
    of_B, of_A = (np.linalg.svd(X, compute_uv=False) for X in (B, A))
    values = np.linalg.svd(np.linalg.qr(B)[1] @ np.linalg.qr(A.T)[1].T, compute_uv=False)
    mistakes = [
        (
            of_B * of_A,
            "You multiplied the singular values of B with those of A. The two share no singular "
            "vectors, so the product's are others.",
        ),
        (of_B, "Those are the singular values of B. They change with the gauge."),
        (values**2, "Those are the squares: eigenvalues of a Gram matrix. Take the roots."),
        (values[::-1], "Rising order. Singular values are listed from the largest down."),
        (
            np.linalg.svd(np.linalg.qr(B)[1] @ np.linalg.qr(A.T)[1], compute_uv=False),
            "Almost: with A' = Q R the delta's small matrix is R_B R_A', and you left the second "
            "one untransposed.",
        ),
    ]
    found = ask_thinly(answer, B, A, entries=d_out * d_in, shape=(r,))
    judge(found, values, mistakes, "For a delta of rank 4")
