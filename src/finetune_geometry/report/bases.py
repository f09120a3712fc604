"""Two bases side by side: a run, and one on another base model that ships with the book.

What ships lies in models/<profile>/: the adapters in half precision, and the run's tables. All that
is geometry is computed from the adapters here, so that nobody has to believe a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from finetune_geometry.deltas.adapters import Adapter, load_adapter
from finetune_geometry.evaluation.judging import UNTESTABLE
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import (
    bootstrap_global_cosine,
    inner_products,
    tabulate_cosines,
)
from finetune_geometry.geometry.subspaces import module_angles, tabulate_angles
from finetune_geometry.geometry.table_layout import bootstrap_averages
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS

PREDICTIONS = "book/predictions.yaml"


def shipped_folder(base: str) -> Path:
    """models/<base>/ of the checkout. Raises UserError where no run lies there.

    A run ships its adapters and the tables that were made of them, or a few of the tables alone.
    """
    folder = project_root() / "models" / base
    if not (folder / "geometry").is_dir():
        there = sorted(path.parent.name for path in folder.parent.glob("*/geometry"))
        raise UserError(
            f"no run on a base {base!r}: {folder}: use one of {', '.join(there) or '(none)'}, or "
            f"make one: make book PROFILE={base}, then make ship PROFILE={base}"
        )
    return folder


def shipped_adapters(base: str) -> list[Adapter]:
    """The six methods, in their order, then the controls. Raises UserError where none ship."""
    folder = shipped_folder(base) / "adapters"
    if not folder.is_dir():
        raise UserError(f"tables alone ship: {folder.parent}: train its adapters: PROFILE={base}")
    order = list(METHODS)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return [load_adapter(folder / name, name) for name in names]


def predictions_of(base: str) -> Mapping[str, Any]:
    """What was written down before the run on this base was made; empty where nothing was."""
    path = project_root() / PREDICTIONS
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: Mapping[str, Any] = tree.get(base, {})
    return found


def verdicts_beside(
    here: pd.DataFrame, there: pd.DataFrame, predicted: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """One row a claim: verdicts of two ledgers, and of the second what had been predicted.

    Columns: claim, title, here, there, predicted ("" where nothing was), reason, agree (the
    ledgers give one verdict, and the claim is testable in both), foreseen (the prediction came
    true).
    """
    other = there.set_index("claim")["verdict"]
    rows = []
    for row in here.to_dict("records"):
        second = str(other.get(row["claim"], ""))
        made = predicted.get(str(row["claim"]), {})
        before = made.get("verdict", "")
        rows.append(
            {
                "claim": row["claim"],
                "title": row["title"],
                "here": row["verdict"],
                "there": second,
                "predicted": before,
                "reason": " ".join(made.get("reason", "").split()),
                "agree": row["verdict"] == second != UNTESTABLE,
                "foreseen": before == second,
            }
        )
    return pd.DataFrame(rows)


def conditions_apart(
    here: pd.DataFrame, there: pd.DataFrame, claims: Iterable[str]
) -> pd.DataFrame:
    """The conditions of a verdict that are met in one run and not, or not surely, in the other.

    here, there: evaluation/claims_conditions.csv of two runs. Of each claim the rule that holds
    now counts, the last of its versions.

    Columns: claim, condition (what is measured, and the line it has to keep), here, there (the
    measured values), here_line, there_line (what the line is in that run), here_holds, there_holds
    ("yes", "no", or "open" where an interval crosses the line).
    """
    keys, shown = ["claim", "measure", "line"], ["value", "line_value", "holds"]
    sides = []
    for table in (here, there):
        last = table.groupby("claim")["version"].transform("last")
        kept = table.loc[table["version"] == last, [*keys, *shown]]
        sides.append(kept.drop_duplicates(keys))  # a condition may serve two verdicts
    rows = sides[0].merge(sides[1], on=keys, suffixes=("_here", "_there"))
    rows = rows[(rows["holds_here"] != rows["holds_there"]) & rows["claim"].isin(list(claims))]
    return pd.DataFrame(
        {
            "claim": rows["claim"],
            "condition": rows["measure"] + " " + rows["line"],
            **{side: rows[f"value_{side}"] for side in ("here", "there")},
            **{f"{side}_line": rows[f"line_value_{side}"] for side in ("here", "there")},
            **{f"{side}_holds": rows[f"holds_{side}"] for side in ("here", "there")},
        }
    ).reset_index(drop=True)


def listed(claims: Iterable[str]) -> str:
    """Claims in a sentence: "C1, C4 and C7"; "none"."""
    names = list(claims)
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def likeness_of(
    adapters: Sequence[Adapter], k: int, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Global cosines, and smallest angles between the top-k left subspaces, of all pairs.

    Columns: a, b, quantity ("cosine", or "angle": degrees, median over modules), value, low, high:
    bootstrap intervals over modules.
    """
    parts = map_modules(lambda cores: (inner_products(cores), module_angles(cores, [k])), adapters)
    products = [inner for inner, _ in parts]
    cosines = tabulate_cosines(products).query("quantity == 'cosine' and level == 'global'")
    intervals = bootstrap_global_cosine(products, confidence=confidence, seed=seed)
    cosines = cosines.merge(intervals, on=["a", "b"]).assign(quantity="cosine")
    angles = tabulate_angles([found for _, found in parts])
    angles = angles.query("quantity == 'angle_smallest' and side == 'left'")
    angles = bootstrap_averages(angles, confidence=confidence, seed=seed)
    angles = angles.query("level == 'median'").assign(quantity="angle")
    columns = ["a", "b", "quantity", "value", "low", "high"]
    return pd.concat([cosines[columns], angles[columns]], ignore_index=True)


def norms_of(adapters: Sequence[Adapter]) -> pd.Series:
    """Frobenius norm of each delta, all modules stacked."""
    table = tabulate_cosines(map_modules(inner_products, adapters))
    table = table.query("quantity == 'norm' and level == 'global'")
    return table.set_index("a")["value"]


def with_expected(table: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Add the column `expected`: the weights-only prediction of a pair's cosine, NaN if none.

    predicted: the table geometry/predicted_cosine.csv of the run.
    """
    plain = predicted[predicted["quantity"] == "predicted"]
    pairs = zip(plain["a"], plain["b"], plain["value"], strict=True)
    known = {frozenset((a, b)): float(value) for a, b, value in pairs}
    expected = [
        known.get(frozenset(pair), float("nan"))
        for pair in zip(table["a"], table["b"], strict=True)
    ]
    return table.assign(expected=np.array(expected))
