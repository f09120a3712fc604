"""The interactive figures about deltas: as arrows, layer by layer, and along the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.figures.palette import in_order
from finetune_geometry.report.explorable_pictures import line_picture, series_of
from finetune_geometry.report.explorable_tables import (
    Found,
    chance_of,
    is_from_reference,
    looks,
    numbers_of,
    plain,
    table,
)
from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.folders import project_root

#: Kinds of repetitions, as in controls/spread.csv, in words.
KINDS = {"order": "order", "draw": "draw of A and order", "student": "student"}


def pair_matrix(cosines: pd.DataFrame, norms: pd.Series) -> dict[str, Any]:
    """Names, norms (M) and cosines (M, M) of the adapters that have a norm above 0.

    cosines: columns a, b, value. A pair that is not in it is null.
    """
    names = in_order(str(name) for name in norms.index[norms > 0])
    pairs = zip(cosines["a"], cosines["b"], cosines["value"], strict=True)
    value = {frozenset((a, b)): float(v) for a, b, v in pairs}
    rows = [[1.0 if a == b else value.get(frozenset((a, b))) for b in names] for a in names]
    return {"names": names, "norms": [float(norms[name]) for name in names], "cosines": rows}


def own_cell(found: pd.DataFrame) -> dict[str, Any]:
    """`pair_matrix` of a geometry/cosine.csv."""
    whole = found[found["level"] == "global"]
    norms = whole[whole["quantity"] == "norm"].set_index("a")["value"]
    return pair_matrix(whole[whole["quantity"] == "cosine"], norms)


def arrows(run: Path) -> Found:
    """Norms and cosines of all modules together: the run, its repetitions, other bases."""
    own = {"label": "this run", **own_cell(table(run, "geometry/cosine.csv"))}
    chance = chance_of(run, "global", "cosine")
    cells = [{**own, "chance": chance}]
    if (run / "controls" / "spread.csv").is_file():
        whose = "reference run, " if is_from_reference(run, "spread") else ""
        spread = table(run, "controls/spread.csv")
        for name, part in spread[spread["cell"] != "run"].groupby("cell", sort=False):
            kind = str(part["kind"].iloc[0])
            number = str(name).removeprefix(kind)
            norms = part[part["quantity"] == "norm"].set_index("a")["value"]
            made = pair_matrix(part[part["quantity"] == "cosine"], norms)
            text = f"{whose}{KINDS.get(kind, kind)} {number}".strip()
            cells.append({"label": text, **made, "chance": chance})
    for path in sorted((project_root() / "models").glob("*/geometry/cosine.csv")):
        if numbers_of(run).get("run.profile") != path.parts[-3]:
            # Its level of chance is another one: it depends on the shapes of the matrices.
            made = own_cell(read_csv(path))
            cells.append({"label": f"another base: {path.parts[-3]}", **made, "chance": None})
    names, inner = own["names"], gram_of(own)
    values, vectors = np.linalg.eigh(inner)
    points = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0.0))
    points *= np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    seen = looks(name for cell in cells for name in cell["names"])
    picture = line_picture(
        [
            series_of(seen[n], [0.0, float(x)], [0.0, float(y)])
            for n, (x, y) in zip(names, points, strict=True)
        ],
        "Arrows of the deltas from the base, in the plane that holds most of their length.",
        xlabel="first axis (Frobenius norm)",
        ylabel="second axis",
        arrows=True,
    )
    return {"cells": cells}, seen, picture


def gram_of(cell: dict[str, Any]) -> np.ndarray:
    """Inner products (M, M) from norms and cosines; a pair that is not known counts 0."""
    cosines = np.array(cell["cosines"], dtype=float)
    norms = np.array(cell["norms"])
    return np.nan_to_num(cosines) * norms[:, None] * norms[None, :]


def depth(run: Path) -> Found:
    """By layer: norms, cosines of all pairs, smallest principal angles (median over modules)."""
    by_layer = table(run, "geometry/cosine.csv").query("level == 'layer'")
    angles = table(run, "geometry/principal_angles.csv")
    angles = angles[(angles["level"] == "module") & (angles["quantity"] == "angle_smallest")]
    k = int(numbers_of(run).get("principal_angles.k") or angles["k"].max())
    angles = angles[angles["k"] == k]
    layers = sorted(int(layer) for layer in by_layer["layer"].unique())
    norms = by_layer[by_layer["quantity"] == "norm"].pivot_table(
        index="a", columns="layer", values="value"
    )
    names = in_order(str(name) for name in norms.index)
    cosines = by_layer[by_layer["quantity"] == "cosine"].pivot_table(
        index=["a", "b"], columns="layer", values="value", sort=False
    )
    medians = angles.pivot_table(
        index=["side", "a", "b"], columns="layer", values="value", aggfunc="median"
    )
    pairs = []
    for a, b in cosines.index:
        pair: dict[str, Any] = {
            "a": a,
            "b": b,
            "cosine": plain(cosines.loc[(a, b), layers]),
        }
        for side in ("left", "right"):
            of_pair = medians.xs((side, a, b)).reindex(layers)
            pair[side] = plain(of_pair)
        pairs.append(pair)
    data = {
        "layers": layers,
        "names": names,
        "norm": {name: plain(norms.loc[name, layers]) for name in names},
        "pairs": pairs,
        "k": k,
        "chance": {
            "cosine": chance_of(run, "layer", "cosine"),
            **{
                side: chance_of(run, "module", "angle_smallest", side=side, k=k)
                for side in ("left", "right")
            },
        },
    }
    seen = looks(names)
    chance = chance_of(run, "layer", "cosine")
    picture = line_picture(
        [series_of(seen[p["b"]], layers, p["cosine"]) for p in pairs if p["a"] == "sft"],
        "Cosine with SFT by layer, one line for each of the others.",
        xlabel="layer",
        ylabel="cosine with SFT",
        band=chance and [chance[0], chance[2]],
    )
    return data, seen, picture


def film(run: Path) -> Found:
    """Cosines of all pairs after as many steps, of every repetition."""
    found = table(run, "controls/path.csv")
    names = list(in_order(str(name) for name in {*found["a"], *found["b"]}))
    cells: list[dict[str, Any]] = []
    for cell, of_cell in found.groupby("cell", sort=False):
        steps = [
            {
                "step": int(rows["step"].iloc[0]),
                "cosines": pair_matrix(rows, pd.Series(1.0, names))["cosines"],
            }
            for _, rows in of_cell.groupby("step")
        ]
        kind = str(cell).rstrip("0123456789")
        label = f"{KINDS.get(kind, 'the run')} {str(cell).removeprefix(kind)}".strip()
        cells.append({"label": label, "steps": steps})
    seen = looks(names)
    sft = names.index("sft")
    own = cells[0]["steps"]
    picture = line_picture(
        [
            series_of(seen[n], [s["step"] for s in own], [s["cosines"][sft][i] for s in own])
            for i, n in enumerate(names)
            if n != "sft"
        ],
        "Cosine with SFT after as many steps, one line for each of the others.",
        xlabel="steps of the training",
        ylabel="cosine with SFT",
    )
    return {"names": names, "cells": cells}, seen, picture
