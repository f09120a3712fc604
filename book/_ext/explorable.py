"""The ``explorable`` directive: an interactive figure that works from a folder, without a network.

``{explorable} arrows`` puts the figure called so into a page: its question, a still picture, the
data for the script that replaces it, the folded answer. What is asked and answered stands in
``book/explorables.yaml``; data and picture in ``explorables/NAME.json`` of the book's source
folder, which the run makes (``finetune_geometry.report.explorables``). Where the run has no such
table, the figure says so. ``{explorable-list}`` lists them all with their questions and pages.

The data stand in the page itself and the scripts are plain ones: a browser that opened the page
from a folder loads neither data nor modules from beside it. Only pages with a figure load scripts.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

FOLDER = "explorables"  # of the shared asset, in the static files
TEXTS = Path(__file__).resolve().parents[1] / "explorables.yaml"
FIELDS = ("label", "page", "question", "answer", "not", "alt")

logger = logging.getLogger(__name__)


class explorable(nodes.General, nodes.Element):
    """Holds the question, the stage and the answer; attribute `name`."""


class stage(nodes.General, nodes.Element):
    """Where the script draws; attributes `name`, `html`."""


class folded(nodes.General, nodes.Element):
    """What a reader opens; attribute `summary`."""


def load_texts(path: Path = TEXTS) -> dict[str, dict[str, str]]:
    """The texts by name. Raises ValueError where a figure lacks one of FIELDS."""
    texts: dict[str, dict[str, str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, fields in texts.items():
        if missing := [field for field in FIELDS if not str(fields.get(field, "")).strip()]:
            raise ValueError(f"the explorable {name} has no {missing[0]}: {path}: add it")
    return texts


def load_data(path: Path) -> dict[str, Any]:
    """A data file; where there is none, what says that the run has no data."""
    if not path.is_file():
        return {"data": None, "missing": f"{FOLDER}/{path.name}", "picture": ""}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def stage_html(name: str, made: dict[str, Any], texts: dict[str, str]) -> str:
    """The still picture, and the data for the script; without data, a sentence that says so."""
    if made["data"] is None:
        return (
            '<p class="explorable-missing">The run behind this copy of the book has no data for '
            f"this figure: <code>{escape(made['missing'])}</code> was not made.</p>"
        )
    data = json.dumps(
        {key: made[key] for key in ("data", "looks", "from_reference")},
        ensure_ascii=False,
        separators=(",", ":"),
    ).replace("</", "<\\/")
    return (
        f'<div class="explorable-still">{made["picture"]}'
        f"<p>{escape(texts['alt'])} "
        '<span class="explorable-live">Where scripts run, this picture can be played with.</span>'
        "</p></div>"
        f'<script type="application/json" id="explorable-data-{name}">{data}</script>'
    )


class ExplorableDirective(SphinxDirective):
    """``{explorable} NAME``; no content, no options."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        texts = load_texts()
        path = Path(self.env.srcdir) / FOLDER / f"{name}.json"
        self.env.note_dependency(str(TEXTS))
        self.env.note_dependency(str(path))
        if name not in texts:
            logger.warning(
                "explorable: no figure %r: one of %s", name, ", ".join(texts),
                location=self.get_location(),
            )  # fmt: skip
            return []
        words, made = texts[name], load_data(path)
        box = explorable("", name=name, label=words["label"], ids=[f"explorable-{name}"])
        box += parsed(self, words["question"], "explorable-question")
        box += stage("", name=name, html=stage_html(name, made, words))
        box += parsed(self, words["not"], "explorable-not")
        if made["data"] is not None:  # an answer quotes numbers that another run may not have
            answer = folded("", summary="Answer")
            answer += parsed(self, words["answer"])
            box += answer
        return [box]


def parsed(directive: SphinxDirective, text: str, css: str = "") -> list[nodes.Node]:
    """MyST text as paragraphs, each of this class."""
    holder = nodes.Element()
    lines = StringList(text.splitlines(), str(TEXTS))
    directive.state.nested_parse(lines, directive.content_offset, holder)
    for paragraph in holder.children:
        if css and isinstance(paragraph, nodes.Element):
            paragraph["classes"].append(css)
    return holder.children


class ExplorableList(SphinxDirective):
    """``{explorable-list}``: every figure with its question and a link to it."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(TEXTS))
        made = nodes.bullet_list()
        for name, words in load_texts().items():
            # Relative to the page of the list, which lies one folder below the root.
            address = f"../{words['page']}.html#explorable-{name}"
            link = nodes.reference("", words["label"], refuri=address, internal=True)
            item = nodes.list_item("", nodes.paragraph("", "", link))
            item += parsed(self, words["question"])
            made += item
        return [made]


def visit_box(self: Any, node: nodes.Element) -> None:
    label = escape(node["label"])
    self.body.append(
        f'<section class="explorable" id="{node["ids"][0]}" data-explorable="{node["name"]}" '
        f'aria-label="Interactive figure: {label}"><p class="explorable-label">{label}</p>'
    )


def depart_box(self: Any, node: nodes.Element) -> None:
    self.body.append("</section>")


def visit_stage(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="explorable-stage">{node["html"]}</div>')
    raise nodes.SkipNode


def visit_folded(self: Any, node: nodes.Element) -> None:
    self.body.append(f"<details><summary>{escape(node['summary'])}</summary>")


def depart_folded(self: Any, node: nodes.Element) -> None:
    self.body.append("</details>")


#: In the order in which they are loaded.
SCRIPTS = (
    *("d3.min.js", "frame.js", "weights.js"),
    *("arrows.js", "depth.js", "line.js", "ray.js", "token.js", "film.js", "start.js"),
)


def load_scripts(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """The scripts of the figures, on pages that have one."""
    if doctree is not None and any(True for _ in doctree.findall(explorable)):
        for name in SCRIPTS:
            app.add_js_file(f"{FOLDER}/{name}", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("explorable", ExplorableDirective)
    app.add_directive("explorable-list", ExplorableList)
    app.add_node(explorable, html=(visit_box, depart_box))
    app.add_node(stage, html=(visit_stage, None))
    app.add_node(folded, html=(visit_folded, depart_folded))
    app.add_css_file(f"{FOLDER}/explorables.css")
    app.connect("html-page-context", load_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
