"""The teacher's page: what it points to exists, and each misconception has something to show."""

from __future__ import annotations

import re

import jupytext
from build_book import notebooks
from conftest import ROOT

PAGE = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
EVERYTHING = "\n".join(
    [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    + [
        str(cell.source) + str(cell.metadata)
        for name in notebooks()
        for cell in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells
    ]
)


def test_every_misconception_is_met_by_a_figure_an_exercise_or_a_chapter() -> None:
    section = PAGE.partition("## What people get wrong")[2].partition("\n## ")[0]
    told = re.findall(r"^\*\*\"(.+)\"\*\*\n: (.+)$", section, re.M)
    assert len(told) >= 8
    for said, met in told:
        assert re.search(r"\{numref\}`(fig|tab)-|\{ref\}`ex-|\]\(\.\./notebooks/", met), said


def test_figures_tables_and_exercises_that_it_names_exist() -> None:
    for label in re.findall(r"\{(?:num)?ref\}`([a-z-]+)`", PAGE):
        made = rf"(name: |label: |'name': '){label}\b"  # of a directive, an exercise, a cell
        assert re.search(made, EVERYTHING), label


def test_it_has_the_plans_that_the_readme_promises() -> None:
    titles = re.findall(r"^### (.+)$", PAGE, re.M)
    assert titles == ["90 minutes", "One day", "Two weeks", "A seminar"]


def test_the_exercises_page_lists_every_notebook_with_an_exercise() -> None:
    listed = (ROOT / "book" / "exercises.md").read_text(encoding="utf-8")
    for name in notebooks():
        text = (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
        if "```{exercise}" in text:
            assert f"(../notebooks/{name})" in listed, name
