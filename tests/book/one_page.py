"""Renders a book of one page in this process, for the tests of the extensions in book/_ext."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from conftest import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace


def render_page(source: Path, extensions: Sequence[str], **settings: Any) -> tuple[str, str]:
    """The HTML of source/index.md, and the warnings that the build gave.

    What extensions register in docutils is taken back, so that a second build is like the first.
    """
    warnings = io.StringIO()
    html = source.with_name("html")
    with docutils_namespace():
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=html,
            doctreedir=source.with_name("doctrees"),
            buildername="html",
            confoverrides={"extensions": ["myst_parser", *extensions], **settings},
            status=None,
            warning=warnings,
            freshenv=True,
        )
        app.build()
    return (html / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


def load_extension(name: str) -> ModuleType:
    """An extension of book/_ext, which is no package; one may import another."""
    folder = str(ROOT / "book" / "_ext")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
