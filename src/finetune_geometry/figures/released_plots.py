"""Figures of the chapter on released weights: printed against measured, and the yardstick.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`. Both
figures can be drawn without a measured number: they then show what the paper prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finetune_geometry.figures.palette import INK

#: What sets two adapters apart, and how the figure says it.
KINDS = {
    "loss": "two losses",
    "order": "one loss, two orders",
    "seed": "one loss, two seeds",
    "rate": "one loss, ten times the rate",
    "step": "one loss, two steps",
    "online": "online and offline",
}
AGREES = {"yes": "#009E73", "no": "#D55E00", "about": "#56B4E9"}
_WORDS = {
    "yes": "measured: rounds to the printed number",
    "no": "measured: does not",
    "about": "measured: the print is no exact number",
}
PRINTED = "#777777"


def printed_and_measured(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """One printed number a row: a bar where the paper has it, a dot where it was measured.

    Args:
        table: rows of `released.printed_table`; `value` is NaN where nothing was measured.
    """
    fig, ax = plt.subplots(figsize=(7.6, 1.0 + 0.3 * len(table)))
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for place, row in enumerate(rows):
        printed = row["printed_value"]
        ax.plot([printed, printed], [place - 0.36, place + 0.36], color=PRINTED, lw=3, zorder=1)
        if np.isfinite(row["value"]):
            hue = AGREES[row["agrees"]]
            ax.plot([printed, row["value"]], [place, place], color=hue, lw=1.2, zorder=2)
            ax.plot(row["value"], place, "o", color=hue, ms=7, zorder=3)
    ax.set_yticks(range(len(rows)), [f"{row['claim']}  {row['what']}" for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    shown = [key for key in AGREES if (table["agrees"] == key).any()]
    handles = [Line2D([], [], color=PRINTED, lw=3, label="printed in the paper")]
    handles += [
        Line2D([], [], color=AGREES[key], marker="o", ls="", label=_WORDS[key]) for key in shown
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -0.12 - 0.6 / len(rows)))
    return fig


def likeness_by_kind(pairs: pd.DataFrame, printed: Mapping[str, tuple[float, float]]) -> Figure:
    """Cosines of pairs, by what sets the two apart; a bar from the least to the largest printed.

    Args:
        pairs: columns `kind` (of KINDS), `cosine` and `chance`, the level of |cosine| that
            unrelated adapters stay below; may be empty.
        printed: kind -> the paper's least and largest number.
    """
    kinds = [kind for kind in KINDS if kind in printed or (pairs["kind"] == kind).any()]
    fig, ax = plt.subplots(figsize=(7.6, 1.0 + 0.5 * len(kinds)))
    for place, kind in enumerate(kinds):
        if kind in printed:
            ax.plot(printed[kind], [place - 0.3] * 2, color=PRINTED, lw=5, solid_capstyle="butt")
            ax.plot(printed[kind], [place - 0.3] * 2, "|", color=PRINTED, ms=9, mew=2.5)
        rows = pairs[pairs["kind"] == kind]
        if len(rows):
            level = float(rows["chance"].max())
            ax.plot([-level, level], [place] * 2, color="#BDBDBD", lw=12, solid_capstyle="butt")
            # A fixed pattern spreads the dots; a random one would make two runs' figures differ.
            offset = 0.3 * (((np.arange(len(rows)) * 0.618034) % 1.0) - 0.2)
            ax.plot(rows["cosine"], place + offset, "o", color="#0072B2", alpha=0.7, ms=5)
    ax.axvline(0, color=INK, lw=0.8, zorder=0)
    ax.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
    ax.set_ylim(len(kinds) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_xlabel("global cosine")
    handles = [Line2D([], [], color=PRINTED, lw=5, label="printed in the paper")]
    if len(pairs):
        handles += [
            Line2D([], [], color="#0072B2", marker="o", ls="", label="measured, one pair"),
            Line2D([], [], color="#BDBDBD", lw=8, label="chance, the widest of these pairs"),
        ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return fig
