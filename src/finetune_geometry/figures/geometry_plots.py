"""Figures that only the geometry chapters need: the map, angles on both sides, shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from finetune_geometry.figures.palette import INK, TOY_COLOURS, colour, in_order, label, look
from finetune_geometry.figures.plots import chance_band

_PARTS = {"angle_smallest": "<", "angle_median": "|", "angle_largest": ">"}


# Many rows have no colours of their own that could be told apart.
PLAIN: dict[str, Any] = {
    "color": INK,
    "marker": "o",
    "markerfacecolor": INK,
    "markeredgewidth": 1.0,
}


def _rows_size(rows: int, compact: bool) -> tuple[float, float]:
    return 8.4, 1.5 + (0.24 if compact else 0.45) * max(rows, 2)


def plane_map(points: pd.DataFrame, *, title: str = "") -> Figure:
    """Adapters as arrows from the base. Columns `name`, `x`, `y`; both axes have one unit."""
    fig, ax = plt.subplots(figsize=(6.4, 4.6))
    shown = in_order(points["name"])
    for name, x, y in zip(points["name"], points["x"], points["y"], strict=True):
        hue = colour(name, shown)
        ax.plot([0, x], [0, y], color=hue, lw=1.4, alpha=0.7)
        ax.plot(x, y, ms=9, ls="", label=label(name), **look(name, shown))
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="first axis (Frobenius norm)", ylabel="second axis (Frobenius norm)")
    ax.set_title(title, loc="left")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return fig


def angle_panels(
    table: pd.DataFrame, chance: pd.DataFrame, *, title: str = "", compact: bool = False
) -> Figure:
    """Smallest, median and largest angle of each method, left and right singular vectors.

    Args:
        table: columns `other` (the method), `side`, `quantity`, `value` in degrees.
        chance: columns `side`, `quantity`, `low`, `high`: a grey box behind every mark.
        compact: for many adapters, low rows in one colour.
    """
    shown = in_order(table["other"])
    fig, axes = plt.subplots(
        1, 2, figsize=_rows_size(len(shown), compact), sharex=True, sharey=True
    )
    for ax, side in zip(axes, ("left", "right"), strict=True):
        levels = chance[(chance["side"] == side) & chance["quantity"].isin(list(_PARTS))]
        for low, high in zip(levels["low"], levels["high"], strict=True):
            ax.axvspan(low, high, color="#BDBDBD", alpha=0.6, lw=0, zorder=0)
        for row, who in enumerate(shown):
            rows = table[(table["other"] == who) & (table["side"] == side)]
            values = rows.set_index("quantity")["value"]
            style = PLAIN if compact else look(who, shown)
            ax.plot([values.min(), values.max()], [row, row], color=style["color"], lw=1.5)
            for quantity, mark in _PARTS.items():
                if quantity in values.index:
                    ax.plot(
                        float(values[quantity]), row, ms=9, mew=2, ls="",
                        marker=mark, color=style["color"], mfc=style["markerfacecolor"],
                    )  # fmt: skip
        sense = "output" if side == "left" else "input"
        ax.set_title(f"{side} ({sense} directions)", loc="left", fontsize=10)
        ax.set(xlabel="angle (degrees)", xlim=(-2, 92))
        ax.grid(False, axis="y")
    axes[0].set_yticks(range(len(shown)), [label(s) for s in shown])
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    marks = [
        Line2D([], [], marker=mark, color=INK, ls="", ms=8, mew=2, label=q.partition("_")[2])
        for q, mark in _PARTS.items()
    ]
    grey = Patch(color="#BDBDBD", alpha=0.6, lw=0, label="chance")
    fig.legend(handles=[*marks, grey], loc="outside lower center", ncols=4)
    return fig


def by_k(table: pd.DataFrame, chance: pd.DataFrame, *, ylabel: str) -> Figure:
    """One line a method over k, and the chance level of each k.

    Args:
        table: columns `other`, `k`, `value`; chance: columns `k`, `low`, `value`, `high`.
    """
    fig, ax = plt.subplots(figsize=(6.6, 3.8))
    shown = in_order(table["other"])
    null = chance.sort_values("k")
    ax.fill_between(null["k"], null["low"], null["high"], color="#BDBDBD", alpha=0.6, lw=0)
    ax.plot(null["k"], null["value"], color="#555555", ls=":", marker="x", label="chance")
    for who in shown:
        rows = table[table["other"] == who].sort_values("k")
        ax.plot(rows["k"], rows["value"], label=label(who), **look(who, shown))
    ks = sorted({*table["k"], *null["k"]})
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(ks))
    ax.xaxis.set_major_formatter(FixedFormatter([str(k) for k in ks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="k", ylabel=ylabel)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return fig


def share_panels(
    table: pd.DataFrame,
    chance: Mapping[str, float],
    *,
    titles: Mapping[str, str],
    compact: bool = False,
) -> Figure:
    """Shares of norm (marker) and of energy (upright stroke), one panel a measure.

    Args:
        table: columns `other` (the method), `quantity` ("<measure>_norm", "<measure>_energy"),
            `value`.
        chance: norm fraction by chance of each measure; its square is that of the energy.
        titles: title of each measure's panel.
        compact: for many adapters, low rows in one colour.
    """
    shown = in_order(table["other"])
    size = _rows_size(len(shown), compact)
    fig, axes = plt.subplots(1, len(titles), figsize=size, sharex=True, sharey=True)
    for ax, (measure, title) in zip(np.atleast_1d(axes), titles.items(), strict=True):
        rows = table[table["quantity"].str.startswith(measure)]
        chance_band(ax, chance[measure], vertical=True)
        for row, who in enumerate(shown):
            values = rows[rows["other"] == who].set_index("quantity")["value"]
            ends = [float(values[f"{measure}_{kind}"]) for kind in ("energy", "norm")]
            style = PLAIN if compact else look(who, shown)
            ax.plot(ends, [row, row], color=style["color"], lw=1.4)
            ax.plot(ends[0], row, "|", color=style["color"], ms=11, mew=2.2)
            ax.plot(ends[1], row, ms=8, **style)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set(xlabel="orthogonal fraction", xlim=(-0.03, 1.05))
        ax.grid(False, axis="y")
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(shown)), [label(s) for s in shown])
    first.set_ylim(len(shown) - 0.5, -0.5)
    ink: dict[str, Any] = {"color": INK, "ls": ""}
    fig.legend(
        handles=[
            Line2D([], [], label="norm", marker="o", ms=8, **ink),
            Line2D([], [], label="energy", marker="|", ms=11, mew=2.2, **ink),
            Line2D([], [], color="#555555", ls=(0, (4, 3)), lw=1.4, label="chance (norm)"),
        ],
        loc="outside lower center",
        ncols=3,
    )
    return fig


def likeness(
    table: pd.DataFrame,
    names: Sequence[str],
    *,
    controls: Sequence[str],
    level: str,
    reference: str,
) -> Figure:
    """How alike adapters are with one reference: one panel a measure, one row an adapter.

    Args:
        table: columns `other` (the adapter), `measure`, `value`, `low`, `high`, and the ends
            `chance_low`, `chance_high` of the grey box behind it.
        names: the rows, from the top: first the `controls`, then the others.
        level: the control whose value goes down the panels as a dashed line.
        reference: what they are compared with.
    """
    measures = list(table["measure"].unique())
    size = (2.2 + 2.0 * len(measures), 1.0 + 0.36 * len(names))
    fig, axes = plt.subplots(1, len(measures), figsize=size, sharex=True, sharey=True)
    for ax, measure in zip(np.atleast_1d(axes), measures, strict=True):
        rows = table[table["measure"] == measure].set_index("other")
        ax.axvline(rows.loc[level, "value"], color="#777777", ls="--", lw=1.2, zorder=0)
        for place, name in enumerate(names):
            value, low, high = rows.loc[name, ["value", "low", "high"]]
            left, right = rows.loc[name, ["chance_low", "chance_high"]]
            ax.barh(place, right - left, 0.8, left, color="#BDBDBD", alpha=0.6, lw=0, zorder=0)
            ax.plot([low, high], [place, place], color=colour(name, names), lw=2.2)
            ax.plot(value, place, ms=7.5, **look(name, names))
        ax.axhline(len(controls) - 0.5, color="#BBBBBB", lw=0.8)
        ax.set_title(measure, loc="left", fontsize=10)
        ax.grid(False, axis="y")
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(names)), [label(name) for name in names])
    first.set(
        ylim=(len(names) - 0.5, -0.5), xlim=(min(0.0, float(table["low"].min())) - 0.05, 1.05)
    )
    fig.supxlabel(f"likeness with {label(reference)}", fontsize=10)
    return fig


#: What a prediction is called and how it is drawn; a trained value is a dot with its interval.
_PREDICTIONS = {
    "predicted": ("predicted from the weights", "D", TOY_COLOURS[0]),
    "predicted_common": ("the same, one part common to all", "^", TOY_COLOURS[1]),
}


def predictions(
    table: pd.DataFrame,
    chance: tuple[float, float] | float | None,
    *,
    xlabel: str,
    names: Sequence[str],
    words: Mapping[str, str] | None = None,
) -> Figure:
    """Trained values beside what the weights on the rollouts predict: one row a pair.

    Args:
        table: columns `a`, `b`, `quantity` ("trained", or a key of the predictions), `value`, and
            the ends `low`, `high` of a trained value. Rows stand in order of the trained value.
        chance: for deltas that share nothing, a number or an interval.
        names: what the rows are called, in the order of the pairs in the table.
        words: what the legend calls the two predictions, by `quantity`.
    """
    pairs = table.drop_duplicates(["a", "b"])[["a", "b"]].assign(name=names)
    wide = table.merge(pairs, on=["a", "b"])
    trained = wide[wide["quantity"] == "trained"].sort_values(
        "value", ascending=False, kind="stable"
    )
    place = {name: row for row, name in enumerate(trained["name"])}
    fig, ax = plt.subplots(figsize=(7.4, 1.4 + 0.31 * max(len(place), 2)))
    if chance is not None:
        chance_band(ax, chance, "chance, random B", vertical=True)
    rows = np.arange(len(trained))
    ax.hlines(rows, trained["low"], trained["high"], color=INK, lw=2.2)
    ax.plot(trained["value"], rows, "o", color=INK, ms=6.5, label="trained")
    for quantity, (text, mark, hue) in _PREDICTIONS.items():
        found = wide[wide["quantity"] == quantity]
        ax.plot(
            found["value"], found["name"].map(place), mark,
            color=hue, mfc="none", mew=1.7, ms=7, label=(words or {}).get(quantity, text),
        )  # fmt: skip
    ax.set_yticks(rows, list(place))
    ax.set_ylim(len(place) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def lengths(norms: pd.Series) -> Figure:
    """Norms of deltas as bars, by adapter; a method's control is hollow."""
    shown = in_order(norms.index)
    fig, ax = plt.subplots(figsize=(6.8, 0.8 + 0.42 * len(shown)))
    for place, name in enumerate(shown):
        style = look(name, shown)
        ax.barh(
            place, norms[name], 0.6,
            color=style["markerfacecolor"], edgecolor=style["color"], lw=1.5,
        )  # fmt: skip
        ax.text(norms[name], place, f" {norms[name]:.3g}", va="center", fontsize=9.5)
    ax.set_yticks(range(len(shown)), [label(name) for name in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_xlabel("Frobenius norm of the delta")
    return fig
