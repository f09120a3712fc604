"""Figures of numbers over repetitions: every cell a mark, and what their spread is made of.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finetune_geometry.figures.palette import INK, TOY_COLOURS

#: Kind of a cell: its mark, its colour and its text in the legend.
_LOOKS = {
    "run": ("D", INK, "the seeds of the run"),
    "order": ("o", TOY_COLOURS[0], "another order"),
    "draw": ("s", TOY_COLOURS[1], "another A and order"),
    "student": ("^", TOY_COLOURS[2], "another base"),
}


def _labelled(ax: Axes, texts: Iterable[str], xlabel: str, margin: float = 0.6) -> None:
    """Rows from top to bottom with their texts, and `margin` of a row above the first."""
    rows = list(texts)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 1 + margin, -margin)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)


def repetitions(
    table: pd.DataFrame, names: Mapping[object, str], *, xlabel: str, percent: bool = False
) -> Figure:
    """One row a number, one mark a cell.

    Args:
        table: columns `key`, `kind`, `value`.
        names: the keys in the order of the rows, and what each is called.
        percent: the values are shares.
    """
    fig, ax = plt.subplots(figsize=(7.4, 1.3 + 0.36 * len(names)))
    if percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    place = {key: row for row, key in enumerate(names)}
    shown = table[table["key"].isin(list(names))]
    shifts = dict(zip(_LOOKS, np.linspace(-0.24, 0.24, len(_LOOKS)), strict=True))
    for kind, (mark, hue, text) in _LOOKS.items():
        rows = shown[shown["kind"] == kind]
        if rows.empty:
            continue
        y = rows["key"].map(place).to_numpy(dtype=float) + shifts[kind]
        ax.plot(rows["value"], y, mark, color=hue, ms=6, alpha=0.85, label=text)
    _labelled(ax, names.values(), xlabel)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def component_bars(table: pd.DataFrame, names: Mapping[object, str], *, xlabel: str) -> Figure:
    """Standard deviations side by side, one row a number: order, A, base.

    Args:
        table: columns `key`, `order`, `initial`, `base`; NaN where a spread was not measured.
        names: the keys in the order of the rows, and what each is called.
    """
    parts = {"order": "order of the rows", "initial": "initial A", "base": "base model"}
    fig, ax = plt.subplots(figsize=(7.4, 1.3 + 0.42 * len(names)))
    for step, ((column, text), hue) in enumerate(zip(parts.items(), TOY_COLOURS, strict=False)):
        values = dict(zip(table["key"], table[column], strict=True))
        widths = [float(values[key]) for key in names]
        y = np.arange(len(names)) + (step - 1) * 0.26
        ax.barh(y, widths, 0.24, color=hue, label=text)
    _labelled(ax, names.values(), xlabel)
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def treatments(
    table: pd.DataFrame,
    groups: Mapping[str, str],
    parts: Mapping[str, str],
    *,
    xlabel: str,
    skip: int = 0,
) -> Figure:
    """Groups of rows, one row a treatment, one mark a repetition, and their mean as a stroke.

    Args:
        table: columns `method`, `part`, `value`.
        groups: values of `method` in order, and their headings.
        parts: values of `part` in order, and what the legend calls them.
        skip: looks left out, so that a part looks as in a figure where so many stand before it.
    """
    fig, ax = plt.subplots(figsize=(7.4, 1.4 + len(groups) * (0.35 + 0.2 * len(parts))))
    ax.axvline(0, color=INK, lw=0.8, zorder=0)
    marks, hues = "osD^v", (INK, *TOY_COLOURS)
    step = 0.8 / len(parts)
    for row, group in enumerate(groups):
        for place, (part, text) in enumerate(parts.items()):
            chosen = table[(table["method"] == group) & (table["part"] == part)]
            values = chosen["value"].to_numpy()
            y = row - 0.4 + step * (place + 0.5)
            look = place + skip
            hue, mark = hues[look % len(hues)], marks[look % len(marks)]
            ax.vlines(values.mean(), y - step / 2, y + step / 2, color=hue, lw=2)
            label = text if row == 0 else None
            ax.plot(values, np.full(len(values), y), mark, color=hue, ms=5, alpha=0.8, label=label)
    _labelled(ax, groups.values(), xlabel, margin=0.55)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def rungs(table: pd.DataFrame, steps: Mapping[str, str], panels: Mapping[str, str]) -> Figure:
    """A ladder from top to bottom: marks of every repetition, and a line through the means.

    Args:
        table: columns `step`, and those of `panels`; one row a step and repetition.
        steps: values of `step` in order, and what each is called.
        panels: columns and what the axes call them.
    """
    fig, axes = plt.subplots(
        1, len(panels), figsize=(2.4 + 3.2 * len(panels), 1.1 + 0.5 * len(steps)), sharey=True
    )
    for ax, (column, text) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        values = [table.loc[table["step"] == step, column].to_numpy() for step in steps]
        ax.axvline(0, color=INK, lw=0.8, zorder=0)
        ax.plot([found.mean() for found in values], range(len(steps)), color=INK, lw=1.2)
        for place, found in enumerate(values):
            ax.plot(found, np.full(len(found), place), "o", color=TOY_COLOURS[0], ms=6, alpha=0.8)
        ax.set_xlabel(text)
        ax.grid(False, axis="y")
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(steps)), list(steps.values()))
    first.set_ylim(len(steps) - 0.6, -0.4)
    return fig


def dials(table: pd.DataFrame, *, xlabel: str, percent: bool = False) -> Figure:
    """Cosines over a number that is turned: filled as trained, hollow as predicted.

    Args:
        table: columns `x`, `pair`, `trained`, `predicted` (NaN where nothing is).
        percent: `x` is a share.
    """
    fig, ax = plt.subplots(figsize=(7.0, 3.9))
    ax.axhline(0, color=INK, lw=0.8, zorder=0)
    for number, (pair, rows) in enumerate(table.groupby("pair", sort=False)):
        ordered = rows.sort_values("x")
        hue = TOY_COLOURS[number % len(TOY_COLOURS)]
        ax.plot(ordered["x"], ordered["trained"], "o-", color=hue, ms=6, label=pair)
        ax.plot(ordered["x"], ordered["predicted"], "D--", color=hue, mfc="none", mew=1.5, ms=6,
                label=f"{pair}: from the weights")  # fmt: skip
    if percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(xlabel=xlabel, ylabel="global cosine")
    fig.legend(loc="outside lower center", ncols=2)
    return fig
