"""The ``quiz`` directive: the questions of one part of the book, from ``book/quizzes.yaml``.

``{quiz} geometry`` shows them. Each choice is a ``<details>`` element: it opens to its feedback by
mouse or keyboard, with no script and no network. ``_static/quiz.js`` adds a count of what was right
at the first try. A part that does not exist and a fault in the file are errors of the build.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path("book", "quizzes.yaml")
QUESTIONS = 5
RIGHT, WRONG = "Right.", "No."


def load_quizzes(path: Path) -> dict[str, Any]:
    """The quizzes by part; ``ValueError`` says what is wrong in the file."""
    quizzes = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = [fault for part, quiz in quizzes.items() for fault in faults(part, quiz)]
    if found:
        raise ValueError(f"{path}: " + "; ".join(found))
    return quizzes


def faults(part: str, quiz: dict[str, Any]) -> list[str]:
    """What is wrong with the quiz of one part, each fault in one line."""
    found = [] if str(quiz.get("title", "")).strip() else [f"{part}: no title"]
    if len(quiz["questions"]) != QUESTIONS:
        found.append(f"{part}: {len(quiz['questions'])} questions, not {QUESTIONS}")
    for number, question in enumerate(quiz["questions"], 1):
        where, choices = f"{part}, question {number}", question["choices"]
        right = sum(choice.get("right") is True for choice in choices)
        if len(choices) < 3:
            found.append(f"{where}: fewer than three choices")
        if question.get("several") is True:
            if not 1 < right < len(choices):
                found.append(f"{where}: says that several choices are right, and {right} are")
        elif right != 1:
            found.append(f"{where}: {right} choices are right, not one")
        texts = [question.get("text"), *(choice.get("text") for choice in choices)]
        texts += [choice.get("feedback") for choice in choices]
        if any(not isinstance(text, str) or not text.strip() for text in texts):
            found.append(f"{where}: an empty text, or a number without quotes")
        if len({choice.get("text") for choice in choices}) < len(choices):
            found.append(f"{where}: two equal choices")
        unknown = [set(choice) - {"text", "right", "feedback"} for choice in choices]
        unknown.append(set(question) - {"text", "several", "choices"})
        found += [f"{where}: unknown key {key}" for keys in unknown for key in sorted(keys)]
    return found


class tag(nodes.General, nodes.Element):
    """One element of HTML: its name in ``name``, its attributes in ``html``."""


def visit_tag(self: Any, node: tag) -> None:
    self.body.append(self.starttag(node, node["name"], "", **node.get("html", {})))


def depart_tag(self: Any, node: tag) -> None:
    self.body.append(f"</{node['name']}>\n")


class Quiz(SphinxDirective):
    """``{quiz} part``: the part's questions, numbered."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / FILE
        self.env.note_dependency(str(path))
        part = self.arguments[0].strip()
        try:
            quiz = load_quizzes(path)[part]
        except (OSError, ValueError, KeyError) as error:
            raise self.error(f"quiz: no quiz {part!r}: {error}") from error
        frame = tag(name="div", classes=["quiz"], ids=[f"quiz-{part}"])
        for number, question in enumerate(quiz["questions"], 1):
            frame += self.question(f"quiz-{part}-{number}", number, question)
        frame += tag(name="p", classes=["quiz-score"], html={"role": "status"})
        return [frame]

    def question(self, identifier: str, number: int, question: dict[str, Any]) -> tag:
        """A group for assistive software, named by the text of the question."""
        group = tag(
            name="div",
            classes=["quiz-question"],
            html={"role": "group", "aria-labelledby": identifier},
        )
        text = tag(name="p", ids=[identifier])
        text += [nodes.strong(text=f"{number}."), nodes.Text(" "), *self.inline(question["text"])]
        if question.get("several"):
            text += nodes.emphasis(text=" More than one is right.")
        group += text
        group += [self.choice(choice) for choice in question["choices"]]
        return group

    def choice(self, choice: dict[str, Any]) -> tag:
        right = choice.get("right") is True
        box = tag(name="details", classes=["quiz-choice", "right" if right else "wrong"])
        summary = tag(name="summary")
        summary += self.inline(choice["text"])
        feedback = tag(name="p")
        feedback += [nodes.strong(text=RIGHT if right else WRONG), nodes.Text(" ")]
        feedback += self.inline(choice["feedback"])
        box += [summary, feedback]
        return box

    def inline(self, text: str) -> list[nodes.Node]:
        found, messages = self.state.inline_text(text, self.lineno)
        return [*found, *messages]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(tag, html=(visit_tag, depart_tag))
    app.add_directive("quiz", Quiz)
    app.add_js_file("quiz.js", loading_method="defer")  # when the page is there
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
