"""A book of five pages with one of everything, rendered by the tool that renders the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import build_book
import nbformat
import yaml
from conftest import ROOT
from repository_links import with_links

PAGES = ["book/index", "book/one", "notebooks/a/two", "book/api", "book/api/deltas"]
TITLES = ["A small book", 'One: "x" & signs', "Two, executed", "The package", "deltas"]
TOC = {
    "format": "jb-book",
    "root": "book/index",
    "parts": [
        {"caption": "The start", "chapters": [{"file": "book/one"}, {"file": "notebooks/a/two"}]},
        {
            "caption": "Appendices",
            "chapters": [{"file": "book/api", "sections": [{"file": "book/api/deltas"}]}],
        },
    ],
}
WIDE_FORMULA = " + ".join(f"x_{{{n}}}^2" for n in range(24))
WIDE_TABLE = "|".join(f" column{n} " for n in range(14))
ONE = f"""\
# One: `"x"` & signs

A number of the run, {{number}}`some.number:.1f`. See {{ref}}`ex-one` and
[the page two](../notebooks/a/two).

## The question

$$
y = {WIDE_FORMULA}
$$ (eq-one)

|{WIDE_TABLE}|
|{"---|" * 14}
|{WIDE_TABLE}|

```{{exercise}} Think
:label: ex-one

What is $2^2
\\cdot 1$?
```

```{{dropdown}} Hint
Multiply. See {{eq}}`eq-one`.
```

```{{solution}} ex-one
:class: dropdown

It is four.
```

```{{explorable}} arrows
```

## Questions

```{{quiz}} start
```

## Take-away

The take-away of one.
"""
TWO = """\
# Two, executed

See [](../../book/one) and its {ref}`exercise <ex-one>`, and [elsewhere](https://example.org/x).

## Take-away

The take-away of two.
"""
ALONE = """\
:::{admonition} Run this page alone
:class: dropdown run-alone

It takes a second.
:::
"""
EXPLORABLE = {
    "label": "Arrows",
    "page": "book/one",
    "question": "Which is longest?",
    "answer": "The third.",
    "not": "It shows nothing else.",
    "alt": "Three arrows of some length.",
}
PICTURE = '<svg class="explorable-picture" role="img" aria-label="Arrows" viewBox="0 0 9 9"></svg>'
# A grey square of 64 by 64 pixels.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAKUlEQVR4nO3MQREAAAwCIKMb3RD77SAA6VEEAoFA"
    "IBAIBAKBQCAQfA8G320AeUC9G5AAAAAASUVORK5CYII="
)


def quiz() -> dict[str, Any]:
    """Five questions; the second choice of each is right, said in words of its own."""
    choices = [{"text": f"choice {n}", "feedback": f"feedback {n}"} for n in range(3)]
    right = [{**choice, "right": True} if n == 1 else choice for n, choice in enumerate(choices)]
    questions = [{"text": f"Question {n}?", "choices": right} for n in range(5)]
    return {"start": {"title": "The start", "questions": questions}}


def notebook() -> dict[str, Any]:
    """With code that is shown, code that is folded away, and a figure."""
    drawn = nbformat.v4.new_output("display_data", data={"image/png": PNG})
    figure = {"figure": {"name": "fig-two", "caption": "Is it grey? Yes."}}
    alt = {"image": {"alt": "A grey square without anything in it."}}
    cells = [
        nbformat.v4.new_markdown_cell(TWO.partition("## ")[0]),
        nbformat.v4.new_markdown_cell(ALONE),
        nbformat.v4.new_code_cell("shown = 1"),
        nbformat.v4.new_code_cell(
            "folded = 2",
            outputs=[drawn],
            metadata={"tags": ["hide-input"], "mystnb": {**figure, **alt}},
        ),
        nbformat.v4.new_markdown_cell("## " + TWO.partition("## ")[2]),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def make(folder: Path) -> None:
    """Write the sources to folder/book_source and render them to folder/html, strictly.

    The configuration is the real one but for the bibliography, and with the repository that the
    environment names.
    """
    source = folder / "book_source"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config = with_links({**config, "repository": {"url": ""}, "title": "A small book"})
    config["sphinx"]["extra_extensions"].remove("sphinxcontrib.bibtex")
    for name in [name for name in config["sphinx"]["config"] if name.startswith("bibtex")]:
        del config["sphinx"]["config"][name]
    for name in ("_ext", "_static"):
        unread = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "book" / name, source / "book" / name, ignore=unread)
    stills = {"data": [], "looks": {}, "from_reference": False, "picture": PICTURE}
    written: dict[str, Any] = {
        "_config.yml": config,
        "_toc.yml": TOC,
        "numbers.json": {"some.number": 1.25, "run.profile": "small"},
        "book/quizzes.yaml": quiz(),
        "book/explorables.yaml": {"arrows": EXPLORABLE},
        "explorables/arrows.json": stills,
        "book/index.md": "# A small book\n\nRead [](one.md), then [](../notebooks/a/two).\n",
        "book/one.md": ONE,
        "notebooks/a/two.ipynb": notebook(),
        "book/api.md": "# The package\n\nSee [](api/deltas.md).\n",
        "book/api/deltas.md": "# deltas\n\nA room.\n",
    }
    for name, content in written.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".yml" or path.suffix == ".yaml":
            content = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        elif not isinstance(content, str):
            content = json.dumps(content)
        path.write_text(content, encoding="utf-8")
    log = folder / "book.log"
    assert build_book.render(source, folder / "html", log) == 0, log.read_text(encoding="utf-8")
