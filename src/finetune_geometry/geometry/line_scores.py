"""Models on the straight lines between fine-tuned ones: what they are measured on, and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import Point
from finetune_geometry.geometry.connectivity import METRICS, Score, Sums
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.continuous import by_pages, complete
from finetune_geometry.models.device import enough_memory
from finetune_geometry.models.generation import generate
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.models.teacher_forcing import Row, completion_logprobs
from finetune_geometry.problems.answer_check import is_correct
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.parts import Parts
from finetune_geometry.settings.sections import Prompt

READ_TOKENS = 32  # positions of one forward pass that reads, for each row of one that writes


@dataclass(frozen=True)
class Tasks:
    """What every point of every line is measured on: the same rows and problems throughout."""

    rows: list[Row]  # held-out rollouts, right and wrong ones
    groups: list[int]  # the prompt of each row: rows of one prompt are resampled together
    prompts: list[list[int]]  # of the problems
    boxes: list[list[int]]  # token ids of \boxed{gold answer}
    answers: list[str]  # gold answers of the first problems, those to be answered in full
    max_new_tokens: int
    batch_size: int  # answers written together


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
    prompt: Prompt,
    batch_size: int,
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
        prompts=[prompt_ids(tokenizer, p.question, prompt) for p in problems],
        boxes=[
            tokenizer.encode(f"\\boxed{{{p.answer}}}", add_special_tokens=False) for p in problems
        ],
        answers=[p.answer for p in problems[:answered]],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )


def score(
    mixture: Mixture, tokenizer: Any, tasks: Tasks, points: Sequence[Point], metric: str
) -> list[Sums]:
    """One metric of several models at once: every forward pass holds rows of all of them.

    On a GPU they answer one after another: see `continuous`.
    """

    def repeated(items: Sequence[Any]) -> list[Any]:
        """The items once for each point, and the points to go with them."""
        mixture.assign([point for point in points for _ in items])
        return list(items) * len(points)

    def split(values: list[Any]) -> list[list[Any]]:
        """Values of `repeated` items as one list for each point."""
        size = len(values) // len(points)
        return [values[i * size : (i + 1) * size] for i in range(len(points))]

    model, select = mixture.model, mixture.select
    tokens = READ_TOKENS * tasks.batch_size
    if metric == "sft_cross_entropy":
        groups = np.asarray(tasks.groups)
        read = completion_logprobs(model, repeated(tasks.rows), tokens, on_rows=select)
        return [
            (
                np.bincount(groups, weights=[-row.sum() for row in part]),
                np.bincount(groups, weights=[len(row) for row in part]),
            )
            for part in split(read)
        ]
    if metric == "boxed_cross_entropy":
        asked = list(zip(tasks.prompts, tasks.boxes, strict=True))
        read = completion_logprobs(model, repeated(asked), tokens, on_rows=select)
        return [
            (np.array([-row.sum() for row in part]), np.array([float(len(row)) for row in part]))
            for part in split(read)
        ]
    prompts, limit = tasks.prompts[: len(tasks.answers)], tasks.max_new_tokens
    answered: list[list[list[int]]] = []
    if not by_pages(model):
        written = generate(
            model, tokenizer, repeated(prompts), max_new_tokens=limit,
            batch_size=tasks.batch_size, on_rows=select,
        )  # fmt: skip
        answered += split(written)
    else:  # continuous batching packs the rows of a pass: all stand at one point
        for point in points:
            mixture.set(dict(point))
            written = complete(
                model, tokenizer, prompts, max_new_tokens=limit, batch_size=tasks.batch_size
            )
            answered.append(written)
    scores = []
    for part in answered:
        texts = tokenizer.batch_decode(part, skip_special_tokens=True)
        right = [is_correct(t, a) for t, a in zip(texts, tasks.answers, strict=True)]
        scores.append((np.array(right, dtype=float), np.ones(len(right))))
    return scores


def score_points(
    mixture: Mixture,
    tokenizer: Any,
    tasks: Tasks,
    points: Iterable[Point] | Mapping[str, Iterable[Point]],
    at_once: int = 12,
    parts: Parts | None = None,
) -> dict[Point, Score]:
    """`score` at every point, up to `at_once` together. This is where the time goes.

    points: by metric, or the same for all three. Those of the same adapters go together: a batch
    then holds few factors. The last digits of a point depend on those beside it in a batch, hence
    on no line between other adapters.
    parts: where those measured together are kept, so that a killed measurement goes on.
    """
    by_metric = points
    if not isinstance(by_metric, Mapping):
        everywhere = list(by_metric)
        by_metric = dict.fromkeys(METRICS, everywhere)
    scores: dict[Point, dict[str, Sums]] = {}
    for metric, wanted in by_metric.items():
        by_adapters: dict[tuple[str, ...], list[Point]] = {}
        for point in wanted:
            by_adapters.setdefault(tuple(name for name, _ in point), []).append(point)
        for group in by_adapters.values():
            for start in range(0, len(group), at_once):
                part = group[start : start + at_once]

                def measure(part: list[Point] = part, metric: str = metric) -> NDArray[Any]:
                    with enough_memory("evaluation.batch_size", tasks.batch_size):
                        return np.array(score(mixture, tokenizer, tasks, part, metric))

                decided_by = [metric, part, asdict(tasks)]
                found = measure() if parts is None else parts.of(decided_by, measure)
                for point, (sums, counts) in zip(part, found, strict=True):
                    scores.setdefault(point, {})[metric] = sums, counts
    mixture.set({})
    return {point: Score(**found) for point, found in scores.items()}
