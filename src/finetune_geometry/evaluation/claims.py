"""The claims ledger: what the paper says, how a run measures it, and the rules that judge it.

`book/claims.yaml` holds the claims, and for each every version of its rule with the day it was
written. This module reads it and looks up the numbers in a run's tables; `judging` applies the
rules. Neither knows a claim itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic.dataclasses import dataclass

from finetune_geometry.evaluation.judging import Number, read_condition
from finetune_geometry.runs.folders import project_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.schema import KNOWN_KEYS, Numbers, Texts, build

_TAKES: dict[str, Callable[[np.ndarray], Any]] = {
    "min": np.argmin,
    "max": np.argmax,
    "max_abs": lambda values: np.argmax(np.abs(values)),
}
_SIGNED = ("difference",)  # columns that change sign when a pair is turned round


@dataclass(frozen=True, config=KNOWN_KEYS)
class Measure:
    """One number from a table: which rows, which column, and how several become one."""

    table: str
    column: str = "value"
    pairs: Texts = ()  # "a b"
    models: Texts = ()
    where: Mapping[str, str] = field(default_factory=dict)
    depth: Numbers = ()  # (from, to), as fractions of the network
    take: str = ""  # min, max, max_abs, mean; empty where there is one row


@dataclass(frozen=True, config=KNOWN_KEYS)
class Rule:
    """One version of a claim's rule: conditions, the day it was written, and why it is so."""

    written: str  # year-month-day
    reason: str  # of a later version: why the one before it was changed
    reproduced: Texts
    direction: Texts
    testable: Texts = ()

    def parts(self) -> dict[str, tuple[str, ...]]:
        """The conditions by part, in the order in which they are asked."""
        return {
            "testable": self.testable,
            "reproduced": self.reproduced,
            "direction": self.direction,
        }


@dataclass(frozen=True, config=KNOWN_KEYS)
class Claim:
    """One claim of the paper with its rules; the keys are explained in book/claims.yaml."""

    title: str
    statement: str
    paper: str
    source: str
    method: str
    notebook: str
    measures: Mapping[str, Measure]
    rules: Mapping[str, Rule]  # the first version first, the present one last
    needs: str = ""

    @property
    def first(self) -> Rule:
        return next(iter(self.rules.values()))

    @property
    def present(self) -> Rule:
        return list(self.rules.values())[-1]


@dataclass(frozen=True, config=KNOWN_KEYS)
class Ledger:
    """All claims by id, and the files (relative to a run) that hold the tables they name."""

    claims: Mapping[str, Claim]
    tables: Mapping[str, str]
    control_tables: Mapping[str, str] = field(default_factory=dict)


def load_ledger(path: str | Path | None = None) -> Ledger:
    """Read and check the ledger (default: book/claims.yaml of the project).

    Raises UserError on unknown keys, tables, measures and conditions that cannot be read, and on
    versions of a rule that are out of order, so that a slip cannot pass for a verdict.
    """
    source = Path(path) if path else project_root() / "book" / "claims.yaml"
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read the claims: {source}: {reason}") from None
    ledger = build(Ledger, tree, source)
    for name, claim in ledger.claims.items():
        for label, measure in claim.measures.items():
            _check_measure(measure, {**ledger.tables, **ledger.control_tables},
                           f"{name}, {label!r}: {source}")  # fmt: skip
        _check_rules(claim, f"claim {name}: {source}")
    return ledger


def _check_measure(measure: Measure, tables: Mapping[str, str], where: str) -> None:
    if measure.table not in tables:
        raise UserError(f"unknown table {measure.table!r}: {where}: list it under tables")
    if measure.take not in ("", "mean", *_TAKES):
        raise UserError(f"take {measure.take!r}: {where}: use mean, {', '.join(_TAKES)}")
    if any(len(pair.split()) != 2 for pair in measure.pairs):
        raise UserError(f"pairs have two parts: {where}: write 'sft rft'")


def _check_rules(claim: Claim, where: str) -> None:
    if not claim.rules:
        raise UserError(f"no rule: {where}: write at least one under rules")
    days = []
    for version, rule in claim.rules.items():
        try:
            days.append(date.fromisoformat(rule.written))
        except ValueError:
            raise UserError(
                f"written {rule.written!r}: {where}, {version}: write a day, '2026-11-24'"
            ) from None
        if not (rule.reproduced and rule.direction):
            raise UserError(
                f"a rule without conditions: {where}, {version}: fill reproduced and direction"
            )
        for condition in (c for part in rule.parts().values() for c in part):
            try:
                read_condition(condition, claim.measures)
            except UserError as error:
                raise UserError(f"{error} ({where}, {version})") from None
    if days != sorted(days):
        raise UserError(f"rules out of order: {where}: the first written comes first")


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

    The interval is that of the row taken. Of the least of several rows it reaches from their least
    lower to their least upper end, likewise for the largest; of a mean it is the mean of the
    intervals, as if all were wrong in the same way: wider than the truth, if anything. `settings`
    resolves values written as profile:<dotted key>. Raises UserError for a column or a value that
    the table cannot have, and where several rows are left and `take` says nothing.
    """
    if measure.table not in tables:
        return None
    table = _where(measure, tables[measure.table], settings)
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
    if not measure.take and len(values) > 1:
        raise UserError(
            f"{len(values)} rows for one number: table {measure.table!r}, {dict(measure.where)}: "
            "narrow `where` in book/claims.yaml, or say which row to take"
        )
    own = measure.column in ("value", "accuracy", "difference") and {"low", "high"} <= set(rows)
    ends = rows[["low", "high"]].to_numpy(dtype=float) if own else np.full((len(values), 2), np.nan)
    if measure.take == "mean":
        return Number(float(values.mean()), *map(float, ends.mean(0)))
    if measure.take in ("min", "max"):
        pick = np.min if measure.take == "min" else np.max
        return Number(float(pick(values)), *(float(pick(end)) for end in ends.T))
    row = int(_TAKES[measure.take](values)) if measure.take else 0
    return Number(float(values[row]), *map(float, ends[row]))


def _where(measure: Measure, table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of `measure.where`."""
    asked = [*measure.where, measure.column, *(["layer"] if measure.depth else [])]
    asked += ["a", "b"] if measure.pairs else ["model"] if measure.models else []
    if missing := [column for column in asked if column not in table]:
        has = ", ".join(map(str, table))
        raise UserError(
            f"no column {missing[0]!r}: table {measure.table!r}, which has {has}: "
            "mend the measure in book/claims.yaml or book/released.yaml"
        )
    for column, wanted in measure.where.items():
        try:
            if wanted.startswith("profile:"):
                wanted = str(settings[wanted.removeprefix("profile:")])
            numeric = pd.api.types.is_numeric_dtype(table[column])
            table = table[table[column] == (float(wanted) if numeric else wanted)]
        except (KeyError, ValueError):
            raise UserError(
                f"{column}: {wanted}: table {measure.table!r}: name a setting that the profile "
                "has, or a number where the column holds numbers"
            ) from None
    return table


def _pair(table: pd.DataFrame, a: str, b: str, *, column: str) -> pd.DataFrame:
    """Rows of the pair, whichever way round the table has it; signed columns are turned."""
    straight = table[(table["a"] == a) & (table["b"] == b)]
    turned = table[(table["a"] == b) & (table["b"] == a)] if a != b else table.iloc[:0]
    if column in _SIGNED and not turned.empty:
        low, high = -turned["high"], -turned["low"]
        turned = turned.assign(**{column: -turned[column], "low": low, "high": high})
    return pd.concat([straight, turned])
