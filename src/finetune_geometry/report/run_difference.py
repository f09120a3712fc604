"""Two finished runs side by side: what was asked for, what came of it, and what is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from finetune_geometry.report.run_files import Figure, FinishedRun

MISSING = object()  # what one of the runs does not have; null is a value


@dataclass(frozen=True)
class Pair:
    """One name with its values in both runs; a value may be MISSING."""

    name: str
    first: Any
    second: Any

    @property
    def change(self) -> float | None:
        """Second minus first, where both are finite numbers."""
        if not (_countable(self.first) and _countable(self.second)):
            return None
        return float(self.second) - float(self.first)

    @property
    def relative(self) -> float | None:
        """The change as a share of the first value's size; None where that is zero or no number."""
        change = self.change
        return None if change is None or self.first == 0 else change / abs(self.first)


@dataclass(frozen=True)
class Chapter:
    """The numbers of one chapter: those that differ, and how many do not."""

    name: str
    differing: Sequence[Pair]
    equal: int

    @property
    def largest(self) -> Pair | None:
        """The pair whose relative change is the largest in size."""
        return max(
            (pair for pair in self.differing if pair.relative is not None),
            key=lambda pair: abs(pair.relative or 0.0),
            default=None,
        )


@dataclass(frozen=True)
class Verdict:
    """One claim in both ledgers; "–" where a run has no verdict on it."""

    claim: str
    title: str
    measure: str
    first: str
    second: str
    first_value: float
    second_value: float

    @property
    def differs(self) -> bool:
        return self.first != self.second and "–" not in (self.first, self.second)


@dataclass(frozen=True)
class FigurePair:
    """A figure that looks different, or that one of the runs alone has."""

    name: str
    first: Figure | None
    second: Figure | None


@dataclass(frozen=True)
class Difference:
    """All that is told of two runs."""

    first: FinishedRun
    second: FinishedRun
    settings: Sequence[Pair]
    equal_settings: int
    chapters: Sequence[Chapter]
    verdicts: Sequence[Verdict]
    adapters: Mapping[str, str]  # name: one of SAME, OTHER, or who alone has it
    figures: Sequence[FigurePair]
    equal_figures: int


SAME, OTHER = "equal to the byte", "different"


def difference(first: FinishedRun, second: FinishedRun, order: Sequence[str] = ()) -> Difference:
    """Hold two runs against each other.

    order: stems of the chapters as the book has them; others follow in alphabetical order.
    """
    settings, equal_settings = _pairs(first.settings, second.settings)
    figures = {
        name: FigurePair(name, first.figures.get(name), second.figures.get(name))
        for name in {**first.figures, **second.figures}
    }
    unlike = {
        name: pair
        for name, pair in figures.items()
        if pair.first is None or pair.second is None or pair.first.image != pair.second.image
    }
    place = {stem: n for n, stem in enumerate(order)}

    def by_chapter(pair: FigurePair) -> int:
        """Figures of one chapter keep the order in which the notebook draws them."""
        notebook = (pair.first or pair.second or Figure("", "", "")).notebook
        return place.get(notebook.rpartition("/")[2], len(place))

    return Difference(
        first=first,
        second=second,
        settings=settings,
        equal_settings=equal_settings,
        chapters=_chapters(first.measured, second.measured, place),
        verdicts=_verdicts(first, second),
        adapters=_adapters(first, second),
        figures=sorted(unlike.values(), key=by_chapter),
        equal_figures=len(figures) - len(unlike),
    )


def _countable(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[Pair], int]:
    """Names whose values differ, and how many do not."""
    pairs = [
        Pair(name, first.get(name, MISSING), second.get(name, MISSING))
        for name in {**first, **second}
    ]
    # 1 and 1.0 are one number, 1 and True are not; a list is compared as a whole.
    differing = [
        pair
        for pair in pairs
        if pair.first != pair.second
        or isinstance(pair.first, bool) != isinstance(pair.second, bool)
    ]
    return differing, len(pairs) - len(differing)


def _chapters(
    first: Mapping[str, Any], second: Mapping[str, Any], place: Mapping[str, int]
) -> list[Chapter]:
    runs = (first, second)
    stems = {name.partition(".")[0] for name in {**first, **second}}
    found = []
    for stem in sorted(stems, key=lambda stem: (place.get(stem, len(place)), stem)):
        own = ({k: v for k, v in run.items() if k.startswith(f"{stem}.")} for run in runs)
        found.append(Chapter(stem, *_pairs(*own)))
    return found


def _verdicts(first: FinishedRun, second: FinishedRun) -> list[Verdict]:
    tables = [pd.DataFrame() if run.claims is None else run.claims for run in (first, second)]
    ledgers = [{str(row["claim"]): row for row in t.to_dict("records")} for t in tables]
    found = []
    for claim in dict.fromkeys([*ledgers[0], *ledgers[1]]):
        rows = [ledger.get(claim, {}) for ledger in ledgers]
        titled = rows[0] or rows[1]
        measures = [str(row.get("measure") or "") for row in rows]
        # Two runs may hang on two measures; then their values are not of one thing.
        one = measures[0] == measures[1] or not all(measures)
        first_verdict, second_verdict = (str(row.get("verdict", "–")) for row in rows)
        first_value, second_value = (float(row.get("value", math.nan)) for row in rows)
        found.append(
            Verdict(
                claim=claim,
                title=str(titled["title"]),
                measure=measures[0] or measures[1] if one else " / ".join(measures),
                first=first_verdict,
                second=second_verdict,
                first_value=first_value,
                second_value=second_value,
            )
        )
    return found


def _adapters(first: FinishedRun, second: FinishedRun) -> dict[str, str]:
    found = {}
    for name in {**first.adapters, **second.adapters}:
        digests = [run.adapters.get(name) for run in (first, second)]
        if None in digests:
            found[name] = f"only in {(second if digests[0] is None else first).name}"
        else:
            found[name] = SAME if digests[0] == digests[1] else OTHER
    return found
