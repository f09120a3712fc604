"""Figures over the steps of a training.

Like `plots`: functions draw what a table holds, compute nothing, and return the `Figure`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune_geometry.figures.palette import in_order, label, look


def along_steps(table: pd.DataFrame, *, ylabel: str) -> Figure:
    """One line an adapter over the steps.

    Args:
        table: columns `step`, `name`, `value`.
    """
    fig, ax = plt.subplots(figsize=(7.0, 3.9))
    shown = in_order(table["name"])
    for name in shown:
        rows = table[table["name"] == name].sort_values("step")
        ax.plot(rows["step"], rows["value"], **{**look(name, shown), "label": label(name)})
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step", ylabel=ylabel)
    fig.legend(loc="outside lower center", ncols=3)
    return fig
