"""The ledger for a collection of weights: predictions, stand-in rules, yardsticks, printed numbers.

Claims, measures and rules are those of `claims`; book/released.yaml holds the rest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic.dataclasses import dataclass

from finetune_geometry.deltas.folder_facts import Grid
from finetune_geometry.evaluation.claims import Claim, Ledger, Measure, Rule, look_up
from finetune_geometry.evaluation.judging import (
    CLAIM_COLUMNS,
    CONDITION_COLUMNS,
    RULE_COLUMNS,
    UNTESTABLE,
    VERDICTS,
    Number,
    judge,
    judge_claims,
    read_condition,
)
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.schema import KNOWN_KEYS, Flag, Numbers, Wholes, build

#: Tables of `geometry.collection_tables`: a claim that needs no other needs weights alone.
WEIGHT_TABLES = ("cosine", "angles", "fraction", "seed_cosine", "seed_angles", "rate_cosine")
STAND_IN = "weights"  # the version's name of a rule that stands in for the present one
PRINTED_COLUMNS = [
    *("claim", "what", "printed", "printed_value", "about", "value", "low", "high", "agrees")
]


@dataclass(frozen=True, config=KNOWN_KEYS)
class PaperGrid:
    """The paper's sensitivity grid."""

    seeds: Wholes
    rates: Numbers

    def grid(self) -> Grid:
        return Grid(self.seeds, self.rates)


@dataclass(frozen=True, config=KNOWN_KEYS)
class Prediction:
    """What was expected of one claim, and why."""

    verdict: str
    why: str


@dataclass(frozen=True, config=KNOWN_KEYS)
class Predictions:
    """Verdicts by claim, and the day on which they were written down."""

    written: str
    verdicts: Mapping[str, Prediction]


@dataclass(frozen=True, config=KNOWN_KEYS)
class Printed:
    """One number of the paper, as text with its decimals, and how it is measured."""

    claim: str
    what: str
    value: str
    measure: Measure
    over: Measure | None = None
    about: Flag = False
    kind: str = ""  # of a pair's cosine: what sets the two apart

    @property
    def half(self) -> float:
        """Half a unit of the last printed place."""
        return 0.5 * 10.0 ** -len(self.value.partition(".")[2])


@dataclass(frozen=True, config=KNOWN_KEYS)
class Released:
    """book/released.yaml; see there."""

    grid: PaperGrid
    predictions: Predictions
    rules: Mapping[str, Rule]
    yardsticks: Mapping[str, Mapping[str, Measure]]
    printed: tuple[Printed, ...]


def load_released(ledger: Ledger, path: str | Path | None = None) -> Released:
    """Read and check book/released.yaml against the ledger.

    Raises UserError for a claim that the ledger does not have, a verdict that is none, a printed
    number that is none, and a claim without its prediction or its yardstick.
    """
    source = Path(path) if path else project_root() / "book" / "released.yaml"
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"cannot read: {source}: {' '.join(str(error).split())}") from None
    found = build(Released, tree, source)
    _check_claims(found, ledger, source)
    for name, rule in found.rules.items():
        for condition in (text for part in rule.parts().values() for text in part):
            read_condition(condition, ledger.claims[name].measures)
    for name in weights_ledger(ledger, found):
        for section, names in (
            ("predictions", found.predictions.verdicts),
            ("yardsticks", found.yardsticks),
        ):
            if name not in names:
                raise UserError(f"claim {name} is missing: {section}: {source}: write it there")
    return found


def _check_claims(found: Released, ledger: Ledger, source: Path) -> None:
    for section, names in (
        ("rules", [*found.rules]),
        ("predictions", [*found.predictions.verdicts]),
        ("yardsticks", [*found.yardsticks]),
        ("printed", [printed.claim for printed in found.printed]),
    ):
        for name in names:
            if name not in ledger.claims:
                advice = closest(name, ledger.claims)
                raise UserError(f"unknown claim {name!r}: {section}: {source}: {advice}")
    for name, prediction in found.predictions.verdicts.items():
        if prediction.verdict not in VERDICTS:
            raise UserError(
                f"verdict {prediction.verdict!r}: predictions, {name}: {source}: "
                f"{closest(prediction.verdict, VERDICTS)}"
            )
    for printed in found.printed:
        if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", printed.value) is None:
            raise UserError(
                f"value {printed.value!r}: printed, {printed.claim}, {printed.what}: {source}: "
                "write the number as the paper prints it, such as '0.977'"
            )


def weights_ledger(ledger: Ledger, released: Released) -> dict[str, Claim]:
    """The claims that weights alone can answer: those whose present rule, or the one that stands in
    for it, asks for numbers of WEIGHT_TABLES only."""
    chosen = {}
    for name, claim in ledger.claims.items():
        rule = released.rules.get(name, claim.present)
        asked = {
            measure
            for part in rule.parts().values()
            for text in part
            for measure in read_condition(text, claim.measures).measures()
        }
        if all(claim.measures[measure].table in WEIGHT_TABLES for measure in asked):
            chosen[name] = claim
    return chosen


def judged(
    claims: Mapping[str, Claim],
    released: Released,
    tables: Mapping[str, pd.DataFrame],
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """`judging.judge_claims` for a collection; without any table all three are empty.

    Where the present rule asks for an adapter that the collection lacks, the rule that stands in
    for it is judged as one more version of the claim, called "weights".
    """
    if not tables:
        columns = (CLAIM_COLUMNS, RULE_COLUMNS, CONDITION_COLUMNS)
        empty = [pd.DataFrame(columns=names) for names in columns]
        return empty[0], empty[1], empty[2]
    numbers = {
        name: {k: look_up(m, tables, settings) for k, m in claim.measures.items()}
        for name, claim in claims.items()
    }
    asked = {}
    for name, claim in claims.items():
        stand_in = released.rules.get(name)
        if stand_in and judge(claim.present, numbers[name]).verdict == UNTESTABLE:
            claim = dataclasses.replace(claim, rules={**claim.rules, STAND_IN: stand_in})
        asked[name] = claim
    return judge_claims(asked, numbers)


def printed_table(
    released: Released, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Each printed number beside the measured one (NaN where there is none).

    `agrees`: "yes" if the measured number rounds to the printed one, "no" if not; "about" where the
    print is no more exact than that; "not measured".
    """
    rows = []
    for printed in released.printed:
        number = look_up(printed.measure, tables, settings) or Number(float("nan"))
        if printed.over is not None:
            below = look_up(printed.over, tables, settings) or Number(float("nan"))
            number = Number(number.value / below.value if below.value else float("nan"))
        agrees = "not measured"
        if np.isfinite(number.value):
            # A number that lies on the edge of rounding agrees: the last bit is nobody's finding.
            near = abs(number.value - float(printed.value)) <= printed.half * (1 + 1e-9)
            agrees = "about" if printed.about else "yes" if near else "no"
        rows.append(
            (printed.claim, printed.what, printed.value, float(printed.value), printed.about,
             number.value, number.low, number.high, agrees)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=PRINTED_COLUMNS)


def yardstick_words(
    name: str, released: Released, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> str:
    """The yardsticks of one claim with their values, in one line."""
    found = {
        what: look_up(measure, tables, settings)
        for what, measure in released.yardsticks[name].items()
    }
    return "; ".join(
        f"{what}: {'not measured' if n is None else format(n.value, '.3g')}"
        for what, n in found.items()
    )


def printed_ranges(released: Released) -> dict[str, tuple[float, float]]:
    """Least and largest cosine that the paper prints, by `adapter_roles.kinds_of_pairs`."""
    found: dict[str, tuple[float, float]] = {}
    for printed in released.printed:
        kind = printed.kind
        if kind:
            value = float(printed.value)
            low, high = found.get(kind, (value, value))
            found[kind] = (min(low, value), max(high, value))
    return found
