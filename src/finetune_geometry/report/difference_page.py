"""The page with the differences of two runs, and what is said of them on the terminal.

The page stands alone: style and figures are inside it, and it asks no network for anything.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from finetune_geometry.report.html import templates
from finetune_geometry.report.run_difference import (
    MISSING,
    SAME,
    Difference,
    Pair,
    difference,
)
from finetune_geometry.report.run_files import chapter_order, open_finished
from finetune_geometry.report.wording import count, listed
from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.folders import results_root
from finetune_geometry.settings.errors import UserError


def write_difference(first: str, second: str, out: Path | None = None) -> tuple[Path, list[str]]:
    """Write the page on two runs; returns its path, and the lines for the terminal.

    first, second: names of runs, or paths of their folders. out: the page's file, by default
    FIRST-and-SECOND.html in results/.  Raises UserError for runs that cannot be compared.
    """
    for name, option in ((first, "RUN_A"), (second, "RUN_B")):
        if not name:
            raise UserError(f"no run is named: {option}: give the names of two folders of results/")
    runs = [open_finished(name) for name in (first, second)]
    if runs[0].name == runs[1].name:
        raise UserError(
            f"both runs are called {runs[0].name!r}: RUN_A, RUN_B: give two runs of different names"
        )
    found = difference(runs[0], runs[1], chapter_order())
    path = out or results_root() / f"{runs[0].name}-and-{runs[1].name}.html"
    try:
        with atomic_write(path) as file:
            file.write(page(found))
    except OSError as error:
        raise UserError(f"cannot write the page: {path}: {error.strerror}") from None
    return path, told(found)


def page(found: Difference) -> str:
    """The HTML page."""
    environment = templates()
    environment.filters |= {"shown": shown, "signed": signed, "share": share}
    return environment.get_template("difference.html").render(
        a=found.first.name,
        b=found.second.name,
        told=told(found),
        borrowed={run.name: run.borrowed for run in (found.first, found.second)},
        settings=found.settings,
        equal_settings=count(found.equal_settings, "setting"),
        chapters=found.chapters,
        verdicts=found.verdicts,
        without_ledger=without_ledger(found),
        adapters=found.adapters,
        figures=found.figures,
        equal_figures=count(found.equal_figures, "figure"),
    )


def told(found: Difference) -> list[str]:
    """The differences in a few lines."""
    numbers = sum(len(chapter.differing) for chapter in found.chapters)
    total = numbers + sum(chapter.equal for chapter in found.chapters)
    where = [chapter.name for chapter in found.chapters if chapter.differing]
    settings = [pair.name for pair in found.settings]
    changed = [verdict for verdict in found.verdicts if verdict.differs]
    same = [name for name, what in found.adapters.items() if what == SAME]
    lines = [
        f"settings: {len(settings)} of {len(settings) + found.equal_settings} differ"
        + (f": {listed(settings)}" if settings else ""),
        f"numbers: {numbers} of {total} differ" + (f": in {listed(where)}" if where else ""),
    ]
    if without := without_ledger(found):
        lines.append(f"verdicts: no ledger in {listed(without)}")
    else:
        lines.append(
            f"verdicts: {len(changed)} of {len(found.verdicts)} differ"
            + (f": {listed([verdict.claim for verdict in changed])}" if changed else "")
        )
    lines.append(
        f"adapters: {len(same)} of {len(found.adapters)} equal to the byte"
        + (f": {listed(same)}" if same else "")
    )
    lines.append(
        f"figures: {len(found.figures)} of {len(found.figures) + found.equal_figures} differ"
    )
    return lines


def without_ledger(found: Difference) -> list[str]:
    """Names of the runs that have no verdicts."""
    return [run.name for run in (found.first, found.second) if run.claims is None]


def shown(value: Any) -> str:
    """A value as a cell holds it."""
    if value is MISSING:
        return "–"
    if value is None:
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return str(value) or "(empty)"


def signed(pair: Pair) -> str:
    """The change of a pair with its sign; "" where there is none."""
    return "" if pair.change is None else f"{pair.change:+.4g}"


def share(pair: Pair) -> str:
    """The relative change of a pair in percent; "" where there is none."""
    return "" if pair.relative is None else f"{100 * pair.relative:+.3g} %"
