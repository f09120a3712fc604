"""Checks for notebooks/exercises/subspaces: angles, orthogonal fractions and what chance gives.

The definitions are those of `geometry/subspaces.py`, `geometry/similarity.py` and
`geometry/nulls.py`. Angles are in degrees here, as in the figures.
"""

from __future__ import annotations

import numpy as np

from finetune_geometry.exercises.asking import Answer, Array, WrongAnswer, ask, check, judge


def at_angles(degrees: list[float], d: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two bases (d, k), not orthonormal, of subspaces with these principal angles; 2k <= d."""
    k, angles = len(degrees), np.radians(degrees)
    frame = np.linalg.qr(rng.standard_normal((d, 2 * k)))[0]
    u, w = frame[:, :k], frame[:, k:]
    v = u * np.cos(angles) + w * np.sin(angles)
    mixed = [rng.standard_normal((k, k)) + 3 * np.eye(k) for _ in range(2)]
    return u @ mixed[0], v @ mixed[1]


@check("Orthonormalise, multiply, take singular values, clip, arccos. Only the subspaces count, "
       "not the vectors that happened to span them.")  # fmt: skip
def check_principal_angles(answer: Answer) -> None:
    """`answer(U, V)`: two bases (d, k) with independent columns to k angles in degrees, rising."""
    degrees = [10.0, 40.0, 75.0]
    U, V = at_angles(degrees, 20, np.random.default_rng(5))
    raw = np.linalg.svd(U.T @ V, compute_uv=False)
    unit = [X / np.linalg.norm(X, axis=0) for X in (U, V)]
    scaled = np.linalg.svd(unit[0].T @ unit[1], compute_uv=False)
    right = np.array(degrees)
    mistakes = [
        (
            np.degrees(np.arccos(np.clip(raw, -1, 1))),
            "You took the singular values of U' V as they came. The columns need not be "
            "orthonormal: replace each basis by the Q of its QR decomposition.",
        ),
        (
            np.degrees(np.arccos(np.clip(scaled, -1, 1))),
            "You made the columns unit vectors. They must also be at right angles to each other: "
            "use the Q of a QR decomposition.",
        ),
        (np.radians(right), "Those are radians. The figures have degrees."),
        (right[::-1], "Falling. The smallest angle comes first."),
        (np.cos(np.radians(right)), "Those are the cosines. Take the arccos."),
        (np.degrees(np.arcsin(np.cos(np.radians(right)))), "You took the arcsine of the cosines."),
    ]
    judge(ask(answer, U, V, shape=(3,)), right, mistakes, "For angles of 10, 40 and 75 degrees")
    for seed in range(20):  # some of them round above 1
        same = np.random.default_rng(seed).standard_normal((20, 3))
        found = ask(answer, same, same[:, ::-1], shape=(3,))
        if np.isnan(found).any():
            raise WrongAnswer(
                "For one subspace with itself a cosine comes out a little above 1 by rounding, "
                "and its arccos is NaN. Clip to 1 before the arccos."
            )
        if np.max(np.abs(found)) > 1e-3:
            raise WrongAnswer("A subspace has angle 0 with itself, in whatever order its columns.")


@check("A share of the length, sqrt(1 - cos^2). As energy it is the square; say which you mean.")
def check_orthogonal_fraction(answer: Answer) -> None:
    """`answer(delta, reference)`: two arrays of one shape to |rest| / |delta|."""
    rng = np.random.default_rng(6)
    reference = 3 * rng.standard_normal((5, 4))
    delta = 0.1 * reference + rng.standard_normal((5, 4))
    inner, squared = np.sum(delta * reference), np.sum(reference**2)
    length = np.linalg.norm(delta)
    cosine = inner / (length * np.sqrt(squared))
    right = np.sqrt(1 - cosine**2)
    mistakes = [
        (
            1 - cosine**2,
            "That is the share of the energy. The task asks for the share of the length, its root.",
        ),
        (1 - abs(cosine), "One minus the cosine is no share of anything. Use Pythagoras."),
        (cosine, "That is the cosine. The orthogonal part is what the cosine leaves."),
        (abs(cosine), "That is the share along the reference. Take what is left of the delta."),
        (
            np.linalg.norm(delta - inner * reference) / length,
            "You projected as if the reference had length 1. Divide the inner product by the "
            "reference's squared norm.",
        ),
        (
            np.linalg.norm(delta - inner / np.sqrt(squared) * reference) / length,
            "You divided by the reference's norm once. The projection needs the squared norm: once "
            "for the coefficient, once for the direction.",
        ),
        (right * length, "That is the length of the rest. Divide by the length of the delta."),
    ]
    judge(ask(answer, delta, reference), right, mistakes, "For two random deltas")


@check("Left means output directions: the projector stands on the left of the matrix.")
def check_outside_subspace(answer: Answer) -> None:
    """`answer(delta, basis)`: (d, d) and orthonormal (d, k) to the share of the energy of `delta`
    that is written outside the span of `basis`."""
    rng = np.random.default_rng(7)
    delta = rng.standard_normal((6, 6)) * np.arange(1, 7)
    basis = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    energy = np.sum(delta**2)
    inside = np.sum((basis.T @ delta) ** 2) / energy
    mistakes = [
        (
            1 - np.sum((delta @ basis) ** 2) / energy,
            "You projected from the right, onto input directions. The left subspace holds output "
            "directions: project the columns of the delta.",
        ),
        (np.sqrt(1 - inside), "That is the share of the length. The task asks for the energy."),
        (inside, "That is the share inside the subspace. Take one minus it."),
        (
            np.linalg.norm(delta - basis @ (basis.T @ delta)),
            "That is a length. Square it and divide by the energy of the delta.",
        ),
    ]
    judge(ask(answer, delta, basis), 1 - inside, mistakes, "For a delta and two directions")


@check("Chance is far from 90 degrees when the subspaces fill much of the space. Compute it for "
       "the shapes at hand before you call an angle small.")  # fmt: skip
def check_chance_angle(answer: Answer) -> None:
    """`answer(d, k, draws, seed)` to the median, in degrees, of the smallest principal angle of two
    random k-dimensional subspaces of R^d."""
    for d, k in ((64, 4), (40, 10)):
        angles = _random_angles(d, k, centred=True)
        right = float(np.median(angles[:, 0]))
        skewed = float(np.median(_random_angles(d, k, centred=False)[:, 0]))
        found = ask(answer, d, k, 200, 0)
        if abs(found - right) < 1.5:  # several standard errors of a median of 200 draws
            continue
        known = (
            (
                skewed,
                "Your random vectors have a common direction: uniform numbers from 0 to 1 are all "
                "positive. Draw Gaussians, whose directions are uniform.",
            ),
            (float(np.median(angles[:, -1])), "That is the largest angle. Chance alone makes it "
             "about 90 degrees, so it tells nothing."),
            (float(angles.mean()), "That is the mean of all k angles. The smallest is far lower."),
            (np.radians(right), "Those are radians."),
        )  # fmt: skip
        for value, message in known:
            if abs(found - value) < min(1.5, 0.2 * value):
                raise WrongAnswer(message)
        raise WrongAnswer(
            f"For d = {d} and k = {k}: yours is {float(found):.1f} degrees, the median of many "
            f"draws is {right:.1f}."
        )


def _random_angles(d: int, k: int, *, centred: bool) -> Array:
    """Principal angles in degrees, (200, k), rising; uniform entries unless `centred`."""
    rng = np.random.default_rng(8)
    draw = rng.standard_normal if centred else rng.random
    u, v = (np.linalg.qr(draw((200, d, k)))[0] for _ in range(2))
    cosines = np.linalg.svd(np.swapaxes(u, 1, 2) @ v, compute_uv=False)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))
