"""Figures of the evaluation chapters: accuracies, paired differences, loss on lines, verdicts.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from finetune_geometry.figures.palette import BASE, INK, colour, in_order, label, look, marker

VERDICT_COLOURS = {
    "reproduced": "#009E73",
    "direction only": "#56B4E9",
    "undecided": "#F0E442",
    "not reproduced": "#D55E00",
    "not testable in this regime": "#BBBBBB",
}


def accuracies(table: pd.DataFrame) -> Figure:
    """One model a row: its accuracy with the interval; the base's level goes down the figure.

    Args:
        table: columns `model`, `accuracy`, `low`, `high`.
    """
    rows: dict[Any, dict[Any, Any]] = table.set_index("model").to_dict("index")
    shown = in_order(rows)
    fig, ax = plt.subplots(figsize=(6.8, 0.9 + 0.42 * len(shown)))
    if BASE in shown:
        ax.axvline(rows[BASE]["accuracy"], color="#888888", ls=(0, (4, 3)), lw=1.2, zorder=0)
    for place, name in enumerate(shown):
        row, hue = rows[name], colour(name, shown)
        ax.plot([row["low"], row["high"]], [place, place], color=hue, lw=2.4)
        ax.plot(row["accuracy"], place, ms=8, **look(name, shown))
    ax.set_yticks(range(len(shown)), [label(name) for name in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # whole percents
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel("test problems answered correctly")
    return fig


def differences(table: pd.DataFrame) -> Figure:
    """One pair a row: difference in accuracy with its interval, and the margin as a band.

    Filled: a difference is detected (`p_holm` below 0.05). Hollow: it is not. The thick part of a
    bar is the narrower interval of the equivalence test; black where it lies within the margin,
    which shows the pair to be equivalent.

    Args:
        table: rows of `paired_tests.mcnemar_table`.
    """
    fig, ax = plt.subplots(figsize=(7.2, 1.2 + 0.27 * len(table)))
    margin = float(table["margin"].iloc[0])
    ax.axvspan(-margin, margin, color="#BDBDBD", alpha=0.5, lw=0, zorder=0)
    ax.axvline(0, color="#555555", lw=1)
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for place, row in enumerate(rows):
        hue = INK if row["equivalent"] else "#0072B2"
        fill = hue if row["p_holm"] < 0.05 else "white"
        ax.plot([row["low"], row["high"]], [place, place], color=hue, lw=1.2)
        ax.plot([row["tost_low"], row["tost_high"]], [place, place], color=hue, lw=4)
        ax.plot(row["difference"], place, marker="o", color=hue, mfc=fill, ms=6.5, mew=1.6)
    ax.set_yticks(
        range(len(table)),
        [f"{label(a)} - {label(b)}" for a, b in zip(table["a"], table["b"], strict=True)],
        fontsize=8.5,
    )
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 2):+g}")
    ax.set_xlabel("difference in accuracy (percentage points)")
    mark: dict[str, Any] = {"color": "#0072B2", "marker": "o", "ls": "", "mew": 1.6}
    handles = [
        Line2D([], [], label="difference detected", **mark),
        Line2D([], [], mfc="white", label="none detected", **mark),
        Line2D([], [], **{**mark, "color": INK, "mfc": "white"}, label="shown equivalent"),
        Line2D([], [], color="#0072B2", lw=1.2, label="interval"),
        Line2D([], [], color="#0072B2", lw=4, label="interval of the\nequivalence test"),
        Line2D([], [], color="#BDBDBD", lw=8, alpha=0.5, label="equivalence margin"),
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return fig


def lines_from(table: pd.DataFrame, start: str, *, ylabel: str, percent: bool = False) -> Figure:
    """What a metric does on the way from one model to each other: one small panel each.

    Args:
        table: rows of one metric of `connectivity.connectivity_table`.
    """
    ends = in_order(n for n in [*table["a"], *table["b"]] if n != start)
    lines = [(start, end) for end in ends]
    return line_panels(table, lines, ylabel=ylabel, percent=percent)


def line_panels(
    table: pd.DataFrame, lines: Sequence[tuple[str, str]], *, ylabel: str, percent: bool = False
) -> Figure:
    """One panel for each line (from, to); the table may hold it the other way round.

    The dashed line joins the two ends. The band is the interval of the curve's height above it,
    not of the curve itself: what all models share (hard prompts) does not count.
    """
    # A model's own row names the base as its partner, whichever way round their line is.
    table = table[table["quantity"].isin(["curve", "rise"])]
    columns = min(3, len(lines))
    high = -(-len(lines) // columns)
    fig, axes = plt.subplots(
        high, columns, figsize=(1.2 + 2.4 * columns, 0.7 + 2.0 * high),
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for ax, (a, b) in zip(axes.flat, lines, strict=False):
        turned = not ((table["a"] == a) & (table["b"] == b)).any()
        first, second = (b, a) if turned else (a, b)
        pair = table[(table["a"] == first) & (table["b"] == second)]
        pair = pair.assign(alpha=1 - pair["alpha"] if turned else pair["alpha"])
        pair = pair.sort_values("alpha", kind="stable")
        rows, rise = pair[pair["quantity"] == "curve"], pair[pair["quantity"] == "rise"]
        # A rise is one of the loss: where more is better it points down.
        up = np.where(rise["metric"] == "accuracy", -1.0, 1.0)
        low, high = (
            rows["value"].to_numpy() + up * (rise[side] - rise["value"]).to_numpy()
            for side in ("low", "high")
        )
        ax.fill_between(rows["alpha"], low, high, color=colour(b), alpha=0.22, lw=0)
        ends = rows["value"].iloc[[0, -1]]
        ax.plot([0, 1], ends, color="#555555", ls=(0, (4, 3)), lw=1.2)
        ax.plot(rows["alpha"], rows["value"], color=colour(b), marker=".", ms=5)
        ax.plot(0, ends.iloc[0], marker=marker(a), color=colour(a), ms=7, clip_on=False)
        ax.plot(1, ends.iloc[1], marker=marker(b), color=colour(b), ms=7, clip_on=False)
        ax.set_title(f"{label(a)} to {label(b)}", fontsize=9.5)
        if percent:
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for ax in axes.flat[len(lines) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(lines) - columns, 0) : len(lines)]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
    fig.supxlabel(r"position $\alpha$ on the line", fontsize=10)
    fig.supylabel(ylabel, fontsize=10)
    return fig


def verdicts(table: pd.DataFrame) -> Figure:
    """Every claim in the column of its verdict; hollow, that by its first rule where it differs.

    Args:
        table: rows of `judging.judge_claims` with `claim`, `title`, `verdict`, `first_verdict`.
    """
    names = list(VERDICT_COLOURS)
    fig, ax = plt.subplots(figsize=(9.6, 0.9 + 0.36 * len(table)))
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for place, row in enumerate(rows):
        now, before = (names.index(row[key]) for key in ("verdict", "first_verdict"))
        if before != now:
            hue = VERDICT_COLOURS[row["first_verdict"]]
            ax.plot([before, now], [place, place], color="#BBBBBB", lw=1.2, zorder=1)
            ax.plot(before, place, "s", ms=13, mfc="white", mec=hue, mew=2.5, zorder=2)
        ax.plot(now, place, "s", ms=17, color=VERDICT_COLOURS[row["verdict"]], zorder=2)
        ax.text(now, place, row["claim"], ha="center", va="center", fontsize=8, color="black")
    headings = [name.removesuffix(" in this regime").replace(" ", "\n") for name in names]
    ax.set_xticks(range(len(names)), headings)
    ax.set_yticks(range(len(table)), table["title"], fontsize=10)
    ax.tick_params(axis="both", length=0)
    ax.tick_params(axis="x", labeltop=True, labelbottom=False)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.grid(True, axis="y")
    return fig


def estimators(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Two estimators of one similarity by depth: values with intervals, chance levels as bands.

    Args:
        table: rows of one pair with `layer`, `quantity`, `value`, `low`, `high`, `chance_low`,
            `chance_high`.
        names: the two quantities, in the order of the panels.
    """
    fig, axes = plt.subplots(1, len(names), figsize=(8.6, 3.0), sharey=True)
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        rows = table[table["quantity"] == name].sort_values("layer")
        band = (rows["chance_low"], rows["chance_high"])
        ax.fill_between(
            rows["layer"], *band, color="#BDBDBD", alpha=0.8, lw=0, label="chance level"
        )
        ax.fill_between(rows["layer"], rows["low"], rows["high"], color="#0072B2", alpha=0.22, lw=0)
        ax.plot(rows["layer"], rows["value"], color="#0072B2", marker="o", label="measured")
        ax.set_title(name.replace("_", " ").replace("cka", "CKA"), loc="left")
        ax.set(xlabel="layer", ylim=(-0.05, 1.03))
        ax.xaxis.get_major_locator().set_params(integer=True)
    np.atleast_1d(axes)[0].set_ylabel("CKA")
    np.atleast_1d(axes)[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return fig
