"""Paths through the book: their minutes are those of the pages, their sums those of the minutes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from docutils import nodes
from one_page import load_extension, render_page

reading = load_extension("reading_path")
LONG = "# Long\n\n" + "word " * 799 + "\n"  # with the title 800 words
SHORT = "# Short\n\nA formula:\n\n$$\nx\n$$\n"


def build(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[BeautifulSoup, str]:
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    source = folder / "source"
    (source / "part").mkdir(parents=True)
    (source / "index.md").write_text(f"---\norphan: true\n---\n# Page\n\n{text}\n")
    (source / "part" / "long.md").write_text(f"---\norphan: true\n---\n{LONG}")
    (source / "short.md").write_text(f"---\norphan: true\n---\n{SHORT}")
    html, warnings = render_page(source, ["reading_path"], myst_enable_extensions=["dollarmath"])
    return BeautifulSoup(html, "html.parser"), warnings


def test_minutes_stand_behind_each_link_and_their_sum_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "```{reading-path}\n:within: 5\n\n1. [](part/long.md): why, see [](short.md).\n"
    text += "2. [](short.md): why.\n```\n\n```{reading-rule}\n```"
    soup, warnings = build(tmp_path, text, monkeypatch)
    assert warnings == ""
    first, second = (item.get_text() for item in soup.find_all("li") if "why" in item.get_text())
    assert first.startswith("Long (4 min): why")
    assert second.startswith("Short (1 min): why")
    assert soup.find("strong", string="Together 5 min.") is not None
    assert "200 words a minute" in soup.get_text()


def test_a_path_that_takes_longer_than_promised_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "```{reading-path}\n:within: 3\n\n1. [](part/long.md): why.\n```"
    _, warnings = build(tmp_path, text, monkeypatch)
    assert "reading-path: it takes 4 minutes, not 3" in warnings


def test_an_item_without_a_page_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, warnings = build(tmp_path, "```{reading-path}\n1. Read on.\n```", monkeypatch)
    assert "'Read on.' begins with no link to a page" in warnings


def words(count: int) -> nodes.paragraph:
    return nodes.paragraph(text="word " * count)


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (words(200), 60.0),
        (nodes.container("", words(200), classes=["dropdown"]), 0.0),
        (nodes.container("", words(200), design_component="dropdown"), 0.0),
        (nodes.container("", words(200), classes=["cell_output"]), 0.0),
        (nodes.figure("", nodes.image(), nodes.caption(text="word " * 100)), 60.0),
        (nodes.container("", nodes.figure("", words(100)), classes=["cell_output"]), 60.0),
        (nodes.container("", nodes.raw(text="<table></table>"), classes=["cell_output"]), 30.0),
        (nodes.literal_block(text="word " * 200), 0.0),
        (nodes.paragraph("", "", nodes.math(text="a + b + c")), 0.3),
        (nodes.math_block(text="a + b + c"), 10.0),
    ],
)
def test_what_is_counted(node: nodes.Element, seconds: float) -> None:
    assert reading.seconds_of(node) == pytest.approx(seconds)


@pytest.mark.parametrize(("minutes", "said"), [(1, "1 min"), (59, "59 min"), (134, "2 h 14 min")])
def test_minutes_in_words(minutes: int, said: str) -> None:
    assert reading.in_words(minutes) == said


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("question.html", "book/question"),
        ("../notebooks/geometry/cosine.html#take-away", "notebooks/geometry/cosine"),
        ("https://example.org/x.html", ""),
        ("", ""),
    ],
)
def test_a_link_is_a_page(address: str, page: str) -> None:
    assert reading.page_of(address, "book/index") == page


def test_the_path_of_the_teacher_is_that_of_the_plan_of_90_minutes() -> None:
    start = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    path = start.partition("### You teach this")[2].partition("\n## ")[0]
    plan = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    plan = plan.partition("### 90 minutes")[2].partition("### One day")[0]
    named = set(re.findall(r"\]\(([\w./]+?)(?:\.md)?\)", plan))
    listed = re.findall(r"^\d+\. \[\]\(([\w./]+?)(?:\.md)?\)", path, re.M)
    assert named <= set(listed) == named | {"teaching", "exercises"}
