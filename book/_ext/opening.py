"""The ``opening`` directive: the figure that the book opens with, drawn when the book is rendered.

Each delta is an arrow from the base: its length is the delta's norm, its angle to the right is the
delta's angle to SFT. Both are exact. What is lost is the angle between two others: each delta lies
in a plane of its own through SFT, and these planes are laid on one another. On the page two others
are never further apart than in truth, and may be much nearer; the pair of which this is most true
is named below the picture.

Norms, cosines and chance come from ``explorables/arrows.json`` of the book's source folder, which
every run makes. The first paragraph of the content is the caption. It begins with its question in
bold; which losses lie on which side of the reshuffled SFT is put behind that. The other paragraphs
stand below the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from explorable import FOLDER, load_data
from opening_picture import (
    CONTROL,
    Arrow,
    arrows_of,
    most_squeezed,
    picture,
    sides_of,
)
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DATA = "arrows.json"
NEARER = "nearer to SFT than SFT is to itself on reshuffled rows"


def key(cell: Mapping[str, Any], arrows: Sequence[Arrow], chance: Sequence[float] | None) -> str:
    """What the marks mean and what is not to be read off, as a list in HTML."""
    swatches = {
        "opening-fan": '<path class="opening-fan" d="M 1 13 L 25 13 A 24 24 0 0 0 20 1 Z"/>',
        "opening-chance": '<path class="opening-chance" d="M 11 14 L 10 0 L 16 0 L 15 14 Z"/>',
        "opening-arc": '<path class="opening-arc" d="M 1 12 A 40 40 0 0 1 25 2"/>',
    }
    rows = [("opening-arc", "as long as SFT")]
    if chance:
        rows.insert(0, ("opening-chance", "chance: two random deltas"))
    if any(arrow.name == CONTROL for arrow in arrows):
        rows.insert(0, ("opening-fan", NEARER))
    items = [
        f'<li><svg viewBox="0 0 26 14" aria-hidden="true">{swatches[css]}</svg>{escape(text)}</li>'
        for css, text in rows
    ]
    one, two, true = most_squeezed(cell, arrows)
    items.append(
        "<li><strong>Angles to SFT are true, angles between two others are not:</strong> "
        f"{escape(one.label)} and {escape(two.label)} are {true:.0f}° apart and are drawn "
        f"{two.angle - one.angle:.0f}° apart.</li>"
    )
    return f'<ul class="opening-key">{"".join(items)}</ul>'


class Opening(SphinxDirective):
    """``{opening}`` with a caption; option `name`, as of a figure."""

    has_content = True
    option_spec = {"name": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / FOLDER / DATA
        self.env.note_dependency(str(path))
        made = load_data(path)
        cell = made["data"]["cells"][0] if made["data"] else {"names": []}
        arrows = arrows_of(cell, made.get("looks", {}))
        if len(arrows) < 3:
            text = "The run behind this copy of the book has no six deltas to draw here: "
            return [nodes.paragraph("", text, nodes.literal(text=f"{FOLDER}/{DATA}"))]
        holder = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, holder)
        first, *others = holder.children
        if not any(first.findall(nodes.strong)):
            raise self.error("opening: its caption begins with no question in bold: add one")
        caption = nodes.caption("", "", *first.children)
        if any(arrow.name == CONTROL for arrow in arrows):
            near, far = (", ".join(a.label for a in side) for side in sides_of(arrows))
            said = f" {NEARER[0].upper()}{NEARER[1:]}: {near or 'none'}. Further: {far or 'none'}."
            question = next(caption.findall(nodes.strong))
            caption.insert(caption.index(question) + 1, nodes.Text(said))
        if made["from_reference"]:
            caption += nodes.Text(" These arrows are the reference run's.")
        html = picture(arrows, cell["chance"]) + key(cell, arrows, cell["chance"])
        drawn = nodes.raw("", f'<div class="opening-drawn">{html}</div>', format="html")
        figure = nodes.figure("", drawn, caption, classes=["opening"])
        if others:
            figure += nodes.legend("", *others)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("opening", Opening)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
