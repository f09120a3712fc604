"""Rules at work: numbers with intervals, conditions, verdicts.

A rule is a list of conditions such as `x >= 0.95` or `x < 0.5 * y`. A number with an interval can
leave a condition open: its line lies inside the interval. Three answers are carried through a rule
(yes, no, open). Where an open condition decides, there is no verdict but "undecided".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finetune_geometry.settings.errors import UserError

if TYPE_CHECKING:
    from finetune_geometry.evaluation.claims import Claim, Rule


REPRODUCED = "reproduced"
DIRECTION = "direction only"
UNDECIDED = "undecided"
FAILED = "not reproduced"
UNTESTABLE = "not testable in this regime"
VERDICTS = (REPRODUCED, DIRECTION, UNDECIDED, FAILED, UNTESTABLE)
CLAIM_COLUMNS = [
    "claim", "title", "paper", "measure", "value", "low", "high", "line", "line_value",
    "verdict", "first_verdict", "rule", "first_rule", "written", "detail", "notebook",
]  # fmt: skip
RULE_COLUMNS = ["claim", "version", "written", "rule", "verdict", "reason"]
CONDITION_COLUMNS = [
    "claim", "version", "part", "measure", "value", "low", "high", "line", "line_value",
    "line_low", "line_high", "holds",
]  # fmt: skip
ANSWERS = {True: "yes", False: "no", None: "open"}

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Number:
    """A measured value with its interval (NaN where the table has none)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def ends(self) -> tuple[float, float]:
        """The interval, which always holds the value; the value twice where there is none."""
        return float(np.fmin(self.low, self.value)), float(np.fmax(self.high, self.value))

    def times(self, factor: float) -> Number:
        low, high = sorted((factor * self.low, factor * self.high))
        return Number(factor * self.value, low, high)


@dataclass(frozen=True)
class Condition:
    """`left OP right`; a side is (factor, measure), or (number, "") for a number alone."""

    left: tuple[float, str]
    sign: str
    right: tuple[float, str]

    def measures(self) -> list[str]:
        return [name for _, name in (self.left, self.right) if name]

    def sides(self, numbers: Mapping[str, Number]) -> tuple[Number, Number]:
        one, two = (
            numbers[name].times(factor) if name else Number(factor)
            for factor, name in (self.left, self.right)
        )
        return one, two

    def holds(self, numbers: Mapping[str, Number]) -> bool | None:
        """True or False where the intervals of both sides say so, None where they leave it open.

        Two intervals that overlap leave a comparison open. That asks more than a test of the
        difference would, because the two numbers of a comparison often err together.
        """
        (low1, high1), (low2, high2) = (side.ends() for side in self.sides(numbers))
        compare = _OPERATORS[self.sign]
        worst, best = ((low1, high2), (high1, low2))
        if self.sign in ("<", "<="):
            worst, best = (high1, low2), (low1, high2)
        if compare(*worst):
            return True
        return None if compare(*best) else False


def read_condition(text: str, measures: Collection[str]) -> Condition:
    """A condition from its text, `left >= right`: a side is a measure's name, a number, or
    number * name. Raises UserError where a side is neither."""
    match = re.fullmatch(r"(.+?) (>=|<=|>|<) (.+)", text.strip())
    if match is None:
        raise UserError(f"cannot read condition {text!r}: claims: write left >= right")
    left, sign, right = match.groups()
    return Condition(_side(left, measures), sign, _side(right, measures))


def _side(text: str, measures: Collection[str]) -> tuple[float, str]:
    factor, star, name = text.rpartition(" * ")
    try:
        if name in measures:
            return float(factor) if star else 1.0, name
        return float(text), ""
    except ValueError:
        known = "; ".join(measures)
        raise UserError(
            f"{text!r} is no measure and no number: claims: known are {known}"
        ) from None


def together(answers: Sequence[bool | None]) -> bool | None:
    """Whether all hold: one "no" decides, otherwise one "open" leaves it open."""
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True


@dataclass(frozen=True)
class Judgement:
    """A verdict, and the condition that it turned on (None where a number is missing)."""

    verdict: str
    turned_on: Condition | None


def judge(rule: Rule, numbers: Mapping[str, Number | None], *, intervals: bool = True) -> Judgement:
    """The verdict of one rule on the numbers of its claim, one of VERDICTS.

    A number that the rule asks for and that is None or NaN: not testable. What makes a claim
    testable must hold with its whole interval. `intervals=False` judges by the values alone, as
    all rules did before there was "undecided".
    """
    conditions = {
        part: [read_condition(text, numbers) for text in texts]
        for part, texts in rule.parts().items()
    }
    known = {
        name: number if intervals else Number(number.value)
        for name, number in numbers.items()
        if number is not None and np.isfinite(number.value)
    }
    asked = {name for part in conditions.values() for c in part for name in c.measures()}
    if not asked <= known.keys():
        return Judgement(UNTESTABLE, None)
    answers = {part: [c.holds(known) for c in found] for part, found in conditions.items()}

    def first(part: str, answer: bool | None) -> Condition:
        return conditions[part][answers[part].index(answer)]

    if together(answers["testable"]) is not True:
        answer = False if False in answers["testable"] else None
        return Judgement(UNTESTABLE, first("testable", answer))
    whole = together(answers["reproduced"])
    if whole is True:
        return Judgement(REPRODUCED, conditions["reproduced"][0])
    if whole is None:
        return Judgement(UNDECIDED, first("reproduced", None))
    weaker = together(answers["direction"])
    if weaker is None:
        return Judgement(UNDECIDED, first("direction", None))
    return Judgement(DIRECTION if weaker else FAILED, first("reproduced", False))


def judge_claims(
    claims: Mapping[str, Claim], numbers: Mapping[str, Mapping[str, Number | None]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Every claim by every version of its rule, from its numbers.

    Returns three tables:
        one row a claim (CLAIM_COLUMNS): `value`, `low`, `high` of the measure that the verdict
            turned on and the `line` it was held against, with its value; `first_verdict` by the
            first rule, values alone; `detail` lists all numbers;
        one row a version (RULE_COLUMNS): only the present one, the last, knows "undecided";
        one row a condition of the first and of the present version (CONDITION_COLUMNS).
    """
    by_claim: list[tuple[Any, ...]] = []
    by_rule: list[tuple[Any, ...]] = []
    by_condition: list[tuple[Any, ...]] = []
    for name, claim in claims.items():
        found = numbers[name]
        present = judge(claim.present, found)
        verdicts = {}
        for version, rule in claim.rules.items():
            last = rule is claim.present
            verdicts[version] = (present if last else judge(rule, found, intervals=False)).verdict
            by_rule.append((name, version, rule.written, words(rule), verdicts[version],
                            rule.reason))  # fmt: skip
        # The first rule as it was meant, also where it is the present one.
        first = judge(claim.first, found, intervals=False).verdict
        for version in dict.fromkeys([next(iter(claim.rules)), list(claim.rules)[-1]]):
            by_condition += _condition_rows(name, version, claim.rules[version], found)
        measure, shown, line, line_value = _shown(present, found)
        detail = "; ".join(f"{k}: {n.value:.4g}" for k, n in found.items() if n is not None)
        if present.verdict == UNTESTABLE and claim.needs:
            detail = "; ".join(text for text in (detail, f"needs {claim.needs}") if text)
        by_claim.append(
            (name, claim.title, claim.paper, measure, shown.value, shown.low, shown.high, line,
             line_value, present.verdict, first, words(claim.present), words(claim.first),
             claim.present.written, detail, claim.notebook)
        )  # fmt: skip
    return (
        pd.DataFrame(by_claim, columns=CLAIM_COLUMNS),
        pd.DataFrame(by_rule, columns=RULE_COLUMNS),
        pd.DataFrame(by_condition, columns=CONDITION_COLUMNS),
    )


def words(rule: Rule) -> str:
    """A rule in one line."""
    return "; ".join(f"{k}: {' and '.join(part)}" for k, part in rule.parts().items() if part)


def _shown(
    judgement: Judgement, numbers: Mapping[str, Number | None]
) -> tuple[str, Number, str, float]:
    """Measure, number, line and the line's value of a claim; where a number is missing, the
    claim's first one, and no line."""
    nothing, condition = Number(float("nan")), judgement.turned_on
    if condition is None:
        name = next(iter(numbers))
        return name, numbers[name] or nothing, "", nothing.value
    known = {name: numbers[name] or nothing for name in condition.measures()}
    left, right = condition.sides(known)
    return condition.left[1], left, _line(condition), right.value


def _line(condition: Condition) -> str:
    factor, name = condition.right
    right = f"{factor:g}" if not name else name if factor == 1 else f"{factor:g} * {name}"
    return f"{condition.sign} {right}"


def _condition_rows(
    claim: str, version: str, rule: Rule, numbers: Mapping[str, Number | None]
) -> list[tuple[Any, ...]]:
    rows = []
    nothing = Number(float("nan"))
    for part, texts in rule.parts().items():
        for condition in (read_condition(text, numbers) for text in texts):
            known = {k: numbers[k] or nothing for k in condition.measures()}
            left, right = condition.sides(known)
            missing = not (np.isfinite(left.value) and np.isfinite(right.value))
            answer = "not measured" if missing else ANSWERS[condition.holds(known)]
            rows.append(
                (claim, version, part, condition.left[1], left.value, left.low, left.high,
                 _line(condition), right.value, right.low, right.high, answer)
            )  # fmt: skip
    return rows
