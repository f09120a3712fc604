"""The small tables of the page, as rows of text. (headings, rows, note) each; no rows: no table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.geometry.merging import ALL
from finetune_geometry.report.result import Comparison
from finetune_geometry.report.wording import number, percent, printable

PageTable = tuple[list[str], list[list[str]], str]
ADAPTER_HEAD = [
    "adapter", "norm", "orthogonal to {reference}", "entropy rank", "stable rank", "rank given",
    "for 90 %", "for 99 %",
]  # fmt: skip
MOST = 15  # pairs, or saved tensors, that a page shows; the file has all


def adapter_rows(c: Comparison, facts: dict[str, Any]) -> list[list[str]]:
    """Each adapter's length, its part off the reference, and its ranks."""
    rows = []
    for name, v in facts["adapters"].items():
        given = v["rank_given"]
        off = "–" if name == c.reference else _text(v["orthogonal_to_reference_norm"])
        rows.append(
            [
                name,
                f"{v['norm']:.4g}",
                off,
                _text(v["entropy_rank"], 2),
                _text(v["stable_rank"], 2),
                "–" if given is None else " to ".join(str(r) for r in dict.fromkeys(given)),
                *(
                    "–"
                    if v[f"{what}_max"] is None or v[f"{what}_median"] is None
                    else f"{v[f'{what}_median']:g} ({v[f'{what}_max']:g})"
                    for what in ("rank_90", "rank_99")
                ),
            ]
        )
    return rows


def merging_table(c: Comparison, facts: dict[str, Any]) -> PageTable:
    """What all share if merged, and the pairs; of many pairs those that cancel most."""
    table = c.tables["merging"].sort_values("interference", ascending=False, kind="stable")
    pairs, everyone = table[table["a"] != ALL], table[table["a"] == ALL]
    if facts["merged"]["opposed"] is None:
        return [], [], ""
    rows = [
        [
            f"all {len(c.names)}" if row["a"] == ALL else f"{row['a']} and {row['b']}",
            *(_share(row[what]) for what in ("common", "common_if_unrelated")),
            number(row["interference"]),
            *(_share(row[what]) for what in ("sign_conflict", "sign_conflict_of_largest")),
        ]
        for row in pd.concat([everyone, pairs[:MOST]]).to_dict("records")
    ]
    left = f" The {MOST} pairs that cancel most; merging.csv has all." if len(pairs) > MOST else ""
    return (
        ["merged", "common", "if unrelated", "interference", "signs differ", "of the largest"],
        rows,
        "Common: share of the mean energy that the mean of the changes keeps (task arithmetic, "
        "Ilharco et al. 2022), and what it would be at right angles. Interference: share of the "
        "energy that the sum loses against right angles; negative where changes add up. Signs "
        "differ: share of the entries, of all and of those among the largest fifth of both, half "
        "by chance (TIES, Yadav et al. 2023, resolves these), counted on a random block of each "
        "module."
        + left,
    )  # fmt: skip


def path_table(c: Comparison, facts: dict[str, Any]) -> PageTable:
    """The series, one row a checkpoint; of a long one the first and the last, and the breaks."""
    if "path" not in c.tables:
        return [], [], ""
    path = c.tables["path"]
    shown = path
    if len(path) > 2 * MOST:
        near_end = (path["place"] <= MOST) | (path["place"] > len(path) - MOST)
        shown = path[near_end | (path["breaks"] != "")]
    rows = [
        [
            f"{row['place']}. {row['name']}",
            f"{row['step']:.3g}",
            f"{row['net']:.3g}",
            f"{row['to_last']:.3g}",
            _share(row["remaining"]),
            "" if np.isnan(row["turn"]) else f"{row['turn']:.0f}°",
            "" if np.isnan(row["cosine_of_a"]) else number(row["cosine_of_a"]),
            row["breaks"],
        ]
        for row in shown.to_dict("records")
    ]
    return (
        ["checkpoint", "step", "from the base", "to the last", "path left", "turn",
         "cosine of A", "breaks"],
        rows,
        "Step: distance from the checkpoint before. Turn: angle to the next step. Cosine of A with "
        "the checkpoint before: near 1 in one training. Breaks: another start, a step far longer "
        "than the others, or far out of direction (modified z-score above 3.5).",
    )  # fmt: skip


def heads_table(c: Comparison, facts: dict[str, Any]) -> PageTable:
    """Tensors saved whole, the largest cosines and norms by name."""
    if "heads" not in c.tables:
        return [], [], ""
    table = c.tables["heads"]
    rows = []
    for (tensor, shape), group in table.groupby(["tensor", "shape"], sort=False):
        norms, cosines = (group.loc[group["quantity"] == q, "value"] for q in ("norm", "cosine"))
        rows.append(
            [
                printable(str(tensor)),
                str(shape),
                str(int((group["b"] == "").sum())),
                _span([f"{v:.3g}" for v in np.sort(norms)]) if len(norms) else "not read",
                _span([number(v) for v in np.sort(cosines)]) if len(cosines) else "–",
            ]
        )
    left = f" The first {MOST} of {len(rows)}; heads.csv has all." if len(rows) > MOST else ""
    return (
        ["tensor", "shape", "adapters", "norm", "cosine of pairs"],
        rows[:MOST],
        "These are weights as saved, not changes: a head's random start is in them, and norm "
        "layers, whose weights are near 1, are alike everywhere." + left,
    )


def _share(value: float) -> str:
    return "" if np.isnan(value) else percent(value)


def _span(values: list[str]) -> str:
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _text(value: float | None, digits: int = 3) -> str:
    return "not defined" if value is None else f"{value:.{digits}f}"
