"""Mends what screen readers stumble over in HTML that comes from the theme and from docutils.

The theme's side bar opens and closes the sections of a page by an arrow that has no name. docutils
calls a bibliography a list and puts into it what is no item.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx

#: Roles that contradict each other; without them the entries are read one after the other.
CITATION_ROLES = re.compile(r' role="list"(?= class="citation-list")| role="doc-biblioentry"')


def with_names(make: Callable[..., BeautifulSoup]) -> Callable[..., BeautifulSoup]:
    """The theme's list of pages, in which a fold is named after the page above it."""

    def named(*arguments: Any, **options: Any) -> BeautifulSoup:
        soup = make(*arguments, **options)
        for fold in soup.select("li > details"):
            page = fold.parent.find("a").get_text(strip=True)
            fold.find("summary")["aria-label"] = f"Pages below: {page}"
        return soup

    return named


def mend(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Changes what the templates are about to show."""
    context["generate_toctree_html"] = with_names(context["generate_toctree_html"])
    if "body" in context:
        context["body"] = CITATION_ROLES.sub("", context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    # Late, so that the theme has put its function there.
    app.connect("html-page-context", mend, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
