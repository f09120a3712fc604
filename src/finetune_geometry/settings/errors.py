"""The one exception for what a person can mend, and the advice it gives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the person at the keyboard can mend. Message: "what: where: fix"."""


def closest(name: str, valid: Iterable[str]) -> str:
    """The advice of an error message: the valid names nearest to `name`, or all of them."""
    names = [str(valid_name) for valid_name in valid]
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "valid names: " + ", ".join(names)
