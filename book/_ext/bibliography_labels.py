"""A bibliography whose entries carry the labels that the text cites them by: "Hu et al., 2022".

The extension for citations prints author and year in the text, but numbers the list. This is the
style `author_year` for the list: entries by author and year, those of one author and year with a
letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pybtex.database import Entry, Person
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx

AUTHORS = 2  # named at most; of more only the first, "et al."


class AuthorYear(BaseLabelStyle):  # type: ignore[misc]  # the package has no types
    """Labels as the text has them."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        labels = [label_of(entry) for entry in sorted_entries]
        alike, seen = Counter(labels), Counter[str]()
        for label in labels:
            seen[label] += 1
            yield label + (chr(ord("a") + seen[label] - 1) if alike[label] > 1 else "")


class Style(Plain):  # type: ignore[misc]
    """Plain entries, in the order of their authors and years, with these labels."""

    default_label_style = AuthorYear


def label_of(entry: Entry) -> str:
    """The names and the year of an entry; its key where it has no author."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [surname(person) for person in people]
    if len(names) > AUTHORS:
        names = [f"{names[0]} et al."]
    return ", ".join(filter(None, [" and ".join(names) or entry.key, entry.fields.get("year", "")]))


def surname(person: Person) -> str:
    """A last name with its particle; accents and braces of LaTeX are read."""
    return str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))


def setup(app: Sphinx) -> dict[str, Any]:
    register_plugin("pybtex.style.formatting", "author_year", Style)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
