"""Keeps every page readable without a network: takes sphinx-thebe's traces out of the pages.

Jupyter Book always loads sphinx-thebe, which writes a remote script's address and a configuration
into every page, although no page of this book starts a kernel. Nothing else points outside.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

MARKS = ("thebe", "kernelName")


def drop_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Takes thebe's scripts out of the head of a page."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
    ]


def drop_nodes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Takes thebe's configuration out of the body of a page; it stands at the very end."""
    while isinstance(doctree.children[-1], nodes.raw) and any(
        mark in doctree.children[-1].astext() for mark in MARKS
    ):
        doctree.pop()


def setup(app: Sphinx) -> dict[str, Any]:
    # Late, so that they run after the handlers that add what is removed here.
    app.connect("doctree-resolved", drop_nodes, priority=900)
    app.connect("html-page-context", drop_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
