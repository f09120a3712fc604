"""The rendered book as one page to print: its chapters in their order, for `make pdf` (pdf.py).

On paper nothing unfolds and nothing is clicked. So hints, solutions and answers stand together at
the end, each with the page of its question, after the boxes that say how to run a notebook; code
and logs that the web pages fold away are left out; a figure to play with is its still picture.
Anchors get the name of their page, since each page
has a "take-away", and links between pages become links within the one.

Needs what renders the book and nothing of the package.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup

REMOTE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
HEADING = re.compile(r"h[1-6]")
#: Never printed: what only a browser uses, and what the web pages fold away beside code.
UNPRINTED = (
    *(".headerlink", "script", "style", ".toctree-wrapper", ".quiz-score"),
    *("details.hide", ".sd-summary-state-marker", ".explorable-live"),
)
LETTERS = "abcdefghij"


@dataclass(frozen=True)
class Chapter:
    """A page of the book: its name in _toc.yml, the level of its title, the part it stands in."""

    name: str
    level: int
    part: str


@dataclass
class Answer:
    """What stands at the end of the book: of which question (its anchor), its title, what is said.

    parts: a label ("Hint") and the element that holds what is said.
    """

    question: str
    title: str
    parts: list[tuple[str, Tag]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return f"answer:{self.question}"

    @property
    def said(self) -> list[tuple[str, Markup]]:
        return [(label, Markup(element.decode_contents())) for label, element in self.parts]


@dataclass
class Printed:
    """A chapter made ready: its title, its HTML, and what was taken out of it.

    answers: to its exercises, figures, quizzes. box: how to run the notebook alone, if it is one.
    """

    chapter: Chapter
    title: str
    body: Tag
    answers: list[Answer]
    box: Markup | None

    @property
    def anchor(self) -> str:
        return anchor(self.chapter.name)

    @property
    def html(self) -> Markup:
        return Markup(self.body)

    def open_part(self, title: str) -> None:
        """Put the title of a part above that of its first chapter."""
        heading = Tag(name="h1", attrs={"class": "part"})
        heading.string = title
        self.body.insert(0, heading)


def chapters(toc: Mapping[str, Any]) -> list[Chapter]:
    """All pages in the order of _toc.yml (as YAML). Parts have level 1, their chapters 2."""
    found = [Chapter(toc["root"], 1, "")]
    for part in toc["parts"]:
        for entry in part["chapters"]:
            found += _nested(entry, 2, part["caption"])
    return found


def _nested(entry: Mapping[str, Any], level: int, part: str) -> Iterator[Chapter]:
    yield Chapter(entry["file"], level, part)
    for below in entry.get("sections", []):
        yield from _nested(below, level + 1, part)


def anchor(page: str, identifier: str = "") -> str:
    """What a place is called in the one page: by its page, and by its anchor there."""
    return f"{page}:{identifier}" if identifier else page


def printed(html: Path, chapter: Chapter, book: Sequence[str], beside: Path) -> Printed:
    """Read a page of the rendered book and make it ready.

    book: names of all pages. beside: the folder in which the one page will lie, for its images.
    Raises ValueError, "what: where: fix", if the page is not there.
    """
    path = html / f"{chapter.name}.html"
    if not path.is_file():
        raise ValueError(f"no page {chapter.name}: {path}: render the book again")
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    body = soup.find("article")
    if not isinstance(body, Tag):
        raise ValueError(f"no article in {path}: render the book again")
    for element in body.select(", ".join(UNPRINTED)):
        element.decompose()
    for cell in body.select("div.cell"):
        if not cell.get_text(strip=True) and cell.find(["img", "svg"]) is None:
            cell.decompose()  # else a heading before it would be held to nothing
    _name_anchors(body, chapter.name)
    _turn_links(body, chapter.name, book)
    for image in body.find_all("img"):
        source = str(image["src"])
        if not REMOTE.match(source):
            image["src"] = os.path.relpath(path.parent / source, beside)
    answers = [*_exercises(soup, body), *_explorables(soup, body), *_quizzes(soup, body)]
    box = body.select_one("div.run-alone")
    if box is not None:
        for known in box.select(".admonition-title, .pst-scrollable-table-container"):
            known.decompose()  # parameters and meanings are in the first cell, too
        box.extract()
    for heading in body.find_all(HEADING):
        heading.name = f"h{min(6, int(heading.name[1]) + chapter.level - 1)}"
    title = body.find(HEADING)
    if title is None:
        raise ValueError(f"no title in {path}: render the book again")
    body.name = "section"
    kind = "chapter lookup" if chapter.level > 2 else "chapter"
    body.attrs = {"class": kind, "id": anchor(chapter.name)}
    text = " ".join(title.get_text().split())
    return Printed(chapter, text, body, answers, Markup(box.decode_contents()) if box else None)


def _name_anchors(body: Tag, page: str) -> None:
    for element in body.find_all(["td", "th"], id=True):
        del element["id"]  # of tables of pandas, thousands, which nothing points to
    for element in body.find_all(True):
        for attribute in ("id", "aria-labelledby", "aria-describedby"):
            if attribute in element.attrs:
                element[attribute] = anchor(page, str(element[attribute]))


def _turn_links(body: Tag, page: str, book: Sequence[str]) -> None:
    """Links to pages of the book become links within it; those to other files become text."""
    for link in body.find_all("a", href=True):
        target, _, identifier = str(link["href"]).partition("#")
        if REMOTE.match(target):
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        name = name.removesuffix(".html") if target else page
        if name in book:
            link["href"] = f"#{anchor(name, identifier)}"
        else:
            link.unwrap()


def _exercises(soup: BeautifulSoup, body: Tag) -> Iterator[Answer]:
    """Takes hint and solution of each exercise, and says under it where they went."""
    for exercise in body.select("div.exercise"):
        name = str(exercise["id"])
        title = exercise.select_one(".admonition-title")
        answer = Answer(name, " ".join(title.get_text().split()) if title else "Exercise")
        following = exercise.find_all_next(["div", "details"], class_=True)
        for element in following:
            classes = set(element["class"])
            if "exercise" in classes:
                break
            if "sd-dropdown" in classes:
                summary = element.summary.extract()
                inner = element.select_one(".sd-summary-content") or element
                answer.parts.append((summary.get_text(strip=True), inner.extract()))
                element.extract()
            elif {"solution", "dropdown"} <= classes:
                said = element.select_one(".admonition-title")
                if said is not None:
                    said.decompose()
                answer.parts.append(("Solution", element.extract()))
        if answer.parts:
            exercise.append(_pointer(soup, answer))
            yield answer


def _explorables(soup: BeautifulSoup, body: Tag) -> Iterator[Answer]:
    for figure in body.select("section.explorable"):
        label = figure.select_one(".explorable-label")
        folded = figure.find("details")
        if not isinstance(folded, Tag) or label is None:
            continue
        answer = Answer(str(figure["id"]), label.get_text(strip=True))
        folded.summary.extract()
        answer.parts.append(("Answer", folded))
        folded.replace_with(_pointer(soup, answer))
        yield answer


def _quizzes(soup: BeautifulSoup, body: Tag) -> Iterator[Answer]:
    """Choices become a list under their question; what is said to each goes to the end."""
    for quiz in body.select("div.quiz"):
        title = quiz.find_previous(HEADING)
        answer = Answer(str(quiz["id"]), f"Quiz: {title.get_text(strip=True) if title else ''}")
        for number, question in enumerate(quiz.select("div.quiz-question"), 1):
            choices = soup.new_tag("ol", attrs={"class": "choices", "type": "a"})
            said = soup.new_tag("div")
            right = []
            for letter, choice in zip(LETTERS, question.select("details"), strict=False):
                item = soup.new_tag("li")
                item.extend(list(choice.summary.contents))
                choices.append(item)
                if "right" in choice["class"]:
                    right.append(f"({letter})")
                feedback = choice.find("p")
                feedback.insert(0, f"({letter}) ")
                said.append(feedback)
                choice.decompose()
            question.append(choices)
            answer.parts.append((f"{number}: {', '.join(right)}", said))
        quiz.append(_pointer(soup, answer))
        yield answer


def _pointer(soup: BeautifulSoup, answer: Answer) -> Tag:
    """The line "Hint and solution: page 99"; the page is filled in when it is known (pdf.py)."""
    named = [label for label, _ in answer.parts]
    said = "Answers" if len(named) > 2 else " and ".join(named).capitalize()
    line = soup.new_tag("p", attrs={"class": "pointer"})
    link = soup.new_tag("a", attrs={"href": f"#{answer.anchor}"})
    link.append(f"{said}: page ")
    link.append(soup.new_tag("span", attrs={"class": "page-of", "data-of": answer.anchor}))
    line.append(link)
    return line


def running_heads(title: str, chapters: Sequence[tuple[str, str]]) -> str:
    """CSS: every page bears the title of the book, those of a chapter its title, too.

    chapters: anchor and title of each.
    """
    rules = [f"@page {{ @top-left {{ content: {_quoted(title)} }} }}"]
    for number, (place, said) in enumerate(chapters):
        rules += [
            f"[id={_quoted(place)}] {{ page: chapter{number} }}",
            f"@page chapter{number} {{ @top-right {{ content: {_quoted(said)} }} }}",
        ]
    return "\n".join(rules)


def _quoted(text: str) -> str:
    """A string of CSS within an element of HTML."""
    escaped = re.sub(r'["\\<]', lambda sign: f"\\{ord(sign[0]):x} ", text)
    return f'"{escaped}"'
