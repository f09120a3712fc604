"""Slides and the handout: what the chapters say, whole, offline, with nothing left raw."""

from __future__ import annotations

import base64
import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import fragments
import handout
import pytest
import slides
from browser import chromium
from bs4 import BeautifulSoup
from build_book import notebooks
from conftest import ROOT
from fragments import Directive, blocks, fragment, title_of, words
from pypdf import PdfReader

from finetune_geometry.settings.objectives import METHODS

NUMBERS: dict[str, Any] = {"cosine.sft_rft": 0.667, "run.name": "mine"}
RAW = re.compile(r"\{[a-z:]+\}`|:::|```|^\(\S+\)=|\bNone\b", re.M)


def test_blocks_keep_the_order_and_what_is_nested() -> None:
    text = (
        "(here)=\n# T\n\n```{prf:definition} Of it\n:label: def-it\n\nA.\n\n$$\nx\n$$ (eq-x)\n```\n"
    )
    text += "\n````{solution} ex-it\n:class: dropdown\n\n```python\n1\n```\n````\nLast."
    first, definition, solution, last = blocks(text)
    assert first == "(here)=\n# T"
    assert definition == Directive(
        "prf:definition", "Of it", {"label": "def-it"}, "A.\n\n$$\nx\n$$ (eq-x)"
    )
    assert isinstance(solution, Directive)
    assert solution.body == "```python\n1\n```"
    assert last == "Last."


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("is {number}`cosine.sft_rft:.2f`.", "is 0.67."),
        ("as {cite}`wu2025dft,liu2026rift` says", "as [Wu 2025, Liu 2026] says"),
        ("see {numref}`tab-weights`", "see the table"),
        ("in {eq}`eq-x`", "in the formula"),
        ("the {term}`order control`", "the order control"),
        ("the {term}`runs <run>`", "the runs"),
        ("[here](../notebooks/geometry/cosine) or [](how_to_read.md)",
         "here or How to read the geometry"),
        ("[](../notebooks/methods/rft)", "RFT: imitate what was right"),
        ("`{number}`", "`{number}`"),
    ],
)  # fmt: skip
def test_what_points_elsewhere_becomes_words(source: str, said: str) -> None:
    assert words(source, NUMBERS) == said


def test_a_number_that_no_run_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no notebook has recorded 'cosine\.dpo'"):
        words("{number}`cosine.dpo`", NUMBERS)


def test_formulas_reach_the_page_as_tex() -> None:
    made = fragment("If $a < b$:\n\n$$\nx_1 * y_1 * z\n$$ (eq-x)", {})
    assert r"\(a &lt; b\)" in made
    assert r"\[x_1 * y_1 * z\]" in made
    assert "(eq-x)" not in made
    assert r"\(A\)" in fragments.heading("Of $A$", {})


def test_a_paragraph_is_cut_at_a_sentence() -> None:
    long = "One sentence. " + "word " * slides.WORDS + "end."
    assert slides.shortened(long) == "One sentence."
    assert slides.shortened("- one\n- two") == "- one\n- two"


CELLS = [
    {"cell_type": "markdown", "metadata": {}, "source": [
        "(x)=\n", "# T: a chapter\n", "\n", "**The answer.** Early.\n", "\n",
        "**What you will learn.** It.\n", "\n",
        "## The question\n", "\n", "Why {number}`cosine.sft_rft:.1f` < 1?\n", "\n", "More.\n",
        "\n", "```{exercise}\n", ":label: ex-t\n", "\n", "Try.\n", "```\n", "\n",
        "````{solution} ex-t\n", "Secret.\n", "````\n"]},
    {"cell_type": "code", "source": "x", "outputs": [
        {"data": {"image/png": base64.b64encode(b"png").decode() + "\n"}}],
        "metadata": {"mystnb": {"figure": {"name": "fig-t", "caption": "Is it so? Yes, $x$."},
                                "image": {"alt": 'A "figure" of it.'}}}},
    {"cell_type": "code", "source": "x", "outputs": [], "metadata": {}},
    {"cell_type": "markdown", "metadata": {}, "source": "## Take-away\n\nOne.\n\nTwo."},
]  # fmt: skip


def test_a_chapter_becomes_slides() -> None:
    made = list(slides.slides(CELLS, NUMBERS))
    assert [slide["title"] for slide in made] == [
        "T: a chapter", "The question", "Exercise", "Is it so?", "Take-away"
    ]  # fmt: skip
    text = " ".join(str(slide["body"]) for slide in made)
    assert "Why 0.7 &lt; 1?" in text
    assert "Early" not in text  # a class guesses first
    assert "More" not in text
    assert "Secret" not in text
    assert 'alt="A &#34;figure&#34; of it."' in text
    assert "One." in str(made[-1]["body"])
    assert "Two." in str(made[-1]["body"])


def test_a_section_keeps_its_points() -> None:
    source = "# T\n\nIt has parts.\n\nNot this.\n\n- one\n- two\n\n**Three.** Short. "
    source += "word " * slides.POINT_WORDS + "end."
    made = list(slides.slides([{"cell_type": "markdown", "metadata": {}, "source": source}], {}))
    text = " ".join(str(slide["body"]) for slide in made)
    for kept in ("It has parts.", "one", "two", "Three.", "Short."):
        assert kept in text
    assert "Not this" not in text
    assert "end." not in text


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slides of the reference run, as far as its chapters are executed."""
    out = tmp_path_factory.mktemp("slides") / "slides"
    missing = slides.write(*slides.run_folder(""), out)
    there = {path.stem for path in (ROOT / "notebooks").rglob("*.ipynb")}
    assert not [name for name in missing if Path(name).name in there]
    return out


def test_a_long_table_goes_on_on_the_next_slide() -> None:
    head = ["| n | what |", "|---|---|"]
    rows = [f"| {n} | row |" for n in range(slides.ROWS + 1)]
    assert slides.in_parts("\n".join([*head, *rows[:-1]])) == ["\n".join([*head, *rows[:-1]])]
    first, second = slides.in_parts("\n".join(["Before.", "", *head, *rows, "", "After."]))
    assert first.splitlines()[:4] == ["Before.", "", *head]
    assert second.splitlines()[:2] == head
    assert second.endswith("\n\nAfter.")
    shown = [line for part in (first, second) for line in part.splitlines() if "row" in line]
    assert shown == rows


def test_every_executed_chapter_has_a_deck_with_a_take_away(decks: Path) -> None:
    pages = sorted(decks.glob("*.html"))
    assert len(pages) > 25
    index = BeautifulSoup((decks / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert {str(link["href"]) for link in index.find_all("a")} == {
        page.name for page in pages if page.name != "index.html"
    }
    for page in pages:
        if page.name == "index.html":
            continue
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        titles = [h.get_text() for h in soup.find_all(["h1", "h2"])]
        assert titles[0]
        if page.stem in {Path(name).name for name in notebooks()}:
            assert titles[-1].lower().startswith("take-away"), page.name
        for image in soup.find_all("img"):
            assert len(str(image["alt"]).split()) >= 4
            assert str(image["src"]).startswith("data:image/")


def test_slides_need_no_network_and_show_nothing_raw(decks: Path) -> None:
    for page in decks.glob("*.html"):
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for element in soup.find_all(["script", "link", "img"]):
            target = str(element.get("src") or element.get("href") or "")
            if target and not target.startswith("data:"):
                assert (decks / target).is_file(), target
        for code in soup.find_all(["code", "pre", "script", "style"]):
            code.decompose()
        raw = RAW.search(soup.get_text("\n"))
        assert raw is None, (page.name, raw)


FITS = """() => {
  const cut = [];
  for (let at = 0; at < Reveal.getTotalSlides(); at++) {
    Reveal.slide(at);
    const slide = Reveal.getCurrentSlide();
    const over = [slide.scrollWidth - slide.clientWidth, slide.scrollHeight - slide.clientHeight];
    if (Math.max(...over) > 8) cut.push([at + 1, ...over]);  // a subscript may stand out a little
  }
  return cut;
}"""
#: Decks with the longest tables, formulas and captions.
DENSE = ("coverage", "objectives", "paper_claims", "path", "protocol", "verdict")
READY = "window.Reveal && Reveal.isReady()"


def test_every_slide_fits_and_a_deck_prints_a_page_a_slide(decks: Path) -> None:
    with chromium() as page:
        page.set_viewport_size({"width": 1280, "height": 800})
        for name in DENSE:
            page.goto((decks / f"{name}.html").as_uri())
            page.wait_for_function(READY)
            assert page.evaluate(FITS) == [], name
        page.goto(f"{(decks / 'objectives.html').as_uri()}?print-pdf")
        page.wait_for_function(READY)
        printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
        titles = page.locator("section").evaluate_all(
            "all => all.map((one) => one.querySelector('h1, h2')?.innerText ?? '')"
        )
        assert len(printed.pages) == len(titles) > 5
        for sheet, title in zip(printed.pages, titles, strict=True):
            assert squeezed(title)[:12] in squeezed(sheet.extract_text())


def squeezed(text: str) -> str:
    """Plain letters only: a PDF has its own spaces and ligatures."""
    return re.sub("[^a-z]", "", unicodedata.normalize("NFKC", text).lower())


def test_the_handout_has_every_loss_and_is_whole(tmp_path: Path) -> None:
    page = handout.write(tmp_path / "handout")
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    text = soup.get_text(" ")
    assert [loss["name"] for loss in handout.losses()] == list(METHODS.values())
    for title in ("Principal angles", "Cosine of two deltas", "Debiased linear CKA"):
        assert title in text
    assert len(soup.find_all("div", class_="page")) == 2
    assert soup.find("table") is not None
    assert (page.parent / "mathjax" / "tex-mml-chtml.js").is_file()
    for script in soup.find_all("script"):
        script.decompose()
    assert not re.search(r"\{[a-z:]+\}`|:::|```", soup.get_text("\n"))


def test_an_unfinished_run_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    assert slides.main("nowhere") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no finished run 'nowhere'" in said


def test_what_is_shown_of_a_run_is_of_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = json.loads((slides.REFERENCE / "numbers.json").read_text(encoding="utf-8"))
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "numbers.json").write_text(json.dumps(reference | NUMBERS))
    assert slides.main("mine") == 0
    said = capsys.readouterr().out
    assert "left out, not executed in this run: notebooks/" in said
    index = (tmp_path / "mine" / "slides" / "index.html").read_text(encoding="utf-8")
    assert "<code>mine</code>" in index


def test_titles_are_those_of_the_pages() -> None:
    assert title_of("book/objectives") == "Six losses, one formula"
    assert title_of("notebooks/methods/sft") == "SFT: imitate everything"
    assert "tex" in fragments.macros()
