"""The rendered book of the smoke run: whole, readable without a network, nothing left raw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from conftest import ROOT

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
every_page = pytest.mark.parametrize("page", PAGES)

REMOTE = re.compile(r"^(https?:)?//", re.I)
# What Jupyter Book shows when it does not understand it: roles, fences, unresolved references.
RAW = re.compile(r"\{[a-z:+-]+\}`|:::|```|\bTODO\b|\?\?\?|%%|\[@|^\(\S+\)=", re.M)


def read(html: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def article(html: Path, page: str) -> Tag:
    found = read(html, page).find("article")
    assert isinstance(found, Tag)
    return found


def test_the_first_page_says_what_the_book_is(smoke_book: Path) -> None:
    assert (smoke_book / "index.html").is_file()
    text = article(smoke_book, TOC["root"]).get_text(" ")
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    assert title in text
    assert "This book runs that experiment again" in text


@every_page
def test_every_page_is_there_with_a_title_and_prose(smoke_book: Path, page: str) -> None:
    body = article(smoke_book, page)
    assert body.find("h1") is not None
    assert len(body.get_text(" ").split()) > 60


@every_page
def test_every_image_has_a_real_alternative_text(smoke_book: Path, page: str) -> None:
    for image in article(smoke_book, page).find_all("img"):
        alt = str(image.get("alt", "")).strip()
        assert len(alt.split()) >= 4, f"{image.get('src')}: {alt!r}"
        assert not re.search(r"\.(png|svg|jpe?g)\b|_images/", alt), alt


@every_page
def test_every_local_asset_exists(smoke_book: Path, page: str) -> None:
    where = (smoke_book / f"{page}.html").parent
    for element in read(smoke_book, page).find_all(["img", "script", "link"]):
        target = str(element.get("src") or element.get("href") or "")
        if element.name == "link" and "stylesheet" not in (element.get("rel") or []):
            continue
        if target and not target.startswith("data:") and not REMOTE.match(target):
            assert (where / target.partition("?")[0].partition("#")[0]).is_file(), target


@every_page
def test_no_asset_is_fetched_from_a_network(smoke_book: Path, page: str) -> None:
    soup = read(smoke_book, page)
    for element in soup.find_all(["script", "img", "iframe", "source", "embed", "object", "audio"]):
        for attribute in ("src", "data", "srcset"):
            assert not REMOTE.match(str(element.get(attribute, ""))), element
    for link in soup.find_all("link"):
        if set(link.get("rel") or []) & {"stylesheet", "preload", "icon", "modulepreload"}:
            assert not REMOTE.match(str(link.get("href", ""))), link
    for script in soup.find_all("script", src=False):
        loads = re.search(r"(src\s*=|import\(|fetch\()\s*[\"'`]?(https?:)?//", script.get_text())
        assert not loads, script
    for style in soup.find_all("style"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.get_text())


def test_no_style_sheet_fetches_from_a_network(smoke_book: Path) -> None:
    sheets = list(smoke_book.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text), sheet


@every_page
def test_no_raw_directive_shows(smoke_book: Path, page: str) -> None:
    body = article(smoke_book, page)
    for code in body.find_all(["pre", "code", "script", "style"]):
        code.decompose()
    for formula in body.find_all(class_="math"):
        formula.decompose()
    raw = RAW.search(body.get_text("\n"))
    assert raw is None, raw


@every_page
def test_every_quoted_number_resolves(smoke_book: Path, page: str) -> None:
    text = article(smoke_book, page)
    assert not text.find_all(class_=["number-missing", "problematic", "system-message"])


def test_numbers_are_quoted(smoke_book: Path) -> None:
    """The check above would pass on a book that quotes none."""
    quoted = [n for page in PAGES for n in article(smoke_book, page).find_all(class_="number")]
    assert len(quoted) > 30


def test_figures_are_shown(smoke_book: Path) -> None:
    shown = [image for page in PAGES for image in article(smoke_book, page).find_all("img")]
    assert len(shown) > 30


@every_page
def test_every_link_inside_the_book_leads_somewhere(smoke_book: Path, page: str) -> None:
    where = (smoke_book / f"{page}.html").parent
    known: dict[Path, BeautifulSoup] = {}
    for link in article(smoke_book, page).find_all("a", href=True):
        target, _, anchor = str(link["href"]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (where / target).resolve() if target else (smoke_book / f"{page}.html")
        assert path.is_file(), target
        if anchor and path.suffix == ".html":
            if path not in known:
                known[path] = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            assert known[path].find(id=anchor), f"{target}#{anchor}"


@every_page
def test_formulas_are_shown_by_the_vendored_mathjax(smoke_book: Path, page: str) -> None:
    soup = read(smoke_book, page)
    if soup.find(class_="math"):
        sources = [str(script.get("src", "")) for script in soup.find_all("script")]
        assert any("mathjax/tex-mml-chtml.js" in source for source in sources)
