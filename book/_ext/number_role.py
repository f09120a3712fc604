"""The ``number`` role: each number of a run that the prose quotes comes from ``numbers.json``.

``{number}`cosine.sft_rft``` shows the value as it is stored; ``{number}`cosine.sft_rft:.3f```
formats it with Python's format mini-language (``:.1%`` for percentages, ``:,`` for thousands). A
key that does not exist, a missing file and a format that does not fit are warnings, hence errors
in the strict build: the book cannot be built around a number that no run has produced.

The file is ``numbers.json`` in the source folder of the book, or the one that the environment
variable ``FINETUNE_GEOMETRY_NUMBERS`` names.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

ENVIRONMENT_VARIABLE = "FINETUNE_GEOMETRY_NUMBERS"
UNDEFINED = "not defined"

logger = logging.getLogger(__name__)


def numbers_path(source: str | Path) -> Path:
    """The file the numbers come from, for a book whose sources lie in ``source``."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or Path(source) / "numbers.json").resolve()


def load_numbers(path: Path) -> dict[str, Any]:
    """The content of ``path``; ``ValueError`` says what is wrong with it and what to do."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: execute the notebooks first (`make book`), or set "
            f"{ENVIRONMENT_VARIABLE}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): execute the notebooks again") from None
    if not isinstance(numbers, dict):
        raise ValueError(f"{path} is not a JSON object: execute the notebooks again")
    return numbers


def look_up(numbers: dict[str, Any], key: str) -> Any:
    """The value at ``key``; ``ValueError`` names the keys nearest to one that does not exist."""
    if key not in numbers:
        near = difflib.get_close_matches(key, numbers, n=3)
        advice = f": did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"no notebook has recorded {key!r}{advice}")
    return numbers[key]


def show(numbers: dict[str, Any], text: str) -> tuple[str, str]:
    """``key`` or ``key:format`` -> (key, the value in words).

    The items of a list are formatted one by one. null is a value that the run could not define (a
    cosine with a zero vector, say) and is shown as such.
    """
    key, _, spec = text.strip().partition(":")
    value = look_up(numbers, key)
    items = value if isinstance(value, list) else [value]
    try:
        shown = [UNDEFINED if item is None else format(item, spec) for item in items]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key!r} is {value!r}, which does not fit {spec!r} ({error})") from None
    return key, ", ".join(shown)


class NumberRole(SphinxRole):
    """Puts a number of the run into the text; hovering over it shows its key."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = numbers_path(self.env.srcdir)
        self.env.note_dependency(str(path))
        try:
            key, shown = show(load_numbers(path), self.text)
        except ValueError as error:
            logger.warning("number: %s", error, location=self.get_location(), type="number")
            return [nodes.strong(self.rawtext, f"[{self.text}]", classes=["number-missing"])], []
        return [
            nodes.abbreviation(self.rawtext, shown, classes=["number"], explanation=f"run: {key}")
        ], []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role("number", NumberRole())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
