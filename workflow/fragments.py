"""Sources of the book as pieces of HTML, for slides and handouts: where Sphinx would be too much.

Knows the part of MyST that the book uses. Roles that point elsewhere become words, for a slide has
nowhere to point to; numbers of the run are looked up as the book's own extension does it. Needs
what renders the book and nothing of the package.
"""

from __future__ import annotations

import functools
import html
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from shipped import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from number_role import show

FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}[ \t]*(.*)$")
ROLE = re.compile(r"\s?\{([a-z:]+)\}`([^`]+)`")
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([^)]+)\)")
LABEL = re.compile(r"^\([\w-]+\)=$", re.MULTILINE)
#: What a reference says, by the beginning of its label.
POINTED = {
    "fig-": "the figure",
    "tab-": "the table",
    "eq-": "the formula",
    "prop-": "the proposition",
    "def-": "the definition",
    "ex-": "the exercise",
}


@dataclass(frozen=True)
class Directive:
    """A directive: its name, its title (what stands behind the name), its options, its body."""

    name: str
    title: str
    options: Mapping[str, str]
    body: str


def blocks(text: str) -> Iterator[str | Directive]:
    """The directives of a text, and what stands between them, in their order."""
    plain: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        opened = FENCE.match(line)
        if opened is None:
            plain.append(line)
            continue
        if between := "\n".join(plain).strip():
            yield between
        plain = []
        fence, name, title = opened.groups()
        inside = []
        for following in lines:
            if following.strip() == fence:
                break
            inside.append(following)
        yield _directive(name, title, inside)
    if between := "\n".join(plain).strip():
        yield between


def _directive(name: str, title: str, lines: list[str]) -> Directive:
    options: dict[str, str] = {}
    while lines and (option := re.match(r":([\w-]+):\s*(.*)$", lines[0])):
        options[option[1]] = option[2]
        lines = lines[1:]
    return Directive(name, title, options, "\n".join(lines).strip())


def fragment(text: str, numbers: Mapping[str, Any]) -> str:
    """HTML of prose, formulas and tables; directives within it are shown by their bodies.

    numbers: of the run. Raises ValueError for a number that the run has not recorded.
    """
    parts = [part if isinstance(part, str) else part.body for part in blocks(text)]
    made: str = _markdown().render(words("\n\n".join(parts), numbers))
    return made


def heading(text: str, numbers: Mapping[str, Any]) -> str:
    """HTML of a title, in which a formula may stand."""
    made: str = _markdown().renderInline(words(text, numbers))
    return made


def words(text: str, numbers: Mapping[str, Any]) -> str:
    """Markdown without labels, roles and links into the book."""
    text = LABEL.sub("", text)
    text = LINK.sub(lambda link: link[1] or title_of(link[2]), text)
    return ROLE.sub(lambda role: _said(role, numbers), text)


def _said(role: re.Match[str], numbers: Mapping[str, Any]) -> str:
    name, inside = role.groups()
    gap = " " if role[0][0].isspace() else ""
    if name.startswith("cite"):
        keys = [re.match(r"([a-z]+?)(\d{4})", key.strip()) for key in inside.split(",")]
        return gap + f"[{', '.join(f'{key[1].capitalize()} {key[2]}' for key in keys if key)}]"
    if name == "number":
        return gap + show(dict(numbers), inside)[1]
    if told := re.match(r"(.+?)\s*<[^>]+>$", inside):
        return gap + told[1]
    for beginning, word in POINTED.items():
        if inside.startswith(beginning):
            return gap + word
    return gap + inside


@functools.cache
def title_of(target: str) -> str:
    """The title of a page, by the path of a link or by its name in _toc.yml."""
    stem = Path(target.partition("#")[0]).with_suffix("").name
    found = [*ROOT.glob(f"book/{stem}.md"), *ROOT.glob(f"notebooks/**/{stem}.py")]
    for path in found:
        mark = "# # " if path.suffix == ".py" else "# "
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(mark):
                return line.removeprefix(mark).strip()
    return stem.replace("_", " ")


def macros() -> dict[str, Any]:
    """MathJax's configuration of the book."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = config["sphinx"]["config"]["mathjax3_config"]
    return found


@functools.cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    return parser.use(dollarmath_plugin, renderer=_formula, label_renderer=lambda label: "")


def _formula(content: str, options: Mapping[str, Any]) -> str:
    begin, end = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
    return f"{begin}{html.escape(content.strip())}{end}"
