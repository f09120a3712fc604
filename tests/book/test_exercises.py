"""The exercises in the sources: each has all its parts, and those to code are pages and no jobs."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jupytext
import pytest
import yaml
from build_book import chapters, exercises, notebooks
from conftest import ROOT

KINDS = ("Concept", "Derivation", "Code", "Re-run")
FACTS = re.compile(r"^\*(?P<kind>[\w-]+) · (?P<stars>★{1,3}) · (?P<minutes>\d+) minutes\*$")
#: A directive: its fence, its name, what follows the name, its content.
DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>exercise|solution|dropdown)\}(?P<argument>[^\n]*)\n"
    r"(?P<content>.*?)^(?P=fence)$",
    re.M | re.S,
)
CODE = sorted((ROOT / "notebooks" / "exercises").glob("*.py"))
every_code_page = pytest.mark.parametrize("source", CODE, ids=lambda path: path.stem)


@dataclass(frozen=True)
class Exercise:
    """One exercise and what stands below it, up to the next one on its page."""

    page: str
    label: str
    first_line: str
    text: str
    following: tuple[tuple[str, str, str], ...]  # name, argument, content of the next directives


def prose(path: Path) -> str:
    """The MyST text of a page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = jupytext.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def body(content: str) -> str:
    """The content of a directive without its options."""
    return re.sub(r"\A(:\w+:[^\n]*\n)*", "", content).strip()


def exercises_of(path: Path) -> list[Exercise]:
    found = [
        (match["name"], match["argument"].strip(), match["content"])
        for match in DIRECTIVE.finditer(prose(path))
    ]
    starts = [i for i, (name, *_) in enumerate(found) if name == "exercise"]
    made = []
    for start, end in pairwise([*starts, len(found)]):
        content = found[start][2]
        label = re.search(r"^:label: (\S+)$", content, re.M)
        first, _, rest = body(content).partition("\n")
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        made.append(
            Exercise(name, label[1] if label else "", first, rest, tuple(found[start + 1 : end]))
        )
    return made


TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
FILES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
PAGES = [
    path for file in FILES for path in (ROOT / f"{file}.md", ROOT / f"{file}.py") if path.is_file()
]
EXERCISES = [exercise for page in PAGES for exercise in exercises_of(page)]


def facts(exercise: Exercise) -> re.Match[str]:
    found = FACTS.match(exercise.first_line)
    assert found, f"{exercise.page}, {exercise.label}: {exercise.first_line!r}"
    return found


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.label or e.page)
def test_an_exercise_has_kind_difficulty_minutes_hint_and_solution(exercise: Exercise) -> None:
    found = facts(exercise)
    assert found["kind"] in KINDS
    assert 5 <= int(found["minutes"]) <= 60
    assert exercise.label.startswith("ex-")
    assert len(exercise.text.split()) >= 10
    assert "Hint." not in exercise.text  # hints are folded
    (hint, title, hinted), (solution, label, solved) = exercise.following
    assert (hint, title) == ("dropdown", "Hint")
    assert len(body(hinted).split()) >= 4
    assert (solution, label) == ("solution", exercise.label)
    assert ":class: dropdown" in solved
    assert len(body(solved)) > 40


def test_there_are_many_of_each_kind_under_different_names() -> None:
    assert len(EXERCISES) >= 45
    kinds = Counter(facts(exercise)["kind"] for exercise in EXERCISES)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 6, kinds
    assert {len(facts(exercise)["stars"]) for exercise in EXERCISES} == {1, 2, 3}
    labels = [exercise.label for exercise in EXERCISES]
    assert len(labels) == len(set(labels))


def test_every_chapter_with_results_has_an_exercise() -> None:
    with_one = {exercise.page for exercise in EXERCISES}
    assert not {f"notebooks/{name}" for name in chapters()} - with_one


# A page of code exercises is shown as it is: nobody executes it.


def test_the_book_shows_every_page_of_code_exercises() -> None:
    assert {f"exercises/{path.stem}" for path in CODE} == set(exercises())
    assert not set(exercises()) & set(notebooks())
    assert len(CODE) >= 4


@every_code_page
def test_the_notebook_beside_it_is_this_source_and_was_not_executed(source: Path) -> None:
    beside = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    expected = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    cells = beside["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == expected
    for cell in cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@every_code_page
def test_an_untouched_page_runs_to_its_end(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every function is still to be written, and every check says so."""
    space: dict[str, Any] = {}
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), space)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(exercises_of(source)) >= 4
    assert all(line.startswith("Still to do: write ") for line in said)


@every_code_page
def test_the_folded_solution_is_the_key(source: Path) -> None:
    """Included, not copied: there is one place where an answer stands."""
    code = source.read_text(encoding="utf-8")
    for exercise in exercises_of(source):
        solved = exercise.following[1][2]
        included = re.search(r"\{literalinclude\} (\S+)\n:pyobject: (\w+)$", solved, re.M)
        assert included, exercise.label
        key = (source.parent / included[1]).resolve()
        assert key == ROOT / "tests" / "exercises" / f"key_{source.stem}.py"
        assert re.search(rf"^def {included[2]}\(", key.read_text(encoding="utf-8"), re.M)
        assert re.search(rf"^def {included[2]}\(.*\n.*\n    raise NotImplementedError$", code, re.M)
        assert re.search(rf"^check_\w+\({included[2]}\)$", code, re.M)
