"""The look of every figure: one colour and one marker per method, names as the book writes them.

The colours are those of Okabe and Ito (2008), which stay apart for readers with any common form of
colour blindness; the marker repeats the distinction for print without colour. Every figure carries
its own opaque white ground with some padding, so that it reads the same on a light and a dark page.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt

from finetune_geometry.settings.objectives import METHODS, OBJECTIVES

INK = "#222222"
BASE = "base"

COLOURS: dict[str, str] = {
    **{name: objective.colour for name, objective in OBJECTIVES.items()},
    BASE: "#7F7F7F",
    "teacher": "#000000",
}
MARKERS: dict[str, str] = {
    **{name: objective.marker for name, objective in OBJECTIVES.items()},
    BASE: "P",
    "teacher": "*",
}
# Toys show no method, so they use none of the methods' colours.
TOY_COLOURS = ("#332288", "#882255", "#117733", "#999933")
# Adapters that are none of the six methods (a reader's own): dark, mutually distinct, in order.
_OTHER_COLOURS = ("#332288", "#117733", "#882255", "#999933", "#AA4499", "#661100", "#44AA99")
_OTHER_MARKERS = ("p", "h", "<", ">", "d", "H", "8")
# What the book calls a control, where that is not the end of its adapter's name.
_CONTROLS = {"order": "reshuffled"}
# On the student's own solutions; none of the book's objectives, but in the paper's release.
_ONLINE = {"online_grpo": "Online GRPO", "online_dapo": "DAPO"}
_cast: list[str] = []


def set_style() -> None:
    """Sets the book's figure style for the session; call it once, in a notebook's set-up cell."""
    import seaborn as sns  # slow to import, and the reports of `compare` do without it

    _show_returned_figures()
    # Asked for by peft, and nothing that a reader could change.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.transparent": False,
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.25,
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.8,
            "axes.edgecolor": "#888888",
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.5,
            "svg.fonttype": "none",
        }
    )


def _show_returned_figures() -> None:
    """In a notebook a figure is shown once: as the value of its cell, not again as an open one."""
    if "IPython" not in sys.modules:  # without it there is no notebook
        return
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is not None:
        plt.switch_backend("agg")
        select_figure_formats(shell, {"png"})


def label(name: str) -> str:
    """A name as the book writes it: "Offline GRPO"; `dpo-lr` "DPO (lr)"; `sft-order` "SFT
    (reshuffled)": one loss, trained once more with its rows in another order."""
    method, _, control = name.partition("-")
    known = {**METHODS, BASE: "Base", "teacher": "Teacher", **_ONLINE}
    if name in known:
        return known[name]
    if method in known and control:
        words = _CONTROLS.get(control, control)
        return f"{known[method]} ({words.replace('_', ' ').replace('-', ' ')})"
    return name


def colour(name: str, among: Sequence[str] = ()) -> str:
    """Colour of an adapter: the method's own; a foreign name's place decides, among
    those introduced and then in `among`."""
    return _look(name, among, COLOURS, _OTHER_COLOURS)


def marker(name: str, among: Sequence[str] = ()) -> str:
    """Marker of an adapter, chosen as `colour` chooses."""
    return _look(name, among, MARKERS, _OTHER_MARKERS)


def look(name: str, among: Sequence[str] = ()) -> dict[str, Any]:
    """An adapter's marker and colours for `plot`; a method's control (`sft-seed`) is hollow."""
    method, _, control = name.partition("-")
    hue = colour(name, among)
    hollow = method in COLOURS and control
    shape = {"marker": marker(name, among), "markerfacecolor": "white" if hollow else hue}
    return {"color": hue, "markeredgewidth": 1.5 if hollow else 1.0, **shape}


def introduce(names: Iterable[str]) -> None:
    """Fix the looks of these foreign names, in this order, for every figure that follows."""
    _cast[:] = dict.fromkeys(names)


def _look(name: str, among: Sequence[str], known: Mapping[str, str], others: Sequence[str]) -> str:
    method = name.partition("-")[0]
    if method in known:
        return known[method]
    foreign = [n for n in dict.fromkeys([*_cast, *among]) if n.partition("-")[0] not in known]
    return others[(foreign.index(name) if name in foreign else 0) % len(others)]


def in_order(names: Iterable[str]) -> list[str]:
    """The distinct names: base, the methods in the book's order, then all others as they came."""
    distinct = list(dict.fromkeys(names))
    rank = {name: i for i, name in enumerate([BASE, *METHODS])}
    return sorted(distinct, key=lambda n: (rank.get(n, len(rank)), distinct.index(n)))
