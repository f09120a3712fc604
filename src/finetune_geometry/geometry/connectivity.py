"""Linear mode connectivity: what happens on the straight line between two fine-tuned models.

The line runs through weight space: W(alpha) = W_base + (1 - alpha) dW_a + alpha dW_b. Mixing the
factors A and B instead would be another, curved path, because dW is their product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from finetune_geometry.deltas.adapters import BASE, Point

METRICS = {
    "sft_cross_entropy": "held-out SFT cross-entropy",
    "boxed_cross_entropy": "cross-entropy of the boxed answer",
    "accuracy": "accuracy",
}
CONNECTIVITY_COLUMNS = [
    "a", "b", "level", "module", "layer", "quantity", "metric", "alpha", "value", "low", "high",
]  # fmt: skip

Lines = Mapping[str, Iterable[tuple[str, str]]]
"""Metric -> the pairs of models between which it is measured, whichever comes first in a pair."""

Sums = tuple[np.ndarray, np.ndarray]
"""(sum, count) of each prompt: summed over prompts, then divided, they give the metric."""


@dataclass(frozen=True)
class Score:
    """One model on the tasks, kept row by row so that intervals can resample prompts.

    None where a metric was not measured.
    """

    sft_cross_entropy: Sums | None = None  # nats and tokens, (prompts,)
    boxed_cross_entropy: Sums | None = None  # nats and tokens, (problems,)
    accuracy: Sums | None = None  # right answers and ones, (answered problems,)


def point_on_line(a: str, b: str, alpha: float) -> Point:
    """The model at `alpha` between a (0) and b (1); equal models give equal points."""
    weights = ((a, 1 - alpha), (b, alpha))
    return tuple(sorted((name, w) for name, w in weights if name != BASE and w != 0))


def line_points(
    names: Sequence[str],
    alphas: Sequence[float],
    lines: Iterable[tuple[str, str]] | None = None,
) -> list[Point]:
    """Every distinct model on the lines, end points shared, and `names` themselves.

    lines: pairs of names; None: all pairs.
    """
    own = [point_on_line(name, BASE, 0.0) for name in names]
    inside = [point_on_line(a, b, t) for a, b in _in_order(names, lines) for t in alphas]
    return list(dict.fromkeys([*inside, *own]))


def _in_order(
    names: Sequence[str], lines: Iterable[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    """The lines in the order of all pairs of `names`, each from the name that stands first."""
    every = list(combinations(names, 2))
    if lines is None:
        return every
    wanted = {frozenset(line) for line in lines}
    return [pair for pair in every if frozenset(pair) in wanted]


def rise(alphas: ArrayLike, loss: np.ndarray) -> np.ndarray:
    """loss(alpha) - [(1 - alpha) loss(0) + alpha loss(1)], (..., alphas): 0 at both ends."""
    t = np.asarray(alphas, dtype=float)
    return loss - ((1 - t) * loss[..., :1] + t * loss[..., -1:])


def barrier(alphas: ArrayLike, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The barrier of Frankle et al. (2020), 1912.05671, and the alpha of the largest loss.

    The largest loss on the line, ends included, minus the mean of the two ends: how far the line
    goes above its worse end plus half the gap between the ends, so never below 0. Made for two
    runs of one training, whose ends are equally good. `loss` is (..., alphas), better when lower.
    """
    mean = (loss[..., 0] + loss[..., -1]) / 2
    return loss.max(-1) - mean, np.asarray(alphas)[loss.argmax(-1)]


def height(alphas: ArrayLike, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest height above the straight line between the ends, and the alpha where it stands.

    The barrier in the convention of Entezari et al. (2022), 2110.06296: the largest `rise`, never
    below 0 because the ends count. Equal to `barrier` where the ends are equal; a loss that
    changes evenly from one end to the other has none. `loss` is as for `barrier`.
    """
    above = rise(alphas, loss)
    return above.max(-1), np.asarray(alphas)[above.argmax(-1)]


def connectivity_table(
    scores: Mapping[Point, Score],
    names: Sequence[str],
    alphas: Sequence[float],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    vocabulary: int | None = None,
    lines: Lines | None = None,
) -> pd.DataFrame:
    """Curves, heights and barriers on the lines (None: between all pairs); columns
    CONNECTIVITY_COLUMNS.

    `quantity` is `curve`, the metric at each alpha; `rise`, of the loss above the straight line
    between its ends; `height`, the largest rise; `barrier`, Frankle's (see the functions; `alpha`:
    where they are); `midpoint`, the rise at one half, which unlike the height can be negative; or
    `overshoot`, how far the loss goes above its worse end, 0 for a monotone curve.
    For accuracy the loss is the error rate. low and high: percentile bootstrap over prompts, the
    same resampled prompts at every alpha, because all models share the prompts.

    One row a model: `end`, the metric of model `a` itself (`b` is the base, `alpha` 0). Given
    `vocabulary`, the number of tokens to choose from, one row for each cross-entropy: `blind`, the
    log of that number, in nats: the cost of a guess that gives each token the same probability.
    """
    t = np.asarray(alphas, dtype=float)
    tail = [(1 - confidence) / 2, (1 + confidence) / 2]
    halfway = np.array([np.interp(0.5, t, line) for line in np.eye(len(t))])
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []

    def row(
        a: str, b: str, quantity: str, metric: str, alpha: float, values: np.ndarray
    ) -> tuple[Any, ...]:
        """A row of the table from the measured value, first, and the resampled ones."""
        low, high = np.quantile(values[1:], tail)
        return (a, b, "global", "", -1, quantity, metric, alpha, values[0], low, high)

    for metric in (field.name for field in fields(Score)):
        measured = {p: sums for p, s in scores.items() if (sums := getattr(s, metric)) is not None}
        prompts = len(next(iter(measured.values()))[0])
        # First line: every prompt once, the measured value; then the resampled ones.
        times = rng.multinomial(prompts, np.full(prompts, 1 / prompts), draws)
        times = np.vstack([np.ones(prompts), times])
        resampled = {
            point: (times @ total) / (times @ count) for point, (total, count) in measured.items()
        }
        for a, b in _in_order(names, None if lines is None else lines[metric]):
            curve = np.stack([resampled[point_on_line(a, b, x)] for x in t], -1)
            loss = 1 - curve if metric == "accuracy" else curve
            frankle, highest = barrier(t, loss)
            largest, where = height(t, loss)
            excess = rise(t, loss)
            above = loss.max(-1) - np.maximum(loss[:, 0], loss[:, -1])
            found = [("curve", x, curve[:, i]) for i, x in enumerate(t)]
            found += [("rise", x, excess[:, i]) for i, x in enumerate(t)]
            found += [
                ("height", where[0], largest),
                ("barrier", highest[0], frankle),
                ("midpoint", 0.5, excess @ halfway),
                ("overshoot", highest[0], above),
            ]
            rows += [row(a, b, quantity, metric, *rest) for quantity, *rest in found]
        for name in names:
            end = resampled[point_on_line(name, BASE, 0.0)]
            rows.append(row(name, BASE, "end", metric, 0.0, end))
        if vocabulary is not None and metric != "accuracy":
            rows.append(row(BASE, BASE, "blind", metric, 0.0, np.full(2, np.log(vocabulary))))
    return pd.DataFrame(rows, columns=CONNECTIVITY_COLUMNS)
