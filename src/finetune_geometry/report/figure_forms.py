"""The drawings of a report that no chapter has: for two adapters and for thirty. matplotlib only.

All return a figure. Rows and columns stand in the order given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.figures.palette import INK, label

# As in the book's figures, but without seaborn.
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
ANNOTATED = 12  # rows or columns up to which a cell has room for its number
BREAK = "#AA3311"


def small_font(n: int) -> float:
    """Size of labels, in points, for n of them in a row or column."""
    return 9.5 if n <= ANNOTATED else 8.5 if n <= 20 else 7.5


def matrix(
    values: Array,
    names: Sequence[str],
    *,
    title: str,
    digits: str = ".2f",
    limits: tuple[float, float],
    cmap: str = "viridis",
    tree: Array | None = None,
) -> Figure:
    """A symmetric (n, n) matrix of pairs; hatched where a value is missing.

    tree: linkage of the rows in this very order of leaves, drawn above.
    """
    n = len(names)
    cell = 0.62 if n <= 8 else 0.5 if n <= ANNOTATED else max(6.6 / n, 0.2)
    above = 0.0 if tree is None else 0.7
    fig = plt.figure(figsize=(2.1 + cell * n, 1.2 + cell * n + above))
    if tree is None:
        ax = fig.add_subplot()
    else:
        grid = fig.add_gridspec(2, 1, height_ratios=[above, cell * n], hspace=0.0)
        ax = fig.add_subplot(grid[1])
        _tree(fig.add_subplot(grid[0], sharex=ax), tree, title)
    image = _cells(ax, values, digits if n <= ANNOTATED else "", limits, cmap)
    size = small_font(n)
    ax.set_xticks(np.arange(n) + 0.5, [label(s) for s in names], rotation=90, fontsize=size)
    ax.set_yticks(np.arange(n) + 0.5, [label(s) for s in names], fontsize=size)
    if n <= 4:
        plt.setp(ax.get_xticklabels(), rotation=20, ha="right", rotation_mode="anchor")
    ax.set_aspect("equal" if tree is None else "auto")
    if tree is None:
        ax.set_title(title, loc="left")
    bar = fig.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    return fig


def _tree(ax: Axes, tree: Array, title: str) -> None:
    from scipy.cluster.hierarchy import dendrogram

    drawn = dendrogram(tree, no_plot=True)
    for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        ax.plot(np.array(x) / 10, y, color=INK, lw=1.0)  # scipy puts leaves at 5, 15, 25, ...
    ax.set_ylim(0, max(1.05 * float(tree[:, 2].max()), 1e-9))
    ax.axis("off")
    ax.set_title(title, loc="left")


def _cells(
    ax: Axes, values: Array, digits: str, limits: tuple[float, float], cmap: str, scale: float = 1.0
) -> plt.cm.ScalarMappable:
    """Cells with their numbers (times `scale`), where there are `digits`."""
    norm = Normalize(*limits)
    rows, columns = values.shape
    shown = np.ma.masked_invalid(values)
    ax.patch.set(facecolor="#F1F1F1", edgecolor="#BBBBBB", hatch="///")  # seen where none is
    image = ax.pcolormesh(
        np.arange(columns + 1), np.arange(rows + 1), shown, norm=norm, cmap=cmap,
        edgecolors="white", linewidth=1.0 if max(rows, columns) <= ANNOTATED else 0.4,
    )  # fmt: skip
    ax.set(xlim=(0, columns), ylim=(rows, 0))
    ax.grid(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if digits:
        for i, j in np.argwhere(np.isfinite(values)):
            red, green, blue, _ = image.cmap(norm(values[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            # What rounds to zero is no -0.00.
            text = format(scale * values[i, j], digits)
            text = text.removeprefix("-") if not float(text) else text
            ax.text(
                j + 0.5, i + 0.5, text, ha="center", va="center",
                fontsize=small_font(max(rows, columns)) - 0.5,
                color="white" if dark else INK,
            )  # fmt: skip
    return image


def share_grids(panels: Sequence[tuple[str, Array, Sequence[str]]], names: Sequence[str]) -> Figure:
    """Shares of energy in percent: one row an adapter, one panel a way of dividing the network.

    panels: (title, (adapters, parts), names of the parts).
    """
    n = len(names)
    row = 0.34 if n <= ANNOTATED else 0.21
    widths = [max(len(parts), 4) * (1.6 if len(parts) <= 8 else 1.0) for _, _, parts in panels]
    fig, axes = plt.subplots(
        1, len(panels), sharey=True, squeeze=False,
        figsize=(8.8, 1.9 + row * n), width_ratios=widths,
    )  # fmt: skip
    for ax, (title, shares, parts) in zip(axes[0], panels, strict=True):
        few = len(parts) <= 8
        top = max(float(shares.max()), 1e-9)
        image = _cells(ax, shares, ".0f" if few else "", (0.0, top), "cividis", scale=100.0)
        _column_ticks(ax, parts)
        ax.set_title(title, loc="left")
        bar = fig.colorbar(image, ax=ax, location="bottom", fraction=0.06, pad=0.02, aspect=30)
        bar.outline.set_visible(False)
        bar.ax.xaxis.set_major_locator(MaxNLocator(3))
        bar.ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
        bar.ax.tick_params(labelsize=8)
    axes[0][0].set_yticks(np.arange(n) + 0.5, [label(s) for s in names], fontsize=small_font(n))
    return fig


def layer_grid(values: Array, names: Sequence[str], layers: Sequence[str], *, title: str) -> Figure:
    """A cosine an adapter and layer, as cells: what lines can no longer show."""
    n = len(names)
    fig, ax = plt.subplots(figsize=(8.4, 1.4 + 0.21 * n))
    image = _cells(ax, values, "", (-1.0, 1.0), "RdBu_r")
    _column_ticks(ax, layers)
    ax.set_yticks(np.arange(n) + 0.5, [label(s) for s in names], fontsize=small_font(n))
    ax.set_title(title, loc="left")
    ax.set_xlabel("layer")
    bar = fig.colorbar(image, ax=ax, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    return fig


def _column_ticks(ax: Axes, parts: Sequence[str]) -> None:
    """Labels below the columns, as many as fit; names upright, numbers level."""
    numbers = all(part.isdigit() for part in parts)
    every = max(1, -(-len(parts) // 14)) if numbers else 1
    shown = range(0, len(parts), every)
    ax.set_xticks(
        [i + 0.5 for i in shown], [parts[i] for i in shown],
        rotation=0 if numbers else 60, fontsize=8.5,
        ha="center" if numbers else "right", rotation_mode="anchor" if not numbers else None,
    )  # fmt: skip


def path_panels(path: pd.DataFrame, points: pd.DataFrame, share: float) -> Figure:
    """A series: its map, how far it is from both ends, and how sharply it turns.

    Args:
        path: of `series_path.tabulate_path`.
        points: columns `name`, `x`, `y`, the base first and then the checkpoints.
        share: of the energy that the plane of the points holds.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.2, 3.7))
    places = path["place"].to_numpy()
    broken = path["breaks"].to_numpy() != ""
    place, far, turn = axes
    x, y = points["x"].to_numpy(), points["y"].to_numpy()
    place.plot(x, y, "-", color="#888888", lw=1.2, zorder=1)
    place.scatter(x[1:], y[1:], c=places, cmap="cividis", s=26, zorder=2)
    place.plot(x[0], y[0], "P", color="#7F7F7F", ms=8)
    place.annotate("base", (x[0], y[0]), xytext=(5, 5), textcoords="offset points", fontsize=8)
    last = len(path) - 1
    every = max(1, len(path) // 5)
    marked = {last, *range(0, last - every // 2, every), *np.flatnonzero(broken).tolist()}
    for i in sorted(marked):
        place.annotate(
            str(places[i]), (x[i + 1], y[i + 1]), xytext=(4, 4), textcoords="offset points",
            fontsize=8, color=BREAK if broken[i] else INK,
        )  # fmt: skip
    place.set_aspect("equal", adjustable="datalim")
    place.set_title(f"Map ({100 * share:.0f} % of the energy)", loc="left")
    far.plot(places, path["net"], "o-", color="#332288", ms=4, label="from the base")
    far.plot(places, path["to_last"], "s-", color="#999933", ms=4, label="from the last")
    far.plot(places, path["step"], "^:", color="#777777", ms=4, lw=1.2, label="from the one before")
    far.set_ylim(0)
    far.set_title("Distance", loc="left")
    fig.legend(*far.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    turn.plot(places, path["turn"], "o-", color="#332288", ms=4)
    turn.axhline(90, color="#555555", ls=(0, (4, 3)), lw=1.2)
    turn.set(ylim=(0, 185), yticks=(0, 45, 90, 135, 180))
    turn.set_title("Turn, in degrees", loc="left")
    for ax in (far, turn):
        ax.set_xlabel("checkpoint")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        for at in places[broken]:
            ax.axvline(at, color=BREAK, lw=1.2, ls=":", zorder=0)
    return fig
