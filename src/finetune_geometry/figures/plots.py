"""The plot forms of the book: each draws what a table holds and returns its `Figure`.

Colours, markers and labels come from `palette`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from finetune_geometry.figures.palette import (
    BASE,
    INK,
    TOY_COLOURS,
    colour,
    in_order,
    label,
    look,
)


def pair_heatmap(
    table: pd.DataFrame,
    *,
    title: str,
    fmt: str = ".2f",
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "viridis",
    diagonal: float | None = None,
    names: Sequence[str] | None = None,
    undefined: str = "not defined: the base's delta is 0",
    colorbar_label: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Lower-triangle heat map of one value for each pair.

    Args:
        table: columns `a`, `b`, `value`, one row a pair, in either order.
        diagonal: value of an adapter with itself, or None to leave the diagonal out.
        names: rows and columns; default: all names of the table. A name without any value
            (the base, for a cosine) gets hatched cells, which the legend explains with `undefined`.
    """
    import seaborn as sns  # slow to import, and no other figure needs it

    shown = in_order(names if names is not None else [*table["a"], *table["b"]])
    n = len(shown)
    place = {name: i for i, name in enumerate(shown)}
    grid = np.full((n, n), np.nan)
    for a, b, value in zip(table["a"], table["b"], table["value"], strict=True):
        if a in place and b in place:
            i, j = sorted((place[a], place[b]), reverse=True)
            grid[i, j] = value
    if diagonal is not None:
        rows_with_value = [
            i for i in range(n) if np.isfinite(grid[i]).any() or np.isfinite(grid[:, i]).any()
        ]
        grid[rows_with_value, rows_with_value] = diagonal
    hidden = np.triu(np.ones((n, n), dtype=bool), k=1 if diagonal is not None else 0)
    rows, columns = shown, shown
    if diagonal is None:  # the first row and the last column would be empty
        rows, columns, grid, hidden = shown[1:], shown[:-1], grid[1:, :-1], hidden[1:, :-1]
    fig, ax = _axes(ax, figsize=(1.6 + 0.78 * len(columns), 0.9 + 0.62 * len(rows)))
    missing = ~np.isfinite(grid) & ~hidden
    hatch: dict[str, Any] = {"facecolor": "#F1F1F1", "edgecolor": "#BBBBBB", "hatch": "///"}
    for i, j in np.argwhere(missing):
        ax.add_patch(Rectangle((j, i), 1, 1, lw=0, **hatch))
    sns.heatmap(
        grid,
        mask=hidden | missing,
        annot=True,
        fmt=fmt,
        vmin=vmin,
        vmax=vmax,
        cmap=cmap,
        linewidths=1.5,
        linecolor="white",
        ax=ax,
        xticklabels=[label(s) for s in columns],
        yticklabels=[label(s) for s in rows],
        cbar_kws={"label": colorbar_label},
        annot_kws={"fontsize": 9},
    )
    ax.grid(False)
    ax.set_title(title, loc="left")
    ax.tick_params(axis="x", rotation=35, length=0, pad=17)
    ax.tick_params(axis="y", rotation=0, length=0, pad=14)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    _mark_ticks(ax, rows, columns)
    if missing.any():
        patch = Patch(label=undefined, **hatch)
        ax.legend(handles=[patch], loc="upper right", fontsize=8)
    return fig


def by_depth(
    table: pd.DataFrame,
    *,
    name: str = "b",
    ylabel: str,
    title: str = "",
    chance: tuple[float, float] | float | None = None,
    chance_label: str = "chance level",
    ylim: tuple[float, float] | None = None,
    logy: bool = False,
    spread: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """One line an adapter over the layers.

    Args:
        table: columns `layer`, `value` and the one called `name` (whose entries pick the colour).
            Several rows for one layer (its modules) are drawn as their median; `spread` adds
            a band from the least to the greatest.
        chance: chance level, a number or the (low, high) of an interval, in the units of `value`.
    """
    fig, ax = _axes(ax, figsize=(7.2, 3.8))
    if chance is not None:
        chance_band(ax, chance, chance_label)
    shown = in_order(table[name])
    for who in shown:
        rows = table[table[name] == who].groupby("layer")["value"]
        middle, low, high = rows.median(), rows.min(), rows.max()
        hue = colour(who, shown)
        line: dict[str, Any] = {**look(who, shown), "label": label(who)}
        if who == BASE:  # broad and below: another line often covers it
            line |= {"lw": 5, "ms": 11, "alpha": 0.5, "zorder": 1.5}
        ax.plot(middle.index, middle, **line)
        if spread:
            ax.fill_between(middle.index, low, high, color=hue, alpha=0.12, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="layer", ylabel=ylabel)
    ax.set_title(title, loc="left")
    if logy:
        ax.set_yscale("log")
    if ylim is not None:
        ax.set_ylim(ylim)
    _legend(ax)
    return fig


def strips(
    table: pd.DataFrame,
    *,
    name: str = "b",
    xlabel: str,
    title: str = "",
    chance: tuple[float, float] | float | None = None,
    chance_label: str = "chance level",
    xlim: tuple[float, float] | None = None,
    logx: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """One row an adapter: a dot for each module, hollow for a control, and a bar at the median.

    Args: as for `by_depth`, with the values along the horizontal axis.
    """
    shown = in_order(table[name])
    fig, ax = _axes(ax, figsize=(7.2, 0.9 + 0.5 * max(len(shown), 2)))
    if chance is not None:
        chance_band(ax, chance, chance_label, vertical=True)
    for row, who in enumerate(shown):
        values = table.loc[table[name] == who, "value"].to_numpy(dtype=float)
        # A fixed pattern spreads the dots; a random one would make two runs' figures differ.
        offset = 0.28 * (((np.arange(len(values)) * 0.618034) % 1.0) - 0.5)
        style = look(who, shown)
        hollow = style["markerfacecolor"] != style["color"]
        ax.scatter(
            values,
            row + offset,
            s=16,
            alpha=0.8 if hollow else 0.55,
            facecolor=style["markerfacecolor"],
            edgecolor=style["color"],
            marker=style["marker"],
            lw=0.9 if hollow else 0,
        )
        ax.plot([np.median(values)] * 2, [row - 0.33, row + 0.33], color=INK, lw=2)
    ax.set_yticks(range(len(shown)), [label(s) for s in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    ax.set_title(title, loc="left")
    if logx:
        ax.set_xscale("log")
    if xlim is not None:
        ax.set_xlim(xlim)
    if chance is not None:
        _legend(ax)
    return fig


def toy(
    theory: Mapping[str, tuple[Any, Any]],
    measured: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
) -> Figure:
    """Known answers as lines, measured values as dots; a name in both gets one colour."""
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    hues = dict(zip(dict.fromkeys([*theory, *measured]), TOY_COLOURS, strict=False))
    for name, (x, y) in theory.items():
        ax.plot(x, y, color=hues[name], label=name)
    # Marks of falling size, so that those which coincide are all seen.
    for mark, size, (name, (x, y)) in zip("sDov", (9, 7, 5, 4), measured.items(), strict=False):
        text = f"{name}, measured" if name in theory else name
        ax.plot(x, y, mark, color=hues[name], mfc="white", mew=1.5, ms=size, label=text)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    for axis, log in ((ax.xaxis, logx), (ax.yaxis, logy)):
        if log:
            _log_axis(axis)
    _legend(ax)
    return fig


def _log_axis(axis: Axis) -> None:
    """Logarithmic, with labels at 1, 2 and 5 where the axis spans too few powers of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    low, high = axis.get_view_interval()
    if high < 300 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def chance_band(
    ax: Axes,
    chance: tuple[float, float] | float,
    text: str = "chance level",
    *,
    vertical: bool = False,
) -> None:
    """Marks a chance level on the value axis: a dashed line (number) or a grey band (interval)."""
    if isinstance(chance, tuple):
        span = ax.axvspan if vertical else ax.axhspan
        span(chance[0], chance[1], color="#BDBDBD", alpha=0.6, lw=0, label=text, zorder=0)
    else:
        line = ax.axvline if vertical else ax.axhline
        line(chance, color="#555555", ls=(0, (4, 3)), lw=1.4, label=text, zorder=0)


def _axes(ax: Axes | None, figsize: tuple[float, float]) -> tuple[Figure, Axes]:
    if ax is None:
        return plt.subplots(figsize=figsize)
    figure = ax.get_figure(root=True)
    assert figure is not None, "the axes given belong to no figure"
    return figure, ax


def _legend(ax: Axes, **kwargs: Any) -> None:
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, **kwargs)


def _mark_ticks(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """A square of the method's colour, hollow for a control, between each tick label of a matrix
    and its row or column."""
    square: dict[str, Any] = {"marker": "s", "s": 36, "clip_on": False, "lw": 1.3, "zorder": 3}

    def fill(name: str, among: Sequence[str]) -> dict[str, Any]:
        style = look(name, among)
        return {"facecolor": style["markerfacecolor"], "edgecolor": style["color"]}

    for i, name in enumerate(rows):
        ax.scatter(
            [-0.02], [i + 0.5], transform=ax.get_yaxis_transform(), **fill(name, rows), **square
        )
    for j, name in enumerate(columns):
        ax.scatter(
            [j + 0.5], [-0.03], transform=ax.get_xaxis_transform(), **fill(name, columns), **square
        )
