"""The ``reading-path`` directive: pages in an order, with the minutes that each takes to read.

Its content is one list, each item of which begins with a link to a page of the book. When the book
is rendered, the minutes are put behind that link and their sum below the list. They are counted
from the pages themselves, so nobody types them: WORDS_A_MINUTE, SECONDS_A_FIGURE for each figure
and each table that code has printed, SECONDS_A_FORMULA for each displayed formula. Code and what
is folded away are not counted. ``{reading-rule}`` says so.

The option `within` is a promise: a path that takes longer is a warning, hence an error in the
strict build.
"""

from __future__ import annotations

import posixpath
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

WORDS_A_MINUTE = 200
SECONDS_A_FIGURE, SECONDS_A_FORMULA = 30, 10
RULE = (
    f"The minutes are counted from the pages as they are: {WORDS_A_MINUTE} words a minute, "
    f"{SECONDS_A_FIGURE} seconds for each figure and each table that code has printed, "
    f"{SECONDS_A_FORMULA} for each displayed formula. Code and what is folded away are not "
    "counted, and neither is the time that an exercise takes."
)
SECONDS_A_WORD = 60 / WORDS_A_MINUTE

logger = logging.getLogger(__name__)


class path(nodes.General, nodes.Element):
    """A list of pages; attribute `within`, in minutes, or None."""


def is_folded(node: nodes.Element) -> bool:
    return (
        "dropdown" in node.get("classes", ())
        or node.get("design_component") == "dropdown"
        or node.tagname == "folded"
    )


def seconds_of(node: nodes.Node, printed: bool = False) -> float:
    """What the reading of a page, or of a part of it, takes.

    printed: whether it stands in what code has printed; of that only figures and tables count.
    """
    if isinstance(node, nodes.Text):
        return 0.0 if printed else len(node.split()) * SECONDS_A_WORD
    if not isinstance(node, nodes.Element) or is_folded(node):
        return 0.0
    if isinstance(node, nodes.math_block):
        return SECONDS_A_FORMULA
    if isinstance(node, nodes.math):
        return SECONDS_A_WORD
    if isinstance(node, nodes.raw):
        return SECONDS_A_FIGURE if printed and "<table" in node.astext() else 0.0
    if isinstance(node, (nodes.literal_block, nodes.comment, nodes.image)):
        return 0.0
    own = 0.0
    if isinstance(node, nodes.figure) or node.tagname == "explorable":
        own, printed = SECONDS_A_FIGURE, False
    printed = printed or "cell_output" in node.get("classes", ())
    return own + sum(seconds_of(child, printed) for child in node.children)


def minutes_of(page: nodes.document) -> int:
    """Whole minutes, at least one."""
    return max(1, round(seconds_of(page) / 60))


def in_words(minutes: int) -> str:
    """As in "5 min" and "2 h 14 min"."""
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


class ReadingPath(SphinxDirective):
    """``{reading-path}`` with a list of links; option `within`, in minutes."""

    has_content = True
    option_spec = {"within": directives.positive_int}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        made = path("", within=self.options.get("within"))
        self.set_source_info(made)
        self.state.nested_parse(self.content, self.content_offset, made)
        return [made]


class ReadingRule(SphinxDirective):
    """``{reading-rule}``: how the minutes are counted."""

    def run(self) -> list[nodes.Node]:
        return [nodes.paragraph("", RULE)]


def add_minutes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Puts the minutes into the paths of a page, when links and all other pages are known."""
    for made in list(doctree.findall(path)):
        total = 0
        for item in made.findall(nodes.list_item):
            link = next(iter(item.findall(nodes.reference)), None)
            page = link and page_of(link.get("refuri", ""), docname)
            if page not in app.env.found_docs:
                logger.warning(
                    "reading-path: %r begins with no link to a page", item.astext()[:40],
                    location=made,
                )  # fmt: skip
                continue
            minutes = minutes_of(app.env.get_doctree(page))
            total += minutes
            told = nodes.inline(text=f" ({in_words(minutes)})", classes=["reading-minutes"])
            link.parent.insert(link.parent.index(link) + 1, told)
        if made["within"] and total > made["within"]:
            logger.warning(
                "reading-path: it takes %d minutes, not %d: leave a page out, or promise less",
                total, made["within"],
                location=made,
            )  # fmt: skip
        together = nodes.paragraph("", "", nodes.strong(text=f"Together {in_words(total)}."))
        made.replace_self([*made.children, together])


def page_of(address: str, docname: str) -> str:
    """The page that a link of `docname` leads to, as Sphinx names it; "" where it leads outside."""
    place = address.partition("#")[0]
    if not place.endswith(".html") or ":" in place:
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(docname), place[: -len(".html")]))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("reading-path", ReadingPath)
    app.add_directive("reading-rule", ReadingRule)
    app.add_node(path)
    app.connect("doctree-resolved", add_minutes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
