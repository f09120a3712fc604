"""The ray of an adapter: W_base + factor * dW, from the base through the model and beyond.

Where on its ray a training stopped is decided by its length and its schedule. Models that are
compared where each is best on its own ray are compared without that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE, Adapter, Point, load_adapter
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


def measure_points(
    run: Run,
    adapters: Mapping[str, Adapter],
    points: Mapping[str, Point],
    rows: Sequence[Row],
    problems: list[Problem],
    kept: str,
) -> pd.DataFrame:
    """Loss and right answers of models that are sums of adapters, and of the base.

    adapters: by the names that the points use.
    points: what each model is called -> (adapter, weight) pairs.
    rows: token ids of held-out prompts and completions, which the loss is measured on.
    problems: answered greedily, unless the base has less than FLOOR of them right.
    kept: folder of parts, by which a killed measurement goes on; one for each measurement.

    The base first. Columns: model, loss (nats a token), right, problems (0 if none was answered).
    """
    model, tokenizer = load_model(run.profile)
    base = pinned(run.profile.model.base, run.profile.model.base_revision)
    parts = Parts(run, kept, answers_key(run.profile, [base], problems))
    asked = list(problems)

    def measure() -> NDArray[np.float64]:
        """Loss and number of right answers where the mixture stands."""
        read = completion_logprobs(model, rows)
        loss = -sum(float(row.sum()) for row in read) / sum(map(len, read))
        answers = predict(model, tokenizer, asked, BASE, run.profile) if asked else None
        return np.array([loss, 0 if answers is None else answers["correct"].sum()])

    found = []
    with Mixture(model, adapters) as mixture:
        for name, point in {BASE: (), **points}.items():
            mixture.set(dict(point))
            ids = [problem.id for problem in asked]
            made_of = [[part, weight, fingerprint(adapters[part])] for part, weight in point]
            loss, right = parts.of([made_of, rows, ids], measure)
            found.append((name, float(loss), int(right), len(asked)))
            if name == BASE and right < FLOOR * len(asked):
                asked = []
    parts.clear()
    return pd.DataFrame(found, columns=["model", "loss", "right", "problems"])


def fingerprint(adapter: Adapter) -> str:
    """SHA-256 of an adapter's factors."""
    digest = hashlib.sha256()
    for module, delta in adapter.items():
        digest.update(module.encode())
        for factor in (delta.scale * delta.B, delta.A):
            digest.update(np.ascontiguousarray(factor).tobytes())
    return digest.hexdigest()


def along_rays(
    run: Run,
    names: Sequence[str],
    factors: Sequence[float],
    rows: Sequence[Row],
    problems: list[Problem],
    kept: str = "rays",
) -> pd.DataFrame:
    """`measure_points` at every factor of every adapter, and at the base as factor 0.

    Columns: model, factor, loss, right, problems.
    """
    factor_of = {
        f"{name} {factor!r}": (name, factor) for name in names for factor in factors if factor
    }
    points: dict[str, Point] = {text: (pair,) for text, pair in factor_of.items()}
    table = measure_points(run, _loaded(run, names), points, rows, problems, kept)
    both = [factor_of.get(str(text), (BASE, 0.0)) for text in table["model"]]
    table["model"] = [name for name, _ in both]
    table.insert(1, "factor", [factor for _, factor in both])
    return table


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
