"""Figures over the steps of a training.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune_geometry.figures.palette import INK, in_order, label, look


def along_steps(table: pd.DataFrame, *, ylabel: str) -> Figure:
    """One line an adapter over the steps.

    Args:
        table: columns `step`, `name`, `value`. With a column `cell` an adapter has one faint line
            for each repetition, and one through their means.
    """
    fig, ax = plt.subplots(figsize=(7.0, 3.9))
    _lines(ax, table, "value")
    ax.set(ylabel=ylabel)
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def lengths_along_steps(table: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """How far each adapter has come: direction and length, beside two pictures of a path.

    Args:
        table: columns `step`, `name`, `to_end` (cosine with its own end), `length` (as a share of
            the end's); `cell` as of `along_steps`.
        models: columns `step`, `straight` (share of the length), `walk` (share of the length, and
            cosine with the end).
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.9))
    panels = {"to_end": "cosine with its own end", "length": "share of its length at the end"}
    for ax, (column, text) in zip(axes, panels.items(), strict=True):
        straight = models["straight"] if column == "length" else models["straight"] * 0 + 1
        ax.plot(models["step"], straight, color=INK, ls="--", lw=1.0, zorder=0)
        ax.plot(models["step"], models["walk"], color=INK, ls=":", lw=1.2, zorder=0)
        _lines(ax, table, column)
        ends = [0.0, 1.04, *table[column]]
        ax.set(ylabel=text, ylim=(min(ends), max(ends)))
    handles, texts = axes[0].get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside lower center", ncols=3)
    return fig


def _lines(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """One line an adapter: of its repetitions faint ones, too."""
    shown = in_order(table["name"].drop_duplicates())
    for name in shown:
        rows = table[table["name"] == name].sort_values("step")
        style = look(name, shown)
        means = rows.groupby("step")[column].mean()
        if len(rows) > len(means):
            for _, one in rows.groupby("cell", sort=False):
                ax.plot(one["step"], one[column], color=style["color"], lw=0.7, alpha=0.5)
        ax.plot(means.index, means, **{**style, "label": label(name)})
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step")
