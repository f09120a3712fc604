"""The extension that mends the theme's and docutils' HTML for screen readers."""

from __future__ import annotations

from bs4 import BeautifulSoup
from one_page import load_extension

accessible = load_extension("accessible")

SIDE_BAR = """<ul><li><a href="one.html">One</a></li><li><a href="api.html">The package</a>
<details><summary><i></i></summary><ul><li><a href="deltas.html">deltas</a></li></ul></details>
</li></ul>"""


def test_what_opens_a_part_of_the_side_bar_is_named_after_its_page() -> None:
    def make(kind: str, *, depth: int) -> BeautifulSoup:
        assert (kind, depth) == ("sidebar", 2)
        return BeautifulSoup(SIDE_BAR, "html.parser")

    soup = accessible.with_names(make)("sidebar", depth=2)
    assert [one["aria-label"] for one in soup("summary")] == ["Pages below: The package"]


def test_a_bibliography_is_no_list_of_what_is_no_item() -> None:
    context = {
        "generate_toctree_html": None,
        "body": '<div role="list" class="citation-list"><div role="doc-biblioentry" id="a">A</div>'
        '</div><div role="list">kept</div>',
    }
    accessible.mend(None, "book/bibliography", "page.html", context, None)
    assert context["body"] == (
        '<div class="citation-list"><div id="a">A</div></div><div role="list">kept</div>'
    )
