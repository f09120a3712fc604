"""Figures that put two bases side by side: verdicts as tiles, measures pair by pair.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finetune_geometry.figures.palette import INK, TOY_COLOURS
from finetune_geometry.figures.plots import chance_band
from finetune_geometry.figures.result_plots import VERDICT_COLOURS

_DARK = {"reproduced", "not reproduced"}  # tiles that white letters are read on


def verdict_tiles(table: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """Every claim as a row of tiles, one a column, in the colour and the word of its verdict.

    Args:
        table: columns `claim`, `title`, and the keys of `columns`, which hold verdicts ("" for a
            claim that a column was not asked).
        columns: what each is called above the tiles, in their order.
    """
    fig, ax = plt.subplots(figsize=(3.6 + 1.2 * len(columns), 0.9 + 0.42 * len(table)))
    for row, values in enumerate(table.to_dict("records")):
        for place, name in enumerate(columns):
            verdict = str(values[name])
            if not verdict:
                continue
            box = plt.Rectangle((place - 0.48, row - 0.44), 0.96, 0.88)
            box.set(facecolor=VERDICT_COLOURS[verdict], edgecolor="none")
            ax.add_patch(box)
            ink = "white" if verdict in _DARK else "black"
            word = verdict.removesuffix(" in this regime")
            ax.text(place, row, word, ha="center", va="center", fontsize=8.5, color=ink)
    ax.set_xticks(range(len(columns)), [fill(text, 14) for text in columns.values()])
    titles = [
        fill(f"{claim}  {title}", 42)
        for claim, title in zip(table["claim"], table["title"], strict=True)
    ]
    ax.set_yticks(range(len(table)), titles, fontsize=9)
    ax.tick_params(axis="both", length=0)
    ax.tick_params(axis="x", labeltop=True, labelbottom=False)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)
    return fig


def pairs_beside(
    table: pd.DataFrame,
    bases: Mapping[str, str],
    *,
    xlabel: str,
    names: Sequence[str],
    chance: tuple[float, float] | float | None = None,
    expected: bool = True,
) -> Figure:
    """One row a pair: a measure on each base with its interval, and what the rows alone predict.

    Args:
        table: columns `a`, `b`, `base`, `value`, `low`, `high`, `expected` (NaN where nothing is).
        bases: values of `base` and what the legend calls them; the first decides the order.
        names: what the rows are called, in the order of the pairs of the first base.
        chance: a number or an interval.
        expected: whether to draw the column of that name.
    """
    first = table[table["base"] == next(iter(bases))].assign(name=list(names))
    order = first.sort_values("value", ascending=False, kind="stable")
    place = {(r.a, r.b): row for row, r in enumerate(order.itertuples())}
    fig, ax = plt.subplots(figsize=(7.4, 1.5 + 0.36 * max(len(place), 2)))
    if chance is not None:
        chance_band(ax, chance, "chance, random B", vertical=True)
    looks = zip(bases.items(), (INK, TOY_COLOURS[1]), ("o", "s"), (-0.14, 0.14), strict=False)
    for (base, text), hue, mark, shift in looks:
        rows = table[table["base"] == base]
        y = np.array([place[pair] for pair in zip(rows["a"], rows["b"], strict=True)]) + shift
        ax.hlines(y, rows["low"], rows["high"], color=hue, lw=2.2)
        ax.plot(rows["value"], y, mark, color=hue, ms=6, label=text)
        if expected:
            words = f"{text}: from the rows alone"
            ax.plot(rows["expected"], y, "D", color=hue, mfc="none", mew=1.4, ms=6, label=words)
    ax.set_yticks(range(len(order)), order["name"])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    fig.legend(loc="outside lower center", ncols=2)
    return fig
