"""The book on paper: every page once and in order, whole in itself, tagged, with an outline.

What needs a Chromium is skipped where there is none.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pdf
import pdf_marks
import print_book
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from pypdf import PdfReader
from small_book import PAGES, TITLES, TOC

AT_THE_END = ["Each notebook alone", "Hints, solutions, answers"]


@pytest.fixture(scope="module")
def page(small_book_html: Path) -> BeautifulSoup:
    """The one page of the small book."""
    made = pdf.assemble(small_book_html.parent, "The run of a test")
    return BeautifulSoup(made, "html.parser")


def test_the_real_book_is_listed_whole_and_in_order() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = print_book.chapters(toc)
    names = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert [chapter.name for chapter in listed] == names
    levels = {chapter.name: chapter.level for chapter in listed}
    assert levels["book/index"] == 1
    assert levels["book/question"] == 2
    assert levels["book/api/deltas"] == 3


def test_the_chapters_stand_in_their_order(page: BeautifulSoup) -> None:
    chapters = page.select("section.chapter")
    assert [chapter["id"] for chapter in chapters] == [*PAGES, pdf.ALONE, pdf.ANSWERS]
    titles = [chapter.find(re.compile("h[1-3]"), class_=False) for chapter in chapters]
    assert [(title.name, title.get_text()) for title in titles if title] == [
        *zip(["h1", "h2", "h2", "h2", "h3"], TITLES, strict=True),
        *(("h1", title) for title in AT_THE_END),
    ]
    parts = [part.get_text() for part in page.select("h1.part")]
    assert parts == [part["caption"] for part in TOC["parts"]]
    listed = [link.get_text() for link in page.select("nav a")]
    assert listed == [*TITLES, *AT_THE_END]


def test_anchors_are_told_apart_and_links_stay_inside(page: BeautifulSoup) -> None:
    anchors = [str(element["id"]) for element in page.find_all(id=True)]
    assert len(anchors) == len(set(anchors))
    assert "book/one:take-away" in anchors
    assert "notebooks/a/two:take-away" in anchors
    links = [str(link["href"]) for link in page.find_all("a", href=True)]
    outside = {link for link in links if not link.startswith("#")}
    assert outside == {"https://example.org/x"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(anchors)
    assert "#notebooks/a/two" in links
    assert "#book/one:ex-one" in links
    places = {str(place["data-of"]) for place in page.select(".page-of")}
    assert places <= set(anchors)


def test_code_is_shown_and_what_is_folded_beside_it_left_out(page: BeautifulSoup) -> None:
    text = page.get_text()
    assert "shown = 1" in text
    assert "folded = 2" not in text
    assert not page.select("main details, main script, .headerlink")
    assert [image["alt"] for image in page.select("main img")] == [
        "A grey square without anything in it."
    ]


def test_pictures_and_mathjax_lie_where_the_page_looks(
    page: BeautifulSoup, small_book_html: Path
) -> None:
    out = small_book_html.parent / "pdf"
    sources = [str(element["src"]) for element in page.select("[src]")]
    assert len(sources) == 3
    for source in sources:
        assert (out / source).resolve().is_file(), source


def test_hints_solutions_and_answers_stand_at_the_end(page: BeautifulSoup) -> None:
    answers = page.select("section.answer")
    assert [answer.h3.get_text(" ", strip=True) for answer in answers if answer.h3] == [
        "Exercise 1 (Think)", "Arrows", "Quiz: Questions"
    ]  # fmt: skip
    exercise, figure, quiz = (answer.get_text(" ", strip=True) for answer in answers)
    assert re.search(r"Hint Multiply\. See .* Solution It is four\.", exercise)
    assert "Answer The third." in figure
    assert "1: (b) (a) No. feedback 0 (b) Right. feedback 1" in quiz
    one = page.find("section", id="book/one")
    assert one is not None
    told = one.get_text(" ", strip=True)
    for taken in ("It is four", "Multiply", "The third", "feedback"):
        assert taken not in told
    for line in ("Hint and solution: page", "Answer: page", "Answers: page"):
        assert line in told
    assert [item.get_text() for item in page.select("ol.choices")[0].select("li")] == [
        "choice 0", "choice 1", "choice 2"
    ]  # fmt: skip


def test_how_to_run_a_notebook_stands_at_the_end(page: BeautifulSoup) -> None:
    alone, two = page.find("section", id=pdf.ALONE), page.find("section", id="notebooks/a/two")
    assert alone is not None
    assert two is not None
    assert "It takes a second." in alone.get_text()
    assert "Two, executed" in alone.get_text()
    assert "It takes a second." not in two.get_text()


def test_every_page_bears_its_chapter_s_title(page: BeautifulSoup) -> None:
    style = "".join(element.get_text() for element in page.find_all("style"))
    for number, name in enumerate(PAGES):
        assert f'[id="{name}"] {{ page: chapter{number} }}' in style
    # As a string of CSS: quotes by their number.
    title = r'content: "One: \22 x\22  & signs"'
    assert f"@page chapter1 {{ @top-right {{ {title} }} }}" in style


def test_a_page_that_is_missing_is_told(small_book_html: Path, tmp_path: Path) -> None:
    nowhere = print_book.Chapter("book/nowhere", 2, "A part")
    with pytest.raises(ValueError, match=r"no page book/nowhere: .*: render the book again"):
        print_book.printed(small_book_html, nowhere, PAGES, tmp_path)


def test_an_unfinished_run_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setenv(chromium.VARIABLE, sys.executable)
    assert pdf.main("nowhere") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no finished run 'nowhere'" in said
    assert "make book RUN=nowhere" in said


def test_without_a_chromium_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        chromium, "PROGRAMS", [name for name in chromium.PROGRAMS if not name.startswith("/")]
    )
    assert pdf.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no Chromium: PATH: install one (Debian: apt install chromium;")
    assert said.count("\n") == 1


def program(path: Path, script: str) -> str:
    """An executable file that stands for a browser."""
    path.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_browser_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    ends = program(tmp_path / "ends", "import sys; sys.exit('a line\\nERROR: no display')")
    with (
        pytest.raises(ValueError, match=r"ended and said 'ERROR: no display': .*/ends: name"),
        chromium.Chromium(ends),
    ):
        pass


def test_a_browser_that_prints_no_page_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Chromium 130\.0\.1 is too old .*: /old: install"):
        chromium.check_version("130.0.1", "/old")
    chromium.check_version("131.0.1", "/new")


def there_is_a_chromium() -> bool:
    try:
        chromium.find()
    except ValueError:
        return False
    return True


needs_chromium = pytest.mark.skipif(
    not there_is_a_chromium(), reason=f"no Chromium: {chromium.INSTALL}"
)


@pytest.fixture(scope="module")
def book(small_book_html: Path) -> PdfReader:
    """The small book, printed as that of a finished run is."""
    folder = small_book_html.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_GEOMETRY_RESULTS", str(folder.parent))
        assert pdf.main(folder.name) == 0
    return PdfReader(folder / "pdf" / "book.pdf")


def outlines(entries: list[Any], level: int = 0) -> Iterator[tuple[int, str]]:
    """(level, title) of every bookmark."""
    for entry in entries:
        if isinstance(entry, list):
            yield from outlines(entry, level + 1)
        else:
            yield level, entry.title


@needs_chromium
def test_the_pdf_is_tagged_and_says_its_language_and_title(book: PdfReader) -> None:
    root = book.root_object
    assert root["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in root
    assert root["/Lang"] == "en"
    assert book.metadata is not None
    assert book.metadata.title == "A small book"
    assert book.metadata.author == "The finetune-geometry authors"


@needs_chromium
def test_pictures_and_formulas_have_a_text_for_who_cannot_see_them(book: PdfReader) -> None:
    tags = [tag for tag in pdf_marks.tags(book.root_object["/StructTreeRoot"]) if "/S" in tag]
    told = {(tag["/S"], tag["/Alt"]) for tag in tags if "/Alt" in tag}
    assert ("/Figure", "A grey square without anything in it.") in told
    assert ("/Formula", r"2^2 \cdot 1") in told
    assert len(told) == 3  # and the long formula
    assert sum(tag["/S"] == "/Table" for tag in tags) == 1


@needs_chromium
def test_the_cover_names_the_run(book: PdfReader, small_book_html: Path) -> None:
    cover = book.pages[0].extract_text()
    assert f"Run {small_book_html.parent.name}, profile small" in cover


@needs_chromium
def test_the_outline_names_every_chapter_in_order(book: PdfReader) -> None:
    named = list(outlines(book.outline))
    shown = ["Contents", TITLES[0], "The start", *TITLES[1:3], "Appendices", *TITLES[3:]]
    shown += AT_THE_END
    titles = [title for level, title in named if title in shown]
    assert titles == [*shown[:-1], TITLES[2], shown[-1], TITLES[1]]  # with their boxes and answers
    levels = {title: level for level, title in reversed(named)}
    assert [levels[title] for title in ("The start", TITLES[1], "deltas")] == [0, 1, 2]
    shows = sum(level < 2 for level, _ in named)  # chapters are folded
    assert book.root_object["/Outlines"]["/Count"] == shows < len(named)


@needs_chromium
def test_links_lead_to_pages_and_not_to_files(book: PdfReader) -> None:
    inside, outside = 0, []
    for sheet in book.pages:
        for mark in sheet.get("/Annots", []):
            link = mark.get_object()
            if link["/Subtype"] != "/Link":
                continue
            action = link.get("/A", {})
            if "/URI" in action:
                outside.append(action["/URI"])
            else:
                name = link.get("/Dest") or action.get("/D")
                assert name in book.named_destinations
                inside += 1
    assert outside == ["https://example.org/x"]
    assert inside > 10


@needs_chromium
def test_contents_and_pages_bear_the_same_numbers(book: PdfReader) -> None:
    texts = [sheet.extract_text() for sheet in book.pages]
    contents = next(text for text in texts if "Contents" in text)
    for title in ("Two, executed", "Hints, solutions, answers"):
        number = re.search(rf"{title}\s+(\d+)", contents)
        assert number is not None, contents
        there = texts[int(number[1]) - 1]
        assert title in there
        assert re.search(rf"(^|\n)\s*{number[1]}\s*($|\n)", there)
    answers = texts[-1]
    assert "It is four." in answers
    assert re.search(r"Question: page \d", answers)


@needs_chromium
def test_formulas_are_typeset_and_nothing_is_too_wide(small_book_html: Path) -> None:
    page = small_book_html.parent / "pdf" / "book.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(pdf.assemble(small_book_html.parent, "A test"), encoding="utf-8")
    # Shares of what is as wide as the text.
    widths = """["mjx-container[display] mjx-math", "table", "img", "pre"].flatMap((kind) =>
      [...document.querySelectorAll(`main ${kind}`)].map((element) =>
        element.getBoundingClientRect().right / document.body.getBoundingClientRect().right))"""
    with chromium.Chromium(chromium.find()) as browser:
        browser.open(page)
        before = browser.value(f"MathJax.startup.promise.then(() => {widths})")
        told = browser.value("bookReady()")
        after = browser.value(widths)
    assert len(told.pop("formulas")) == 2
    assert told == {"faults": [], "missing": [], "wide": []}
    assert sum(width > 1 for width in before) == 2  # the long formula, the table of 14 columns
    assert max(after) <= 1


@needs_chromium
@pytest.mark.parametrize("formula", [r"\frac{1", r"\nosuchname", "x^1^2"])
def test_a_formula_that_cannot_be_typeset_is_no_book(tmp_path: Path, formula: str) -> None:
    script = (ROOT / "workflow" / "templates" / "print.js").read_text(encoding="utf-8")
    mathjax = ROOT / "book" / "_static" / "mathjax" / "tex-mml-chtml.js"
    page = tmp_path / "book.html"
    page.write_text(
        f'<script>{script}</script><script src="{mathjax}"></script><section class="chapter" '
        f'id="book/x"><p><span class="math">\\({formula}\\)</span></p></section>',
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match=r"not shown: book/x: .*: mend the page"):
        pdf.print_book(page, chromium.find())
