"""The quizzes: every choice has its feedback, every part has a quiz, and the page shows them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from one_page import load_extension, render_page
from slides import UNTAUGHT

EXTENSION = ROOT / "book" / "_ext" / "quiz.py"
QUIZZES = ROOT / "book" / "quizzes.yaml"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


quiz = load_extension("quiz")
PARTS = [part["caption"] for part in TOC["parts"] if part["caption"] not in UNTAUGHT]


def test_every_part_of_the_book_has_its_quiz() -> None:
    quizzes = quiz.load_quizzes(QUIZZES)
    assert [one["title"] for one in quizzes.values()] == PARTS
    page = (ROOT / "book" / "quizzes.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{quiz\} (\w+)$", page, re.M) == list(quizzes)
    assert re.findall(r"^## (.+)$", page, re.M)[:-1] == PARTS
    assert "](quizzes.md)" in (ROOT / "book" / "exercises.md").read_text(encoding="utf-8")


def test_a_right_choice_does_not_stand_in_one_place() -> None:
    """Nobody should be able to answer by position."""
    quizzes = quiz.load_quizzes(QUIZZES)
    single = [q["choices"] for one in quizzes.values() for q in one["questions"]
              if not q.get("several")]  # fmt: skip
    places = Counter(
        next(i for i, choice in enumerate(choices) if choice.get("right")) for choices in single
    )
    assert max(places.values()) <= 0.6 * len(single), places


GOOD = {
    "text": "Which?",
    "choices": [
        {"text": "one", "right": True, "feedback": "Yes."},
        {"text": "two", "feedback": "No."},
        {"text": "three", "feedback": "No."},
    ],
}


def changed(**values: Any) -> dict[str, Any]:
    """A quiz whose first question is `GOOD` with these values."""
    return {"title": "Part", "questions": [{**GOOD, **values}, *[GOOD] * 4]}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"text": " "}, "an empty text"),
        ({"choices": [*GOOD["choices"], {"text": 0.5, "feedback": "No."}]}, "without quotes"),
        ({"several": True}, "says that several choices are right, and 1 are"),
        ({"choices": [*GOOD["choices"][1:], {"text": "x", "feedback": "No."}]}, "0 choices are"),
        ({"choices": [*GOOD["choices"], GOOD["choices"][0]]}, "2 choices are right, not one"),
        ({"choices": [*GOOD["choices"], {"text": "four", "feedback": ""}]}, "an empty text"),
        ({"choices": [*GOOD["choices"], GOOD["choices"][1]]}, "two equal choices"),
        ({"choices": GOOD["choices"][:2]}, "fewer than three choices"),
        ({"sevral": True}, "unknown key sevral"),
    ],
)
def test_a_faulty_quiz_is_an_error(values: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "quizzes.yaml"
    path.write_text(yaml.safe_dump({"part": changed(**values)}), encoding="utf-8")
    with pytest.raises(ValueError, match=fault):
        quiz.load_quizzes(path)
    path.write_text(yaml.safe_dump({"part": changed()}), encoding="utf-8")
    assert quiz.load_quizzes(path)["part"]["title"] == "Part"


def build(folder: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Builds a page with one quiz; returns its HTML and its warnings."""
    monkeypatch.syspath_prepend(str(EXTENSION.parent))
    source = folder / "source"
    (source / "book").mkdir(parents=True)
    shutil.copy(QUIZZES, source / "book")
    (source / "index.md").write_text(f"# Page\n\n```{{quiz}} {part}\n```\n")
    return render_page(
        source,
        ["quiz"],
        myst_enable_extensions=["dollarmath"],
        html_static_path=[str(ROOT / "book" / "_static" / "quiz.js")],
    )


def test_a_quiz_can_be_read_and_worked_by_keyboard_without_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html, warnings = build(tmp_path, "objectives", monkeypatch)
    # A second Sphinx in one process finds the nodes of the first.
    assert not re.search("WARNING(?!.*already registered)", warnings), warnings
    page = BeautifulSoup(html, "html.parser")
    asked = quiz.load_quizzes(QUIZZES)["objectives"]["questions"]
    groups = page.find_all(class_="quiz-question")
    for group, question in zip(groups, asked, strict=True):
        assert group["role"] == "group"
        assert page.find(id=group["aria-labelledby"]).get_text().strip()
        for box, choice in zip(group.find_all("details"), question["choices"], strict=True):
            assert box.find("summary").get_text().strip()
            word = quiz.RIGHT if choice.get("right") else quiz.WRONG
            assert box.find("p").get_text().startswith(word)  # not by colour alone
    assert page.find(class_="quiz-score")["role"] == "status"
    assert page.find("script", src=re.compile("quiz.js")).has_attr("defer")


def test_a_part_without_a_quiz_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, warnings = build(tmp_path, "geometri", monkeypatch)
    assert "no quiz 'geometri'" in warnings
