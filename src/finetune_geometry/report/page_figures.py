"""Which figures a report has, and the words below each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.depth import stack_ranges
from finetune_geometry.figures.geometry_plots import angle_panels, share_panels
from finetune_geometry.figures.palette import introduce, label
from finetune_geometry.figures.plots import by_depth
from finetune_geometry.geometry.clusters import linkage_of
from finetune_geometry.geometry.pairs import CHANCE_OF, start_of
from finetune_geometry.geometry.table_layout import versus
from finetune_geometry.report.figure_forms import layer_grid, matrix, path_panels, share_grids
from finetune_geometry.report.result import (
    TO_DIRECTION,
    TO_SUBSPACE,
    Comparison,
    at_level,
)
from finetune_geometry.report.summary import pair_matrix, summary
from finetune_geometry.report.wording import number

Drawing = tuple[str, Figure, str, str]
LINES = 7  # adapters that lines can still tell apart; more become cells


def figures(c: Comparison, facts: dict[str, Any] | None = None) -> Iterator[Drawing]:
    """(file name, figure, caption, what a screen reader says) of each figure that has something.

    Where the reference changes nothing, or no two adapters change anything, some have not.
    facts: of `summary.summary`, if it is at hand.
    """
    facts = summary(c) if facts is None else facts
    introduce(c.names)  # one colour each, in every figure
    order = [*facts["order"], *(name for name in c.names if name not in facts["order"])]
    if facts["path"] is not None:  # a series has an order of its own
        order = list(c.names)
    yield from _pairs(c, facts, order)
    moving = [name for name in order if name in facts["order"]]
    if moving:
        yield _energy(c, moving)
    if c.plane is not None:
        yield (
            "path",
            path_panels(c.tables["path"], *c.plane),
            "The path from the base through the checkpoints, in the order given. Left: the plane "
            "that holds most of it, numbers are places in the series. Middle: how far each "
            "checkpoint is from the base, from the last one and from the one before. Right: the "
            "angle between the step that leads to a checkpoint and the next step; 0 is straight "
            "on, 90 (dashed) a right angle. Dotted upright lines: breaks.",
            "The path of the series: a map, distances, and turns.",
        )
    yield from _against_reference(c, order)


def _pairs(c: Comparison, facts: dict[str, Any], order: list[str]) -> Iterator[Drawing]:
    pairs = facts["pairs"]
    idle = [i for i, name in enumerate(order) if name not in facts["order"]]
    cosines = pair_matrix(pairs, order, "cosine", 1.0)
    cosines[idle, idle] = np.nan
    if len(facts["order"]) > 1:
        bounds = sorted(
            level for a, b in combinations(c.names, 2) if (level := _matching_chance(c, a, b))
        )
        near, far = number(bounds[0]), number(bounds[-1])
        among = f"±{far}" if near == far else f"±{near} to ±{far}, depending on the pair"
        tree = None
        if len(order) > 2 and order == facts["order"] and facts["path"] is None:
            # From the adapters as given, as `order` was: its leaves then stand in that order.
            tree = linkage_of(pair_matrix(pairs, list(c.names), "cosine", 1.0))
        joined = (
            " Neighbours are alike, and the tree above joins them at their mean distance, "
            "1 - cosine."
        )
        yield (
            "cosine",
            matrix(
                cosines,
                order,
                title="Global cosine",
                limits=(-1.0, 1.0),
                cmap="RdBu_r",
                tree=tree,
            ),
            "Do two fine-tunings move the weights in the same direction? 1: the same direction, 0: "
            "at right angles; all modules count as one long vector. Of unrelated adapters of these "
            f"shapes 95 % lie within {among}: wider if both started from one A."
            f"{'' if tree is None else joined} A change of zero has no direction (hatched). "
            "Length plays no part.",
            "Matrix of global cosines between the adapters.",
        )
    with_base = [BASE, *order]
    norms = {name: values["norm"] for name, values in facts["adapters"].items()}
    ends = [*pairs, *({"a": BASE, "b": name, "distance": norms[name]} for name in norms)]
    distances = pair_matrix(ends, with_base, "distance", 0.0)
    yield (
        "distance",
        matrix(
            distances,
            with_base,
            title="Distance (Frobenius norm)",
            digits=".3g",
            limits=(0.0, max(float(distances.max()), 1e-300)),
            cmap="cividis",
        ),
        "How far apart did they end, and how far from the base? The base's column is the length "
        "of each change. An adapter close to the base has changed little, whatever its direction.",
        "Matrix of distances between the base and the adapters.",
    )


def _energy(c: Comparison, order: Sequence[str]) -> Drawing:
    panels = []
    table = c.tables["energy"]
    for by, title in (("layer", "Share of the energy by layer, %"), ("kind", "by kind, %")):
        rows = table[table["by"] == by]
        parts = list(dict.fromkeys(rows["part"]))
        wide = rows.pivot_table(index="adapter", columns="part", values="share", sort=False)
        panels.append((title, wide.loc[list(order), parts].to_numpy(), parts))
    return (
        "energy",
        share_grids(panels, order),
        "Where did the weights change? Energy is the squared length of a change; the shares of a "
        "row add up to 100 %. Larger modules have more room: energy.csv has each part's share of "
        f"the entries, too, and the same by module.{_stack_words(c)}",
        "Shares of the energy by layer and by kind of module, one row an adapter.",
    )


def _matching_chance(c: Comparison, a: str, b: str) -> float:
    """|cosine| that 95 % of unrelated pairs stay below, if they started as this pair did.

    0 where the pair has no cosine; the wider of both levels where the start is unknown.
    """
    start = _start(c, a, b)
    return max(c.value("pairs", what, a, b) or 0.0 for what in CHANCE_OF[start])


def _start(c: Comparison, a: str, b: str) -> str:
    return start_of(c.value("pairs", "cosine_of_a", a, b, level="mean"))


def _against_reference(c: Comparison, order: Sequence[str]) -> Iterator[Drawing]:
    who = label(c.reference)
    many = len(order) > LINES + 1
    by_layer = _beside(c, "cosine", "layer")
    by_layer = by_layer[by_layer["quantity"] == "cosine"]
    if len(by_layer):
        yield _depth(c, by_layer, order, who)
    angles = _beside(c, "principal_angles", "median")
    angles = _in_order(angles, order)
    angles = angles[(angles["k"] == c.k) & angles["quantity"].str.startswith("angle_")]
    if len(angles):
        null = c.tables["chance"]
        starts = {_start(c, c.reference, str(other)) for other in angles["other"].unique()}
        shared = "shared" in starts
        right = (
            "On the right it is that of adapters with one A that never moved: an angle above it "
            "shows that A moved, or was not the same."
            if shared
            else "It supposes input directions of each adapter's own."
        )
        yield (
            "angles",
            angle_panels(
                angles,
                null[
                    (null["level"] == "median") & (null["k"] == c.k) & (null["shared_a"] == shared)
                ],
                title=f"Angles with {who}, k = {c.k}",
                compact=many,
            ),
            f"Do they use the same directions? Principal angles between the {c.k} strongest output "
            "(left) and input (right) directions, median over the modules, at the middle of each "
            "mark; grey, from left to right: chance for smallest, median and largest. "
            f"{right} The left side does not depend on that.",
            f"Smallest, median and largest angle with {c.reference}, left and right.",
        )
    parts = _beside(c, "orthogonal_fraction", "global")
    wanted = [f"{m}_{e}" for m in (TO_DIRECTION, TO_SUBSPACE) for e in ("norm", "energy")]
    parts = _in_order(parts, order)
    parts = parts[parts["side"].isin(["", "left"]) & parts["quantity"].isin(wanted)]
    if len(parts):
        yield (
            "orthogonal_fraction",
            share_panels(
                parts,
                {TO_DIRECTION: 1.0, TO_SUBSPACE: c.chance_orthogonal},
                titles={
                    TO_DIRECTION: f"orthogonal to the direction of {who}",
                    TO_SUBSPACE: f"orthogonal to its top-{c.k} output subspace",
                },
                compact=many,
            ),
            f"How much of each change is orthogonal to that of {c.reference}? On the left to its "
            f"one direction, on the right to its {c.k} strongest output directions. Markers: "
            "share of the length; strokes: share of the energy, the squared length, and only "
            "energies add up to 1. Dashed: the share of the length that a random change would "
            "show.",
            f"Share of each change that is orthogonal to that of {c.reference}.",
        )


def _beside(c: Comparison, table: str, level: str) -> pd.DataFrame:
    """The rows of one level with the reference, and the partner's name as `other`; maybe none."""
    rows = at_level(c.tables[table], level)
    if c.reference not in {*rows["a"], *rows["b"]}:  # it has no direction
        return rows.iloc[:0].assign(other="")
    return versus(rows, c.reference, among=c.names)


def _in_order(table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The rows in the order of `other`; the book's own methods keep theirs."""
    place: Mapping[str, int] = {name: i for i, name in enumerate(order)}
    return table.sort_values("other", key=lambda names: names.map(place), kind="stable")


def _depth(c: Comparison, by_layer: pd.DataFrame, order: Sequence[str], who: str) -> Drawing:
    low, high = _layer_chance(c)
    others = [name for name in order if name in set(by_layer["other"])]
    if len(others) <= LINES:
        drawn = by_depth(
            by_layer,
            name="other",
            ylabel=f"cosine with {who}",
            chance=(low, high),
            chance_label="chance, one layer",
        )
        band = "The grey band holds 95 % of"
    else:
        wide = by_layer.pivot_table(index="other", columns="layer", values="value")
        drawn = layer_grid(
            wide.loc[others].to_numpy(),
            others,
            [str(layer) for layer in wide.columns],
            title=f"Cosine with {who}",
        )
        band = f"Within ±{number(high)} lie 95 % of"
    return (
        "depth",
        drawn,
        f"In which layers do they part from {c.reference}? {band} the values of single layers for "
        f"unrelated adapters, at the layer and the pair where it is widest.{_stack_words(c)}",
        f"Cosine with {c.reference} by layer, one line or row an adapter.",
    )


def _layer_chance(c: Comparison) -> tuple[float, float]:
    """The widest chance band of one layer's cosine with the reference."""
    pairs = _beside(c, "pairs", "layer")
    wide = 0.0
    for other, rows in pairs.groupby("other", sort=False):
        start = _start(c, c.reference, str(other))
        wide = max(wide, float(rows.loc[rows["quantity"].isin(CHANCE_OF[start]), "value"].max()))
    return -wide, wide


def _stack_words(c: Comparison) -> str:
    """Which layers are which, where blocks of several stacks are counted on."""
    stacks = stack_ranges(c.shapes)
    if len(stacks) < 2:
        return ""
    parts = (
        f"{low} to {high}: {path or 'top'}" if high > low else f"{low}: {path or 'top'}"
        for path, (low, high) in stacks.items()
    )
    return f" Layers count on from stack to stack ({'; '.join(parts)})."
