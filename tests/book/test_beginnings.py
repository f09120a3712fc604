"""Each chapter begins with its answer, of one sentence or two, whose numbers a run has produced."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from conftest import ROOT
from one_page import load_extension

from finetune_geometry.settings.objectives import METHODS

#: The last part of the table of contents, whose pages are looked things up in.
APPENDICES = "Appendices"
#: Pages to work with: they ask, and the reader answers.
WORKED_WITH = ("explorables", "exercises", "rerun", "quizzes", "teaching")

PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
CHAPTERS = [
    chapter["file"]
    for part in PARTS
    if part["caption"] != APPENDICES
    for chapter in part["chapters"]
    if chapter["file"].split("/")[-1] not in WORKED_WITH
    and not chapter["file"].startswith("notebooks/exercises/")
]
NUMBERS = json.loads((ROOT / "book" / "reference" / "numbers.json").read_text(encoding="utf-8"))
role = load_extension("number_role")
ROLE = re.compile(r"\{number\}`([^`]+)`")
BEGINNING = "**The answer.** "
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def first_cell(chapter: str) -> str:
    """The text of a page of prose, or of the first cell of an executed notebook."""
    page = ROOT / f"{chapter}.md"
    if page.is_file():
        return page.read_text(encoding="utf-8")
    notebook = json.loads(page.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return "".join(notebook["cells"][0]["source"])


def below_the_title(text: str) -> list[str]:
    """The paragraphs below the title; a box with a note on the page is none."""
    prose = re.split(r"^# .+\n", text, maxsplit=1, flags=re.M)[1]
    prose = re.sub(r"^:::\{.*?^:::\n", "", prose, flags=re.M | re.S)
    return [part.strip() for part in prose.split("\n\n") if part.strip()]


@every_chapter
def test_a_chapter_begins_with_its_answer(chapter: str) -> None:
    answer, *others = below_the_title(first_cell(chapter))
    assert answer.startswith(BEGINNING)
    said = ROLE.sub("0", answer.removeprefix(BEGINNING))
    assert 1 <= len(re.findall(r"[.?!](?=\s|$)", said)) <= 2, said
    assert len(said.split()) <= 80
    learn = [n for n, part in enumerate(others) if part.startswith("**What you will learn.**")]
    assert learn in ([], [0], [1])  # after it


@every_chapter
def test_the_numbers_of_an_answer_are_the_reference_run_s(chapter: str) -> None:
    for text in ROLE.findall(below_the_title(first_cell(chapter))[0]):
        assert role.show(NUMBERS, text)[1] != role.UNDEFINED


@every_chapter
def test_a_notebook_and_its_source_begin_alike(chapter: str) -> None:
    source = ROOT / f"{chapter}.py"
    if source.is_file():
        answer = below_the_title(first_cell(chapter))[0]
        assert f"\n# {answer}\n" in source.read_text(encoding="utf-8")


def test_the_answers_of_the_methods_end_alike() -> None:
    ends = set()
    for method in METHODS:
        answer = below_the_title(first_cell(f"notebooks/methods/{method}"))[0]
        ends.add(answer.partition(" In ")[2].partition("norm:.3g`")[0].replace(method, "METHOD"))
    (end,) = ends
    assert end.startswith("{number}`METHOD.steps` steps its delta has grown to a norm of")


def test_what_needs_no_answer_is_in_the_table_of_contents() -> None:
    assert PARTS[-1]["caption"] == APPENDICES
    files = {chapter["file"] for part in PARTS for chapter in part["chapters"]}
    assert {f"book/{name}" for name in WORKED_WITH} <= files - set(CHAPTERS)
    assert len(CHAPTERS) > 25
