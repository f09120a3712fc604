"""The interactive figures about losses: along a line, along a ray, and on one token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from finetune_geometry.figures.palette import BASE, in_order
from finetune_geometry.geometry.connectivity import METRICS
from finetune_geometry.report.explorable_pictures import line_picture, series_of
from finetune_geometry.report.explorable_tables import (
    Found,
    looks,
    numbers_of,
    plain,
    table,
)
from finetune_geometry.settings.objectives import METHODS, OBJECTIVES


def line(run: Path) -> Found:
    """Every walked line by metric: the curve, and the interval of its rise above the chord."""
    found = table(run, "geometry/mode_connectivity.csv")
    blind = found[found["quantity"] == "blind"].set_index("metric")["value"]
    metrics = [
        {"name": m, "label": text, "blind": float(blind[m]) if m in blind.index else None}
        for m, text in METRICS.items()
    ]
    lines: list[dict[str, Any]] = []
    curves = found[found["quantity"].isin(["curve", "rise"])]
    for (a, b), rows in curves.groupby(["a", "b"], sort=False):
        if a == BASE:  # walked from the method, as the text does
            a, b = b, a
            rows = rows.assign(alpha=1 - rows["alpha"])
        by_metric = {}
        for metric, part in rows.sort_values("alpha").groupby("metric", sort=False):
            curve, rise = (part[part["quantity"] == q] for q in ("curve", "rise"))
            by_metric[metric] = {
                "alpha": [round(float(t), 6) for t in curve["alpha"]],
                "value": plain(curve["value"]),
                **{end: plain(rise[end]) for end in ("low", "high")},
            }
        lines.append({"a": a, "b": b, "metrics": by_metric})
    seen = looks(name for one in lines for name in (one["a"], one["b"]))
    first = "sft_cross_entropy"
    picture = line_picture(
        [
            series_of(
                seen[one["b"]], one["metrics"][first]["alpha"], one["metrics"][first]["value"]
            )
            for one in lines
            if one["a"] == "sft" and first in one["metrics"]
        ],
        "Held-out loss on the straight line from SFT to each other model.",
        xlabel="position on the line, from SFT (0) to the other model (1)",
        ylabel="held-out loss (nats a token)",
    )
    return {"metrics": metrics, "lines": lines}, seen, picture


def ray(run: Path) -> Found:
    """Loss and share of right answers by factor of each delta, for every repetition."""
    found = table(run, "controls/ray.csv")
    if "cell" not in found:
        found = found.assign(cell="run")
    found = found.assign(accuracy=found["right"] / found["problems"].where(found["problems"] > 0))
    start = found[found["model"] == BASE]
    names = in_order(str(name) for name in found.loc[found["model"] != BASE, "model"])
    cells = [str(cell) for cell in found["cell"].unique()]
    models = {
        name: [
            {column: plain(rows[column]) for column in ("factor", "loss", "accuracy")}
            for cell in cells
            if len(
                rows := pd.concat(
                    [
                        start[start["cell"] == cell],
                        found[(found["model"] == name) & (found["cell"] == cell)],
                    ]
                ).sort_values("factor")
            )
        ]
        for name in names
    }
    asked = found[found["model"] != BASE]
    data = {"cells": cells, "models": models, "problems": int(asked["problems"].max())}
    seen = looks(names)
    means = found.groupby(["model", "factor"])["loss"].mean()
    at_base = float(means[BASE].iloc[0])
    picture = line_picture(
        [
            series_of(
                seen[n], [0.0, *map(float, means[n].index)], [at_base, *means[n].astype(float)]
            )
            for n in names
        ],
        "Held-out loss by the factor of the delta, one line a method, all from the base.",
        xlabel="factor of the delta (0: the base, 1: as trained)",
        ylabel="held-out loss (nats a token)",
    )
    return data, seen, picture


def token(run: Path) -> Found:
    """The constants of the six losses. The picture: weights in a group with as many right as wrong.

    A setting that the run's numbers do not have is the objective's default.
    """
    numbers = numbers_of(run)

    def setting(method: str, name: str) -> float:
        default = OBJECTIVES[method].constants[name]
        return float(numbers.get(f"profile.methods.{method}.{name}", default))

    data = {
        "lambda": setting("rift", "reward_lambda"),
        "bias": setting("offline_grpo", "bias"),
        "beta": setting("dpo", "beta"),
        "group": int(numbers.get("profile.rollouts.k", 4)),
    }
    seen = looks(METHODS)
    flat = {
        "sft": 1.0,
        "rft": 1.0,
        "rift": 1 - data["lambda"],
        "offline_grpo": 0.5 + data["bias"],
        "dpo": data["beta"] / 2,
    }
    picture = line_picture(
        [
            series_of(seen[n], [0.0, 1.0], [flat[n]] * 2 if n in flat else [0.0, 1.0])
            for n in METHODS
        ],
        "Weight of a token of a right rollout by the student's probability: DFT rises with it, "
        "the others are level.",
        xlabel="the student's probability of the token",
        ylabel="weight",
    )
    return data, seen, picture
