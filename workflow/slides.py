"""`make slides`: slides of every chapter, with the figures and numbers of a run: slides.py [RUN].

What a slide shows is taken from the chapter itself: its title and what one will learn, the first
words of each section with its formulas, definitions, figures with their captions, exercises, the
take-away. The answer that a chapter begins with is left out: a class guesses first. reveal.js and
MathJax lie beside the pages, so they work without a network.
"""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from fragments import Directive, blocks, fragment, heading, macros, title_of, words
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from shipped import REFERENCE, ROOT, results

HERE = Path(__file__).resolve().parent
MATHJAX = ROOT / "book" / "_static" / "mathjax"
SHOWN = ("prf:definition", "prf:proposition", "exercise", "table", "figure")
LEFT_OUT = ("One thing to vary", "Where to read on", "Sources")
#: Parts of the book that are no matter of a class.
UNTAUGHT = ("Play, exercises, teaching", "Appendices")
ANSWER = "**The answer.**"
WORDS = 60  # of a paragraph; a slide is no page
POINT = ("- ", "1. ", "**")  # how a list begins, or a paragraph that is one of several points
POINT_WORDS = 25
ROWS = 9  # of a table; a longer one goes on on the next slide
Numbers = Mapping[str, Any]


def run_folder(run: str) -> tuple[Path, Path]:
    """Where the notebooks and the numbers of a run lie, by default those of the reference run.

    Raises ValueError, "what: where: fix", if the run is not finished.
    """
    if not run:
        return ROOT / "notebooks", REFERENCE / "numbers.json"
    folder = results() / Path(run).name
    if not (folder / "numbers.json").is_file():
        raise ValueError(f"no finished run {run!r}: {folder}: make it first: make book RUN={run}")
    return folder / "notebooks", folder / "numbers.json"


def chapters() -> list[str]:
    """All pages of the parts that are taught, in their order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if part["caption"] not in UNTAUGHT]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def cells_of(chapter: str, executed: Path) -> list[dict[str, Any]] | None:
    """The cells of a chapter; a page of prose is one cell. None: the run has not executed it."""
    if not chapter.startswith("notebooks/"):
        text = (ROOT / f"{chapter}.md").read_text(encoding="utf-8")
        return [{"cell_type": "markdown", "metadata": {}, "source": text}]
    path = executed / f"{chapter.removeprefix('notebooks/')}.ipynb"
    if not path.is_file():
        return None
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def slides(cells: list[dict[str, Any]], numbers: Numbers) -> Iterator[dict[str, Any]]:
    """The slides of one chapter: `title`, `body` (HTML), and the `size` of what is written."""
    section = ""
    for cell in cells:
        if cell["cell_type"] == "code":
            yield from _figure(cell, numbers)
            continue
        text = "".join(cell["source"])
        for part in re.split(r"^(?=#{1,2} )", text, flags=re.MULTILINE):
            titled = re.match(r"#{1,2} (.+)\n?", part)
            if titled:
                section = titled[1].strip()
                part = part[titled.end() :]
            if not section or section in LEFT_OUT:
                continue
            opening = bool(titled)
            for block in blocks(part):
                if isinstance(block, Directive):
                    yield from _directive(block, numbers)
                elif opening:
                    yield from _opening(section, block, numbers)
                    opening = False


def _opening(section: str, text: str, numbers: Numbers) -> Iterator[dict[str, Any]]:
    """The first words of a section, its formulas and its points; all of a take-away."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    apart = ("$$", "```", "|", "#", "(", ANSWER)
    prose = [p for p in paragraphs if not p.lstrip().startswith(apart)]
    learn = [p for p in prose if p.startswith("**What you will learn")]
    formulas = [p for p in paragraphs if p.lstrip().startswith("$$")]
    if section.lower().startswith("take-away"):
        chosen = prose
    else:
        points = [] if learn else [p for p in prose[1:] if p.startswith(POINT)]
        chosen = [shortened(words(p, numbers)) for p in learn or prose[:1]] + formulas[:2]
        chosen += [shortened(words(p, numbers), POINT_WORDS) for p in points]
    if chosen:
        body = fragment("\n\n".join(chosen), numbers)
        yield {
            "title": Markup(heading(section, numbers)),
            "body": Markup(body),
            "size": size_of(body),
        }


def size_of(body: str) -> str:
    """A class of the style sheet: the more is written, the smaller."""
    letters = len(re.sub(r"<[^>]+>", "", body))
    return "large" if letters < 700 else "small" if letters < 1800 else "tiny"


def shortened(text: str, most: int = WORDS) -> str:
    """As many whole sentences as `most` words hold; lists are kept whole."""
    if text.lstrip().startswith(("- ", "1. ")):
        return text
    kept = ""
    for sentence in re.split(r"(?<=[.?!]) ", text):
        if kept and len(f"{kept} {sentence}".split()) > most:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


def _directive(block: Directive, numbers: Numbers) -> Iterator[dict[str, Any]]:
    if block.name not in SHOWN:
        return
    title = heading(block.title, numbers)
    if block.name == "exercise":
        title = f"Exercise: {title}" if title else "Exercise"
    if block.name == "figure":
        path = ROOT / "book" / block.title
        data = base64.b64encode(path.read_bytes()).decode()
        kind = "svg+xml" if path.suffix == ".svg" else "png"
        yield _picture(f"data:image/{kind};base64,{data}", block.options.get("alt", ""), block.body,
                       numbers)  # fmt: skip
        return
    for part in in_parts(block.body):
        body = fragment(part, numbers)
        yield {"title": Markup(title), "body": Markup(body), "size": size_of(body)}


def in_parts(text: str) -> list[str]:
    """A text whose table has more than ROWS rows as several, each with the table's head."""
    lines = text.splitlines()
    rows = [at for at, line in enumerate(lines) if line.startswith("|")]
    count = len(rows) - 2  # without the head and the line below it
    if count <= ROWS:
        return [text]
    first, last = rows[0] + 2, rows[-1] + 1
    parts = math.ceil(count / ROWS)
    ends = [first + round(count * part / parts) for part in range(parts + 1)]
    head, after = lines[rows[0] : first], lines[last:]
    found = [[*head, *lines[a:b]] for a, b in pairwise(ends)]
    found[0] = [*lines[: rows[0]], *found[0]]
    found[-1] += after
    return ["\n".join(part) for part in found]


def _figure(cell: Mapping[str, Any], numbers: Numbers) -> Iterator[dict[str, Any]]:
    told = cell["metadata"].get("mystnb", {})
    images = [
        "".join(output["data"]["image/png"])
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    if "figure" in told and images:
        image = f"data:image/png;base64,{images[0]}".replace("\n", "")
        alt = told.get("image", {}).get("alt", "")
        yield _picture(image, alt, told["figure"]["caption"], numbers)


def _picture(image: str, alt: str, caption: str, numbers: Numbers) -> dict[str, Any]:
    """A figure's slide: the question that its caption begins with is the title."""
    said = words(caption, numbers)
    question, mark, rest = said.partition("? ")
    title = Markup(heading(f"{question}?", {})) if mark else ""
    inner = fragment(rest if mark else said, {})
    body = Markup('<img alt="{}" src="{}">').format(alt, image) + Markup(inner)
    return {"title": title, "body": body, "size": "small"}


def environment() -> Environment:
    """Templates of this folder, escaping all that is not marked as HTML."""
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write(executed: Path, numbers_file: Path, out: Path) -> list[str]:
    """Write a deck for every chapter, and their index, into the folder `out`; names left out."""
    numbers = json.loads(numbers_file.read_text(encoding="utf-8"))
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(HERE / "reveal", out / "reveal")
    shutil.copytree(MATHJAX, out / "mathjax")
    template = environment().get_template("slides.html")
    decks, missing = [], []
    for chapter in chapters():
        cells = cells_of(chapter, executed)
        title = title_of(chapter)
        if cells is None:
            missing.append(chapter)
            continue
        made = list(slides(cells, numbers))
        name = f"{Path(chapter).name}.html"
        page = template.render(title=title, slides=made, math=macros())
        (out / name).write_text(page, encoding="utf-8")
        decks.append({"file": name, "title": title, "slides": len(made)})
    index = environment().get_template("slides_index.html")
    (out / "index.html").write_text(
        index.render(decks=decks, run=numbers.get("run.name", "")), encoding="utf-8"
    )
    return missing


def main(run: str = "") -> int:
    try:
        executed, numbers = run_folder(run)
        out = results() / (run or "read") / "slides"
        missing = write(executed, numbers, out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if missing:
        print(f"left out, not executed in this run: {', '.join(missing)}")
    print(f"The slides: {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
