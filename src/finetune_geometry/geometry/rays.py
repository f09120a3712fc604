"""Models that are sums of adapters: along the ray of one, or made of parts of several.

The ray of an adapter, W_base + factor * dW, runs from the base through the model and beyond. Where
on it a training stopped is decided by its length and its schedule. Models that are compared where
each is best on its own ray are compared without that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE, Adapter, Point, load_adapter
from finetune_geometry.evaluation.answers import predict
from finetune_geometry.evaluation.choice import FLOOR
from finetune_geometry.geometry.connectivity import Sums
from finetune_geometry.geometry.line_scores import make_tasks, score_points
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.keys import answers_key, models_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.hub import pinned


def measure_points(
    run: Run,
    adapters: Mapping[str, Adapter],
    points: Mapping[str, Point],
    heldout: pd.DataFrame,
    problems: list[Problem],
    kept: str,
) -> pd.DataFrame:
    """Loss and right answers of models that are sums of adapters, and of the base.

    adapters: by the names that the points use.
    points: what each model is called -> (adapter, weight) pairs.
    heldout: rollouts that the loss is measured on; columns prompt, prompt_ids, completion_ids.
    problems: answered greedily, unless the base has less than FLOOR of them right.
    kept: folder of parts (`runs/parts.py`), by which a killed measurement goes on; one for each
        measurement. Whoever writes the result elsewhere clears it.

    The base first. Columns: model, loss (nats a token), right, problems (0 if none was answered).
    """
    profile = run.profile
    model, tokenizer = load_model(profile)
    tasks = make_tasks(
        tokenizer,
        heldout,
        problems,
        len(problems),
        profile.evaluation.max_new_tokens,
        profile.prompt,
        profile.evaluation.batch_size,
    )
    made_of = {name: fingerprint(adapter) for name, adapter in adapters.items()}
    parts = Parts(run, kept, [models_key(profile, []), made_of])
    named: dict[str, Point] = {BASE: (), **{name: tuple(at) for name, at in points.items()}}
    with Mixture(model, adapters) as mixture:
        start = score_points(mixture, tokenizer, tasks, {"accuracy": [()]}, parts=parts)
        right_of_base = _total(start[()].accuracy)[0]
        wanted = {"sft_cross_entropy": list(dict.fromkeys(named.values()))}
        asked = len(problems) and right_of_base >= FLOOR * len(problems)
        if asked:
            wanted["accuracy"] = [point for point in wanted["sft_cross_entropy"] if point]
        scores = score_points(mixture, tokenizer, tasks, wanted, parts=parts)
    found = []
    for name, point in named.items():
        nats, tokens = _total(scores[point].sft_cross_entropy)
        if not point:
            right, answered = right_of_base, len(problems)
        else:
            right = _total(scores[point].accuracy)[0] if asked else 0.0
            answered = len(problems) if asked else 0
        found.append((name, nats / tokens, int(right), answered))
    return pd.DataFrame(found, columns=["model", "loss", "right", "problems"])


def _total(sums: Sums | None) -> tuple[float, float]:
    values, counts = sums if sums is not None else (np.zeros(1), np.zeros(1))
    return float(values.sum()), float(counts.sum())


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
    heldout: pd.DataFrame,
    problems: list[Problem],
    kept: str,
) -> pd.DataFrame:
    """`measure_points` at every factor of every adapter, and at the base as factor 0.

    Columns: model, factor, loss, right, problems.
    """
    factor_of = {
        f"{name} {factor!r}": (name, factor) for name in names for factor in factors if factor
    }
    points: dict[str, Point] = {text: (pair,) for text, pair in factor_of.items()}
    table = measure_points(run, _loaded(run, names), points, heldout, problems, kept)
    both = [factor_of.get(str(text), (BASE, 0.0)) for text in table["model"]]
    table["model"] = [name for name, _ in both]
    table.insert(1, "factor", [factor for _, factor in both])
    return table


def answers_at(
    run: Run, factors: Mapping[str, float], problems: list[Problem], kept: str
) -> pd.DataFrame:
    """Greedy answers of each adapter at its factor; columns as of `answers.predict`.

    kept: as of `measure_points`.
    """
    model, tokenizer = load_model(run.profile)
    base = pinned(run.profile.model.base, run.profile.model.base_revision)
    tables = []
    with Mixture(model, _loaded(run, list(factors))) as mixture:
        for name, factor in factors.items():
            mixture.set({name: factor} if factor else {})
            key = answers_key(run.profile, [base, str(run.adapter_dir(name))], problems)
            parts = Parts(run, kept, [key, factor])
            tables.append(predict(model, tokenizer, problems, name, run.profile, parts))
    return pd.concat(tables, ignore_index=True)


def _loaded(run: Run, names: Sequence[str]) -> dict[str, Adapter]:
    return {name: load_adapter(run.adapter_dir(name), name) for name in names}
