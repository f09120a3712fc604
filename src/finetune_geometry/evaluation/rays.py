"""The ray of an adapter: W_base + factor * dW, from the base through the model and beyond.

Where on its ray a training stopped is decided by its length and its schedule. Models that are
compared where each is best on its own ray are compared without that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE, Adapter, load_adapter
from finetune_geometry.evaluation.answers import predict
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.models.teacher_forcing import Row, completion_logprobs
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.keys import answers_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.hub import pinned

FLOOR = 0.05  # a base with a smaller share of right answers leaves a choice to the loss


def along_rays(
    run: Run,
    names: Sequence[str],
    factors: Sequence[float],
    rows: Sequence[Row],
    problems: list[Problem],
) -> pd.DataFrame:
    """Loss and right answers at every factor of every adapter, and of the base at factor 0.

    rows: token ids of held-out prompts and completions, which the loss is measured on.
    problems: answered greedily, unless the base has less than FLOOR of them right.

    Columns: model, factor, loss (nats a token), right, problems (0 where none was answered). A
    killed measurement goes on after the last adapter's last factor.
    """
    model, tokenizer = load_model(run.profile)
    parts = Parts(run, "rays", _key(run, names, problems))
    asked = list(problems)

    def measure() -> NDArray[np.float64]:
        """Loss and number of right answers where the mixture stands."""
        read = completion_logprobs(model, rows)
        loss = -sum(float(row.sum()) for row in read) / sum(map(len, read))
        answers = predict(model, tokenizer, asked, BASE, run.profile) if asked else None
        return np.array([loss, 0 if answers is None else answers["correct"].sum()])

    found = []
    with Mixture(model, _loaded(run, names)) as mixture:

        def at(name: str, factor: float) -> float:
            mixture.set({name: factor} if factor else {})
            ids = [problem.id for problem in asked]
            loss, right = parts.of([name, factor, rows, ids], measure)
            found.append((name, factor, float(loss), int(right), len(asked)))
            return float(right)

        at(BASE, 0.0)
        if found[0][3] < FLOOR * len(asked):
            asked = []
        for name in names:
            for factor in factors:
                if factor:
                    at(name, factor)
    parts.clear()
    return pd.DataFrame(found, columns=["model", "factor", "loss", "right", "problems"])


def best_factors(table: pd.DataFrame) -> pd.Series:
    """Of each adapter of `along_rays` the factor with most right answers, the base's 0 included.

    Of equally good ones the nearest to 1. Where no problem was answered the loss decides.
    """
    base = table[table["model"] == BASE].iloc[0]
    by_answers = table.loc[table["model"] != BASE, "problems"].max() > 0
    chosen = {}
    for name, rows in table[table["model"] != BASE].groupby("model", sort=False):
        rows = pd.concat([rows, base.to_frame().T])
        cost = -rows["right"] if by_answers else rows["loss"]
        near = (rows["factor"] - 1).abs()
        chosen[name] = float(rows["factor"].iloc[np.lexsort((near.astype(float), cost))[0]])
    return pd.Series(chosen, name="factor")


def answers_at(run: Run, factors: Mapping[str, float], problems: list[Problem]) -> pd.DataFrame:
    """Greedy answers of each adapter at its factor; columns as of `answers.predict`."""
    model, tokenizer = load_model(run.profile)
    tables = []
    with Mixture(model, _loaded(run, list(factors))) as mixture:
        for name, factor in factors.items():
            mixture.set({name: factor} if factor else {})
            parts = Parts(run, "rays_answers", [_key(run, [name], problems), factor])
            tables.append(predict(model, tokenizer, problems, name, run.profile, parts))
    parts.clear()
    return pd.concat(tables, ignore_index=True)


def _key(run: Run, names: Sequence[str], problems: Sequence[Problem]) -> str:
    base = pinned(run.profile.model.base, run.profile.model.base_revision)
    folders = [str(run.adapter_dir(name)) for name in names]
    return answers_key(run.profile, [base, *folders], problems)


def _loaded(run: Run, names: Sequence[str]) -> dict[str, Adapter]:
    return {name: load_adapter(run.adapter_dir(name), name) for name in names}
