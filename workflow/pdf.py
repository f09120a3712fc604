"""`make pdf`: the whole book as one PDF, tagged and with an outline: pdf.py [RUN].

The pages are those of the rendered book, put together by print_book.py; a Chromium prints them. It
prints twice: only then is known on which page each chapter and each answer stands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import read_reference
import yaml
from chromium import Chromium, find
from fragments import macros
from markupsafe import Markup
from pdf_marks import marked, pages_of
from print_book import chapters, printed, running_heads
from pygments.formatters import HtmlFormatter
from pypdf import PdfReader
from shipped import results
from slides import environment

ALONE, ANSWERS = "alone", "answers"  # the anchors of what stands at the end
PASSES = 4


def rendered(run: str) -> Path:
    """The folder of a run with its rendered book; "read" is that of `make read`.

    Raises ValueError, "what: where: fix", if the run is not finished.
    """
    folder = results() / Path(run).name
    if not (folder / "html" / "index.html").is_file():
        raise ValueError(f"no finished run {run!r}: {folder}: make it first: make book RUN={run}")
    return folder


def assemble(folder: Path, run: str) -> str:
    """The one page, as HTML for folder/pdf/, of the book that lies rendered in folder/html/.

    run: what the cover says of the run. Raises ValueError, "what: where: fix", for a page that is
    missing.
    """
    source, html, out = folder / "book_source", folder / "html", folder / "pdf"
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    listed = chapters(toc)
    names = [chapter.name for chapter in listed]
    book = [printed(html, chapter, names, out) for chapter in listed]
    parts = []
    for part, group in groupby(book, lambda one: one.chapter.part):
        inside = list(group)
        if part:  # on the first page of its first chapter
            inside[0].open_part(part)
        parts.append((part, inside))
    heads = [(one.anchor, one.title) for one in book]
    heads += [(ALONE, "Each notebook alone"), (ANSWERS, "Hints, solutions, answers")]
    static = os.path.relpath(html / "_static", out)
    template = environment().get_template("print.html")
    return template.render(
        title=config["title"],
        author=config["author"],
        copyright=config["copyright"],
        lang=config["sphinx"]["config"]["language"],
        run=run,
        logo=f"{static}/{Path(config['logo']).name}",
        mathjax=f"{static}/mathjax/tex-mml-chtml.js",
        math=math_settings(),
        code_style=Markup(code_style(config)),
        heads=Markup(running_heads(config["title"], heads)),
        parts=parts,
        boxed=[one for one in book if one.box],
        alone=ALONE,
        answered=[one for one in book if one.answers],
        answers=ANSWERS,
    )


def code_style(config: Mapping[str, Any]) -> str:
    """CSS of highlighted code, in the colours that the web pages have on a light ground."""
    style = config["sphinx"]["config"]["html_theme_options"]["pygments_light_style"]
    css: str = HtmlFormatter(style=style).get_style_defs(".highlight")
    return css


def math_settings() -> dict[str, Any]:
    """MathJax's configuration: of the book; only what Sphinx has marked is a formula."""
    told = macros()
    marked = {"ignoreHtmlClass": ".*", "processHtmlClass": "math"}
    return {**told, "options": {**told.get("options", {}), **marked}}


def print_book(page: Path, program: str) -> tuple[bytes, list[str]]:
    """The PDF of the one page, and what is too wide for the paper.

    Raises ValueError, "what: where: fix", if a formula or a picture cannot be shown.
    """
    with Chromium(program) as browser:
        browser.open(page)
        told = browser.value("bookReady()")
        if faults := [*told["faults"], *told["missing"]]:
            raise ValueError(f"not shown: {faults[0]}: mend the page and render the book again")
        pages: dict[str, int] = {}
        for _ in range(PASSES):
            data = browser.pdf()
            found = pages_of(data)
            if found == pages:
                break
            pages = found
            browser.value(f"setPages({json.dumps(pages)})")
        author = browser.value("document.querySelector('meta[name=author]')?.content ?? ''")
    return marked(data, author, set(told["formulas"])), told["wide"]


def write(folder: Path, run: str, program: str) -> Path:
    """Print the book that lies rendered in folder/html/; returns the PDF's path.

    run: what the cover says of the run. program: a Chromium. Raises ValueError as `assemble` and
    `print_book` do.
    """
    out = folder / "pdf"
    out.mkdir(exist_ok=True)
    page = out / "book.html"
    page.write_text(assemble(folder, run), encoding="utf-8")
    data, wide = print_book(page, program)
    for place in wide:
        print(f"too wide for the paper: {place}")
    path = out / "book.pdf"
    path.write_bytes(data)
    return path


def main(run: str = "") -> int:
    try:
        program = find()  # before the rendering, which takes a minute
        if not run and read_reference.main() != 0:
            return 1  # and has said why
        folder = rendered(run or "read")
        path = write(folder, run_in_words(folder, run), program)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    pages = len(PdfReader(path).pages)
    print(f"The book, {pages} pages, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return 0


def run_in_words(folder: Path, run: str) -> str:
    """What the cover says of the run."""
    if not run:
        return "The reference run"
    numbers = json.loads((folder / "book_source" / "numbers.json").read_text(encoding="utf-8"))
    return f"Run {folder.name}, profile {numbers.get('run.profile', 'unknown')}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
