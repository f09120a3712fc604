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

from finetune_geometry.deltas import BASE
from finetune_geometry.generation import generate, prompt_ids
from finetune_geometry.mixture import Mixture, Point
from finetune_geometry.problems import Problem
from finetune_geometry.rewards import is_correct
from finetune_geometry.teacher_forcing import Row, completion_logprobs

METRICS = {
    "sft_cross_entropy": "held-out SFT cross-entropy",
    "boxed_cross_entropy": "cross-entropy of the boxed answer",
    "accuracy": "accuracy",
}
COLUMNS = ["a", "b", "module", "layer", "quantity", "metric", "alpha", "value", "low", "high"]


@dataclass(frozen=True)
class Tasks:
    """What every point of every line is measured on: the same rows and problems throughout."""

    rows: list[Row]  # held-out rollouts, right and wrong ones
    groups: list[int]  # the prompt of each row: rows of one prompt are resampled together
    prompts: list[list[int]]  # of the problems
    boxes: list[list[int]]  # token ids of \boxed{gold answer}
    answers: list[str]  # gold answers of the first problems, those to be answered in full
    max_new_tokens: int


def spread_rows(rollouts: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rollouts over as many prompts as there are: first one of each prompt, then a second.

    Whether a rollout is right plays no part. Columns `sample` and `group` say which is which.
    """
    return rollouts.sort_values(["sample", "group"], kind="stable").head(count)


def make_tasks(
    tokenizer: Any,
    heldout: pd.DataFrame,
    problems: Sequence[Problem],
    answered: int,
    max_new_tokens: int,
) -> Tasks:
    """Tasks from held-out rollouts (columns prompt, prompt_ids, completion_ids) and problems.

    answered: how many of the problems are answered in full. Reading a box is several times as fast.
    """
    return Tasks(
        rows=[
            (list(p), list(c))
            for p, c in zip(heldout["prompt_ids"], heldout["completion_ids"], strict=True)
        ],
        groups=pd.factorize(heldout["prompt"])[0].tolist(),
        prompts=[prompt_ids(tokenizer, p.question) for p in problems],
        boxes=[
            tokenizer.encode(f"\\boxed{{{p.answer}}}", add_special_tokens=False) for p in problems
        ],
        answers=[p.answer for p in problems[:answered]],
        max_new_tokens=max_new_tokens,
    )


@dataclass(frozen=True)
class Score:
    """One model on the tasks, kept row by row so that intervals can resample prompts.

    Each pair is (sum, count): summed over prompts, then divided, they give the metric.
    """

    sft_cross_entropy: tuple[np.ndarray, np.ndarray]  # nats and tokens, (prompts,)
    boxed_cross_entropy: tuple[np.ndarray, np.ndarray]  # nats and tokens, (problems,)
    accuracy: tuple[np.ndarray, np.ndarray]  # right answers and ones, (answered problems,)


def score(mixture: Mixture, tokenizer: Any, tasks: Tasks, points: Sequence[Point]) -> list[Score]:
    """The three metrics of several models at once: every forward pass holds rows of all of them."""

    def repeated(items: Sequence[Any]) -> list[Any]:
        """The items once for each point, and the points to go with them."""
        mixture.assign([point for point in points for _ in items])
        return list(items) * len(points)

    def split(values: Sequence[Any]) -> list[Sequence[Any]]:
        """Values of `repeated` items as one list for each point."""
        size = len(values) // len(points)
        return [values[i * size : (i + 1) * size] for i in range(len(points))]

    model, select = mixture.model, mixture.select
    rollouts = split(completion_logprobs(model, repeated(tasks.rows), on_rows=select))
    asked = list(zip(tasks.prompts, tasks.boxes, strict=True))
    boxes = split(completion_logprobs(model, repeated(asked), on_rows=select))
    prompts, limit = repeated(tasks.prompts[: len(tasks.answers)]), tasks.max_new_tokens
    answers = split(
        generate(model, tokenizer, prompts, max_new_tokens=limit, batch_size=128, on_rows=select)
    )
    groups = np.asarray(tasks.groups)
    scores = []
    for read, boxed, answered in zip(rollouts, boxes, answers, strict=True):
        texts = tokenizer.batch_decode(answered, skip_special_tokens=True)
        right = [is_correct(t, a) for t, a in zip(texts, tasks.answers, strict=True)]
        scores.append(
            Score(
                sft_cross_entropy=(
                    np.bincount(groups, weights=[-row.sum() for row in read]),
                    np.bincount(groups, weights=[len(row) for row in read]),
                ),
                boxed_cross_entropy=(
                    np.array([-row.sum() for row in boxed]),
                    np.array([float(len(row)) for row in boxed]),
                ),
                accuracy=(np.array(right, dtype=float), np.ones(len(right))),
            )
        )
    return scores


def point_on_line(a: str, b: str, alpha: float) -> Point:
    """The model at `alpha` between a (0) and b (1); equal models give equal points."""
    weights = ((a, 1 - alpha), (b, alpha))
    return tuple(sorted((name, w) for name, w in weights if name != BASE and w != 0))


def line_points(names: Sequence[str], alphas: Sequence[float]) -> list[Point]:
    """Every distinct model on the lines between all pairs: end points are shared."""
    lines = combinations(names, 2)
    return list(dict.fromkeys(point_on_line(a, b, t) for a, b in lines for t in alphas))


def score_points(
    mixture: Mixture, tokenizer: Any, tasks: Tasks, points: Iterable[Point], at_once: int = 12
) -> dict[Point, Score]:
    """`score` at every point, up to `at_once` together. This is where the time goes.

    Points of the same adapters go together: a batch then holds few factors.
    """
    scores: dict[Point, Score] = {}
    by_adapters: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        by_adapters.setdefault(tuple(name for name, _ in point), []).append(point)
    for group in by_adapters.values():
        for start in range(0, len(group), at_once):
            part = group[start : start + at_once]
            scores |= zip(part, score(mixture, tokenizer, tasks, part), strict=True)
    mixture.set({})
    return scores


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
) -> pd.DataFrame:
    """Curves, heights and barriers of all pairs of `names`; columns COLUMNS.

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
        return (a, b, "global", -1, quantity, metric, alpha, values[0], low, high)

    for metric in (field.name for field in fields(Score)):
        prompts = len(getattr(next(iter(scores.values())), metric)[0])
        # First line: every prompt once, the measured value; then the resampled ones.
        times = rng.multinomial(prompts, np.full(prompts, 1 / prompts), draws)
        times = np.vstack([np.ones(prompts), times])
        resampled = {
            point: (times @ getattr(s, metric)[0]) / (times @ getattr(s, metric)[1])
            for point, s in scores.items()
        }
        for a, b in combinations(names, 2):
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
    return pd.DataFrame(rows, columns=COLUMNS)
