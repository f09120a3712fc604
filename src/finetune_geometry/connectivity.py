"""Linear mode connectivity: what happens on the straight line between two fine-tuned models.

The line runs through weight space: W(alpha) = W_base + (1 - alpha) dW_a + alpha dW_b. Mixing the
factors A and B instead would be another, curved path, because dW is their product. Nothing is
merged either: each changed module adds its low-rank update to its output, in fp32, so that no
rounding of the base weights can hide a small delta.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from finetune_geometry.deltas import BASE, LowRankDelta
from finetune_geometry.generation import generate, prompt_ids
from finetune_geometry.problems import Problem
from finetune_geometry.profiles import UserError
from finetune_geometry.rewards import is_correct
from finetune_geometry.teacher_forcing import Row, completion_logprobs

METRICS = {
    "sft_cross_entropy": "held-out SFT cross-entropy",
    "boxed_cross_entropy": "cross-entropy of the boxed answer",
    "accuracy": "accuracy",
}
COLUMNS = ["a", "b", "module", "layer", "quantity", "metric", "alpha", "value", "low", "high"]


class Mixture:
    """A base model that can stand anywhere in the space which a few adapters span.

    `set({"sft": 0.3, "dpo": 0.7})` gives W_base + 0.3 dW_sft + 0.7 dW_dpo, exactly linear in the
    deltas. Names that are not given, and the name `base`, count 0; with no weight left the model
    is the base, bit for bit. `remove()`, or leaving the `with` block, gives the model back.

    Raises UserError where an adapter does not fit the model.
    """

    def __init__(self, model: Any, adapters: Mapping[str, Mapping[str, LowRankDelta]]) -> None:
        self.model = model
        self._factors: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        self._active: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for name, adapter in adapters.items():
            self._factors[name] = {
                module: _factors(model, name, module, delta) for module, delta in adapter.items()
            }
        changed = dict.fromkeys(m for factors in self._factors.values() for m in factors)
        self._hooks = [
            model.get_submodule(module).register_forward_hook(self._hook(module))
            for module in changed
        ]

    def set(self, weights: Mapping[str, float]) -> None:
        """Move the model to W_base + sum of weight * dW."""
        unknown = set(weights) - set(self._factors) - {BASE}
        if unknown:
            raise UserError(
                f"no adapter {sorted(unknown)[0]!r}: interpolation: "
                f"the loaded ones are {', '.join(self._factors)}"
            )
        parts: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for name, weight in weights.items():
            if name != BASE and weight != 0:
                for module, (a, b) in self._factors[name].items():
                    parts.setdefault(module, []).append((a, weight * b))
        # Factors side by side: two thin products a module, however many adapters are mixed.
        self._active = {
            module: (torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 0))
            for module, pairs in parts.items()
        }

    def remove(self) -> None:
        """Take the hooks off: the model is the base again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> Mixture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _hook(self, module: str) -> Any:
        def add_delta(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            if module not in self._active:
                return None
            a, b = self._active[module]
            return output + ((inputs[0].to(a.dtype) @ a) @ b).to(output.dtype)

        return add_delta


def _factors(
    model: Any, name: str, module: str, delta: LowRankDelta
) -> tuple[torch.Tensor, torch.Tensor]:
    """(d_in, r) and (r, d_out) in fp32 on the module's device, the scale in the second."""
    try:
        layer = model.get_submodule(module)
    except AttributeError:
        layer = None
    if not isinstance(layer, torch.nn.Linear) or tuple(layer.weight.shape) != delta.shape:
        found = "nothing of that name" if layer is None else str(layer)
        raise UserError(
            f"adapter {name!r} changes {module} {delta.shape}, where the model has {found}: "
            "interpolation: load the base model that the adapter was trained on"
        )
    a = torch.as_tensor(delta.A.T, dtype=torch.float32)
    b = torch.as_tensor(delta.scale * delta.B.T, dtype=torch.float32)
    return a.to(layer.weight.device), b.to(layer.weight.device)


@dataclass(frozen=True)
class Tasks:
    """What every point of every line is measured on: the same rows and problems throughout."""

    rows: list[Row]  # held-out rollouts, right and wrong ones
    groups: list[int]  # the prompt of each row: rows of one prompt are resampled together
    problems: list[Problem]
    prompts: list[list[int]]  # of the problems
    boxes: list[list[int]]  # token ids of \boxed{gold answer}
    max_new_tokens: int


def spread_rows(rollouts: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rollouts over as many prompts as there are: first one of each prompt, then a second.

    Whether a rollout is right plays no part. Columns `sample` and `group` say which is which.
    """
    return rollouts.sort_values(["sample", "group"], kind="stable").head(count)


def make_tasks(
    tokenizer: Any, heldout: pd.DataFrame, problems: Sequence[Problem], max_new_tokens: int
) -> Tasks:
    """Tasks from held-out rollouts (columns prompt, prompt_ids, completion_ids) and problems."""
    return Tasks(
        rows=[
            (list(p), list(c))
            for p, c in zip(heldout["prompt_ids"], heldout["completion_ids"], strict=True)
        ],
        groups=pd.factorize(heldout["prompt"])[0].tolist(),
        problems=list(problems),
        prompts=[prompt_ids(tokenizer, p.question) for p in problems],
        boxes=[
            tokenizer.encode(f"\\boxed{{{p.answer}}}", add_special_tokens=False) for p in problems
        ],
        max_new_tokens=max_new_tokens,
    )


@dataclass(frozen=True)
class Score:
    """One model on the tasks, kept row by row so that intervals can resample prompts.

    Each pair is (sum, count): summed over prompts, then divided, they give the metric.
    """

    sft_cross_entropy: tuple[np.ndarray, np.ndarray]  # nats and tokens, (prompts,)
    boxed_cross_entropy: tuple[np.ndarray, np.ndarray]  # nats and tokens, (problems,)
    accuracy: tuple[np.ndarray, np.ndarray]  # right answers and ones, (problems,)


def score(model: Any, tokenizer: Any, tasks: Tasks) -> Score:
    """The three metrics of one model: held-out rollouts, boxed answers, greedy answers."""
    rollouts = completion_logprobs(model, tasks.rows)
    boxes = completion_logprobs(model, list(zip(tasks.prompts, tasks.boxes, strict=True)))
    answers = generate(model, tokenizer, tasks.prompts, max_new_tokens=tasks.max_new_tokens)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    right = [is_correct(t, p.answer) for t, p in zip(texts, tasks.problems, strict=True)]
    groups = np.asarray(tasks.groups)
    return Score(
        sft_cross_entropy=(
            np.bincount(groups, weights=[-row.sum() for row in rollouts]),
            np.bincount(groups, weights=[len(row) for row in rollouts]),
        ),
        boxed_cross_entropy=(
            np.array([-row.sum() for row in boxes]),
            np.array([float(len(row)) for row in boxes]),
        ),
        accuracy=(np.array(right, dtype=float), np.ones(len(right))),
    )


Point = tuple[tuple[str, float], ...]
"""A model of the mixture: (adapter, weight) pairs; the empty point is the base."""


def point_on_line(a: str, b: str, alpha: float) -> Point:
    """The model at `alpha` between a (0) and b (1); equal models give equal points."""
    weights = ((a, 1 - alpha), (b, alpha))
    return tuple(sorted((name, w) for name, w in weights if name != BASE and w != 0))


def line_points(names: Sequence[str], alphas: Sequence[float]) -> list[Point]:
    """Every distinct model on the lines between all pairs: end points are shared."""
    lines = combinations(names, 2)
    return list(dict.fromkeys(point_on_line(a, b, t) for a, b in lines for t in alphas))


def score_points(
    mixture: Mixture, tokenizer: Any, tasks: Tasks, points: Iterable[Point]
) -> dict[Point, Score]:
    """`score` at every point. This is where the time goes."""
    scores = {}
    for point in points:
        mixture.set(dict(point))
        scores[point] = score(mixture.model, tokenizer, tasks)
    mixture.set({})
    return scores


def barrier(alphas: ArrayLike, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the barrier and the alpha where it stands (Frankle et al. 2020, 1912.05671).

    max over alpha of loss(alpha) - [(1 - alpha) loss(0) + alpha loss(1)], never below 0 because
    the end points count. `loss` is (..., alphas), a quantity that is better when lower.
    """
    t = np.asarray(alphas, dtype=float)
    excess = loss - ((1 - t) * loss[..., :1] + t * loss[..., -1:])
    return excess.max(-1), t[excess.argmax(-1)]


def connectivity_table(
    scores: Mapping[Point, Score],
    names: Sequence[str],
    alphas: Sequence[float],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Curves and barriers of all pairs of `names`; columns COLUMNS.

    `quantity` is `curve`, the metric at each alpha; `barrier`, see there (`alpha`: where it is);
    `midpoint`, loss at one half minus the mean of both ends, which unlike the barrier can be
    negative; or `overshoot`, how far the loss rises above its worse end, 0 for a monotone curve.
    For accuracy the loss is the error rate. low and high: percentile bootstrap over prompts, the
    same resampled prompts at every alpha, because all models share the prompts.
    """
    t = np.asarray(alphas, dtype=float)
    tail = [(1 - confidence) / 2, (1 + confidence) / 2]
    halfway = np.array([np.interp(0.5, t, line) for line in np.eye(len(t))])
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
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
            height, where = barrier(t, loss)
            middle = loss @ halfway - (loss[:, 0] + loss[:, -1]) / 2
            above = loss.max(-1) - np.maximum(loss[:, 0], loss[:, -1])
            found = [("curve", x, curve[:, i]) for i, x in enumerate(t)]
            found += [
                ("barrier", where[0], height),
                ("midpoint", 0.5, middle),
                ("overshoot", t[loss[0].argmax()], above),
            ]
            for quantity, alpha, values in found:
                low, high = np.quantile(values[1:], tail)
                rows.append((a, b, "global", -1, quantity, metric, alpha, values[0], low, high))
    return pd.DataFrame(rows, columns=COLUMNS)
