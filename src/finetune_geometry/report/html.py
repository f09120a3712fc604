"""The templates of the pages that the package writes."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates() -> Environment:
    """What is put into a template is escaped, and a name that it lacks is an error."""
    return Environment(
        loader=PackageLoader("finetune_geometry.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
