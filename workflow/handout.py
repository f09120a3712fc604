"""`make handout`: two pages to print, the six losses and the definitions: handout.py.

Both are taken from the chapters, so that a handout never says another thing than the book. The
page is printed from a browser; MathJax lies beside it, so it needs no network.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from fragments import Directive, blocks, fragment, heading, macros, title_of
from markupsafe import Markup
from shipped import ROOT, results
from slides import MATHJAX, chapters, environment

METHODS = "notebooks/methods/"
WEIGHTS = "tab-weights"  # the table of book/objectives.md
#: Whose definitions fill the second page, in their order.
DEFINED = (
    *("book/objectives", "notebooks/geometry/cosine"),
    *("notebooks/geometry/principal_angles", "notebooks/geometry/orthogonal_fraction"),
    *("notebooks/geometry/mode_connectivity", "notebooks/geometry/cka"),
    "notebooks/evaluation/accuracy",
)


def prose_of(chapter: str) -> str:
    """The text of a chapter: of a notebook, all that its cells of prose hold."""
    if chapter.startswith("book/"):
        return (ROOT / f"{chapter}.md").read_text(encoding="utf-8")
    source = (ROOT / f"{chapter}.py").read_text(encoding="utf-8")
    cells = re.findall(r"^# %% \[markdown\].*\n((?:#.*\n?)+)", source, re.MULTILINE)
    return "\n\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in cells)


def losses() -> list[dict[str, Any]]:
    """Name, motto and formula of each loss, from its chapter; in the order of the book."""
    found = []
    for chapter in chapters():
        if chapter.startswith(METHODS):
            formula = re.search(r"^\$\$$.*?^\$\$ \(eq-[\w-]+\)$", prose_of(chapter), re.M | re.S)
            name, _, motto = title_of(chapter).partition(": ")
            if formula is None:
                raise ValueError(f"no formula: {chapter}: label the loss's with (eq-...)")
            made = Markup(fragment(formula[0], {}))
            found.append({"name": name, "motto": motto, "formula": made})
    return found


def weights() -> dict[str, Any]:
    """The table of weights: its title and its HTML."""
    for block in blocks(prose_of("book/objectives")):
        if isinstance(block, Directive) and block.options.get("name") == WEIGHTS:
            return {
                "title": Markup(heading(block.title, {})),
                "table": Markup(fragment(block.body, {})),
            }
    raise ValueError(f"no table {WEIGHTS}: book/objectives.md: name it so again")


def definitions() -> list[dict[str, Any]]:
    """Title and HTML of each definition of the chapters DEFINED."""
    return [
        {"title": Markup(heading(block.title, {})), "body": Markup(fragment(block.body, {}))}
        for chapter in DEFINED
        for block in blocks(prose_of(chapter))
        if isinstance(block, Directive) and block.name == "prf:definition"
    ]


def write(out: Path) -> Path:
    """Write the handout into the folder `out`; returns the path of its page."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(MATHJAX, out / "mathjax")
    page = environment().get_template("handout.html")
    text = page.render(losses=losses(), weights=weights(), defined=definitions(), math=macros())
    (out / "index.html").write_text(text, encoding="utf-8")
    return out / "index.html"


def main() -> int:
    print(
        f"The handout, two pages to print from a browser: {write(results() / 'read' / 'handout')}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
