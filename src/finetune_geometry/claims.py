"""The claims ledger: what the paper says, what this run measured, what a fixed rule makes of it.

`book/claims.yaml` holds the claims and was written before any run. This module reads it, looks up
the numbers in the run's tables, and applies the rules; it knows no claim itself.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from finetune_geometry.profiles import UserError
from finetune_geometry.records import Run, project_root
from finetune_geometry.schema import build

REPRODUCED = "reproduced"
DIRECTION = "direction only"
FAILED = "not reproduced"
UNTESTABLE = "not testable in this regime"
VERDICTS = (REPRODUCED, DIRECTION, FAILED, UNTESTABLE)
COLUMNS = [
    "claim", "title", "paper", "measure", "value", "low", "high", "wanted", "detail", "rule",
    "verdict", "notebook",
]  # fmt: skip

_TAKES: dict[str, Callable[[np.ndarray], Any]] = {
    "min": np.argmin,
    "max": np.argmax,
    "max_abs": lambda values: np.argmax(np.abs(values)),
}
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_SIGNED = ("difference",)  # columns that change sign when a pair is turned round


@dataclass(frozen=True)
class Measure:
    """One number from a table: which rows, which column, and how several become one."""

    table: str
    column: str = "value"
    pairs: tuple[str, ...] = ()  # "a b"
    models: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    depth: tuple[float, ...] = ()  # (from, to), as fractions of the network
    take: str = ""  # min, max, max_abs, mean; empty where there is one row


@dataclass(frozen=True)
class Claim:
    """One claim of the paper with its rule; the keys are explained in book/claims.yaml."""

    title: str
    statement: str
    paper: str
    source: str
    method: str
    reason: str
    notebook: str
    measures: Mapping[str, Measure]
    reproduced: tuple[str, ...]
    direction: tuple[str, ...]
    testable: tuple[str, ...] = ()
    needs: str = ""


@dataclass(frozen=True)
class Ledger:
    """All claims by id, and the files (relative to a run) that hold the tables they name."""

    claims: Mapping[str, Claim]
    tables: Mapping[str, str]
    control_tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Number:
    """A measured value with its interval (NaN where the table has none)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def load_ledger(path: str | Path | None = None) -> Ledger:
    """Read and check the ledger (default: book/claims.yaml of the project).

    Raises UserError on unknown keys, tables, measures and conditions that cannot be read, so that
    a slip in a rule cannot pass for a verdict.
    """
    source = Path(path) if path else project_root() / "book" / "claims.yaml"
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read the claims: {source}: {reason}") from None
    ledger: Ledger = build(Ledger, tree, source)
    for name, claim in ledger.claims.items():
        for label, measure in claim.measures.items():
            where = f"{name}, {label!r}: {source}"
            if measure.table not in {**ledger.tables, **ledger.control_tables}:
                raise UserError(f"unknown table {measure.table!r}: {where}: list it under tables")
            if measure.take not in ("", "mean", *_TAKES):
                raise UserError(f"take: {measure.take!r}: {where}: use mean, {', '.join(_TAKES)}")
            if any(len(pair.split()) != 2 for pair in measure.pairs) or len(measure.depth) not in (
                0,
                2,
            ):
                raise UserError(f"pairs or depth: {where}: a pair and a depth have two parts each")
        for condition in (*claim.testable, *claim.reproduced, *claim.direction):
            try:
                holds(condition, dict.fromkeys(claim.measures, Number(0.0)))
            except UserError as error:
                raise UserError(f"{error} (claim {name}, {source})") from None
    return ledger


def load_tables(run: Run, ledger: Ledger) -> dict[str, pd.DataFrame]:
    """The run's tables that the ledger names; control tables only where the run has them."""
    tables = {name: run.read_table(path) for name, path in ledger.tables.items()}
    for name, path in ledger.control_tables.items():
        if run.path(path).is_file():
            tables[name] = run.read_table(path)
    return tables


def look_up(
    measure: Measure, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> Number | None:
    """The value of a measure, or None where the run has no such table, adapter or row.

    The interval is that of the row taken; a mean over rows has none. `settings` resolves values
    written as profile:<dotted key>.
    """
    if measure.table not in tables:
        return None
    table = tables[measure.table]
    for column, wanted in measure.where.items():
        if wanted.startswith("profile:"):
            wanted = str(settings[wanted.removeprefix("profile:")])
        numeric = pd.api.types.is_numeric_dtype(table[column])
        table = table[table[column] == (float(wanted) if numeric else wanted)]
    if measure.depth:
        middle = (table["layer"] + 0.5) / (tables[measure.table]["layer"].max() + 1)
        table = table[middle.between(*measure.depth)]
    parts = [table]
    if measure.pairs:
        parts = [_pair(table, *pair.split(), column=measure.column) for pair in measure.pairs]
    elif measure.models:
        parts = [table[table["model"] == model] for model in measure.models]
    if any(part.empty for part in parts):
        return None
    rows = pd.concat(parts, ignore_index=True)
    values = rows[measure.column].to_numpy(dtype=float)
    if measure.take == "mean":
        return Number(float(values.mean()))
    if not measure.take and len(values) > 1:
        raise UserError(
            f"{len(values)} rows for one number: table {measure.table!r}, {dict(measure.where)}: "
            "narrow `where` in book/claims.yaml, or say which row to take"
        )
    row = rows.iloc[int(_TAKES[measure.take](values)) if measure.take else 0]
    own = measure.column in ("value", "accuracy", "difference") and {"low", "high"} <= set(rows)
    interval = (float(row["low"]), float(row["high"])) if own else (np.nan, np.nan)
    return Number(float(row[measure.column]), *interval)


def _pair(table: pd.DataFrame, a: str, b: str, *, column: str) -> pd.DataFrame:
    """Rows of the pair, whichever way round the table has it; signed columns are turned."""
    straight = table[(table["a"] == a) & (table["b"] == b)]
    turned = table[(table["a"] == b) & (table["b"] == a)]
    if column in _SIGNED and not turned.empty:
        low, high = -turned["high"], -turned["low"]
        turned = turned.assign(**{column: -turned[column], "low": low, "high": high})
    return pd.concat([straight, turned])


def holds(condition: str, numbers: Mapping[str, Number]) -> bool:
    """Whether `left OP right` holds; a side is a measure's name, a number, or number * name."""
    match = re.fullmatch(r"(.+?) (>=|<=|>|<) (.+)", condition.strip())
    if match is None:
        raise UserError(f"cannot read condition {condition!r}: claims: write left >= right")
    left, sign, right = match.groups()
    return bool(_OPERATORS[sign](_side(left, numbers), _side(right, numbers)))


def _side(text: str, numbers: Mapping[str, Number]) -> float:
    factor, star, name = text.rpartition(" * ")
    try:
        if not star and name not in numbers:
            return float(text)
        return (float(factor) if star else 1.0) * numbers[name].value
    except (KeyError, ValueError):
        known = "; ".join(numbers)
        raise UserError(
            f"{text!r} is no measure and no number: claims: known are {known}"
        ) from None


def judge(claim: Claim, numbers: Mapping[str, Number | None]) -> str:
    """The verdict on one claim, one of VERDICTS. A number that is None or NaN: not testable."""
    known = {k: n for k, n in numbers.items() if n is not None and np.isfinite(n.value)}
    if len(known) < len(numbers):
        return UNTESTABLE
    for verdict, conditions in ((REPRODUCED, claim.reproduced), (DIRECTION, claim.direction)):
        if not all(holds(c, known) for c in claim.testable):
            return UNTESTABLE
        if all(holds(c, known) for c in conditions):
            return verdict
    return FAILED


def deciding(claim: Claim, numbers: Mapping[str, Number | None]) -> tuple[str, str]:
    """The measure that keeps the claim from being reproduced, and what was wanted of it, in words.

    The first measure, and no words, where nothing keeps it.
    """
    known = {k: n for k, n in numbers.items() if n is not None and np.isfinite(n.value)}
    if len(known) == len(numbers):
        for condition in claim.reproduced:
            if not holds(condition, known):
                left, sign, right = re.split(r" ([<>]=?) ", condition)
                value = (
                    f" ({_side(right, known):.4g})" if right.rpartition(" * ")[2] in known else ""
                )
                return left.rpartition(" * ")[2], f"{sign} {right}{value}"
    return next(iter(numbers)), ""


def evaluate(
    ledger: Ledger, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Every claim judged on the run's tables; columns COLUMNS, one row a claim.

    `value`, `low`, `high` belong to `measure`, the one that decided, and `wanted` is what it failed
    (see `deciding`); `detail` lists all numbers.
    """
    rows = []
    for name, claim in ledger.claims.items():
        numbers = {k: look_up(m, tables, settings) for k, m in claim.measures.items()}
        chosen, wanted = deciding(claim, numbers)
        shown = numbers[chosen] or Number(float("nan"))
        detail = "; ".join(f"{k}: {n.value:.4g}" for k, n in numbers.items() if n is not None)
        verdict = judge(claim, numbers)
        if verdict == UNTESTABLE and claim.needs:
            detail = f"{detail}; needs {claim.needs}" if detail else f"needs {claim.needs}"
        parts = {k: getattr(claim, k) for k in ("testable", "reproduced", "direction")}
        rule = "; ".join(f"{k}: {' and '.join(part)}" for k, part in parts.items() if part)
        rows.append(
            (name, claim.title, claim.paper, chosen, shown.value, shown.low, shown.high, wanted,
             detail, rule, verdict, claim.notebook)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)
