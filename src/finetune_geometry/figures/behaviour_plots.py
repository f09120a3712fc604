"""Figures of behaviour against geometry, pair by pair.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finetune_geometry.figures.palette import INK, TOY_COLOURS

_PAIRS = {
    "one A, one order": (TOY_COLOURS[0], "o"),
    "one A, two orders": (TOY_COLOURS[1], "D"),
    "two A": (TOY_COLOURS[3], "^"),
    "all": (INK, "s"),
}


def scatter_pairs(
    table: pd.DataFrame, measures: Mapping[str, str], behaviour: str, *, ylabel: str
) -> Figure:
    """A behaviour over some measures, one panel each, one dot a pair.

    Args:
        table: columns `pair` (a key of _PAIRS), `behaviour`, and the measures.
        measures: columns and what the axes call them.
    """
    fig, axes = plt.subplots(1, len(measures), figsize=(4.2 * len(measures), 3.7), sharey=True)
    for ax, (measure, text) in zip(np.atleast_1d(axes), measures.items(), strict=True):
        for pair, (hue, mark) in _PAIRS.items():
            rows = table[table["pair"] == pair]
            if len(rows):
                ax.plot(rows[measure], rows[behaviour], mark, color=hue, ms=3, alpha=0.45,
                        label=pair)  # fmt: skip
        ax.set_xlabel(text)
    np.atleast_1d(axes)[0].set_ylabel(ylabel)
    handles, texts = np.atleast_1d(axes)[0].get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside lower center", ncols=3)
    return fig


def correlations(table: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Correlations with their intervals, one row a measure, one mark a kind of pair.

    Args:
        table: columns `measure`, `pair`, `value`, `low`, `high`.
    """
    fig, ax = plt.subplots(figsize=(7.0, 1.4 + 0.5 * len(measures)))
    ax.axvline(0, color=INK, lw=0.8, zorder=0)
    shifts = np.linspace(-0.22, 0.22, len(_PAIRS))
    for (pair, (hue, mark)), shift in zip(_PAIRS.items(), shifts, strict=True):
        rows = table[table["pair"] == pair].set_index("measure")
        if rows.empty:
            continue
        y = np.array([place + shift for place, name in enumerate(measures) if name in rows.index])
        rows = rows.loc[[name for name in measures if name in rows.index]]
        ax.hlines(y, rows["low"], rows["high"], color=hue, lw=2)
        ax.plot(rows["value"], y, mark, color=hue, ms=6, label=pair)
    ax.set_yticks(range(len(measures)), list(measures))
    ax.set_ylim(len(measures) - 0.4, -0.6)
    ax.set_xlim(-1.05, 1.05)
    ax.grid(False, axis="y")
    ax.set_xlabel("rank correlation")
    fig.legend(loc="outside lower center", ncols=4)
    return fig
