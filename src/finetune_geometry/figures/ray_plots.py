"""Figures along the rays of adapters: loss and accuracy by factor, and where each is best.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune_geometry.figures.palette import BASE, INK, colour, in_order, label, look


def rays(table: pd.DataFrame) -> Figure:
    """Loss, and accuracy where problems were answered, along the ray of every adapter.

    Args:
        table: columns `model`, `factor`, `loss`, `right`, `problems`; the base is where all start.
            With a column `cell` a model has one faint line for each repetition, and one through
            their means.
    """
    base = table[table["model"] == BASE].iloc[0]
    asked = table[table["model"] != BASE]
    answered = asked["problems"].max() > 0
    table = table.assign(accuracy=table["right"] / table["problems"].where(table["problems"] > 0))
    panels = {"loss": "held-out loss (nats a token)"}
    if answered:
        panels["accuracy"] = "validation problems answered correctly"
    fig, axes = plt.subplots(1, len(panels), figsize=(1.2 + 4.0 * len(panels), 3.9), squeeze=False)
    shown = in_order(asked["model"])
    for ax, (column, text) in zip(axes[0], panels.items(), strict=True):
        start = base["loss"] if column == "loss" else base["right"] / base["problems"]
        ax.axvline(1.0, color=INK, lw=0.8, zorder=0)
        for name in shown:
            of_model = table[table["model"] == name]
            means = of_model.groupby("factor")[column].mean()
            style = look(name, shown)
            if "cell" in table and len(of_model) > len(means):
                for _, rows in of_model.sort_values("factor").groupby("cell", sort=False):
                    x, y = [0.0, *rows["factor"]], [start, *rows[column]]
                    ax.plot(x, y, color=style["color"], lw=0.7, alpha=0.5)
            ax.plot([0.0, *means.index], [start, *means], **{**style, "label": label(name)})
        ax.set(xlabel=r"factor $\lambda$ of the delta", ylabel=text)
        if column == "accuracy":
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles, texts = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside lower center", ncols=4)
    return fig


def before_and_after(table: pd.DataFrame, base: float, words: Mapping[str, str]) -> Figure:
    """Two accuracies of every model, one row a model: with intervals, or over repetitions.

    Args:
        table: columns `model`, `which`, `accuracy`, `low`, `high`. Several rows of one model are
            its repetitions: a mark each, and a stroke at their mean in place of an interval.
        base: accuracy of the base, a dashed line.
        words: the two values of `which` and their text; the first is drawn hollow.
    """
    shown = in_order(table["model"].drop_duplicates())
    fig, ax = plt.subplots(figsize=(7.0, 1.4 + 0.5 * len(shown)))
    ax.axvline(base, color="#888888", ls=(0, (4, 3)), lw=1.2, zorder=0)
    for place, name in enumerate(shown):
        for which, shift in zip(words, (-0.16, 0.16), strict=True):
            rows = table[(table["model"] == name) & (table["which"] == which)]
            hue, y = colour(name, shown), place + shift
            hollow = which == next(iter(words))
            style: dict[str, Any] = {**look(name, shown), "color": hue}
            style |= {"markerfacecolor": "none" if hollow else hue, "ms": 7.5, "ls": ""}
            if len(rows) > 1:
                mean = rows["accuracy"].mean()
                ax.plot([mean, mean], [y - 0.15, y + 0.15], color=hue, lw=1.2 if hollow else 2.6)
            else:
                ends = rows[["low", "high"]].iloc[0]
                ax.plot(ends, [y, y], color=hue, lw=1.2 if hollow else 2.6)
            ax.plot(rows["accuracy"], [y] * len(rows), **style)
    ax.set_yticks(range(len(shown)), [label(name) for name in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel("test problems answered correctly")
    first, second = words.values()
    ax.set_title(f"hollow: {first}; filled: {second}", loc="left")
    return fig
