"""What a browser leaves undone in the PDF of a book: for `make pdf` (pdf.py).

Bookmarks are folded below the chapters, formulas are tagged as formulas, and the author is named.
What changes is appended to the file; the rest stays as the browser wrote it.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import Any

from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, NumberObject


def pages_of(data: bytes) -> dict[str, int]:
    """On which page, counted from 1, each anchor stands that is the target of a link."""
    reader = PdfReader(io.BytesIO(data))
    numbers = {page.indirect_reference.idnum: n for n, page in enumerate(reader.pages, 1)}
    return {
        name.removeprefix("/"): numbers[target.raw_get("/Page").idnum]
        for name, target in reader.named_destinations.items()
    }


def marked(data: bytes, author: str, formulas: Collection[str]) -> bytes:
    """The PDF with its marks completed. formulas: their texts, TeX, which are their tags' /Alt."""
    writer = PdfWriter(io.BytesIO(data), incremental=True)
    root = writer.root_object
    root[NameObject("/PageMode")] = NameObject("/UseOutlines")
    outline = root["/Outlines"].get_object()
    parts = list(_entries(outline))
    # /Count: how many entries show below an open one; negative for one that is folded.
    for part in parts:
        for chapter in _below(part):
            if inside := len(list(_entries(chapter))):
                chapter[NameObject("/Count")] = NumberObject(-inside)
        if inside := len(list(_entries(part))):
            part[NameObject("/Count")] = NumberObject(inside)
    shown = len(parts) + sum(len(list(_entries(part))) for part in parts)
    outline[NameObject("/Count")] = NumberObject(shown)
    for element in tags(root["/StructTreeRoot"]):
        if element.get("/S") == "/Figure" and element.get("/Alt") in formulas:
            element[NameObject("/S")] = NameObject("/Formula")
    writer.add_metadata({"/Author": author})
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def _entries(parent: Any) -> Iterator[Any]:
    """The bookmarks directly below one."""
    entry = parent.get("/First")
    while entry is not None:
        entry = entry.get_object()
        yield entry
        entry = entry.get("/Next")


def _below(parent: Any) -> Iterator[Any]:
    for entry in _entries(parent):
        yield entry
        yield from _below(entry)


def tags(tree: Any) -> Iterator[Any]:
    """Every element of the tree of tags."""
    waiting = [tree.get_object()]
    while waiting:
        element = waiting.pop()
        yield element
        inside = element.get("/K", [])
        inside = inside.get_object() if hasattr(inside, "get_object") else inside
        inside = inside if isinstance(inside, list) else [inside]
        found = [part.get_object() if hasattr(part, "get_object") else part for part in inside]
        waiting += [part for part in found if isinstance(part, dict)]
