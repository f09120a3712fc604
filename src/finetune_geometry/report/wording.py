"""Numbers, counts and lists of names as sentences hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def number(value: float) -> str:
    """A number near 0 to read: three decimals, or two digits if that would leave fewer."""
    if abs(value) < 1e-9:
        return "0"
    if abs(value) < 0.01:
        return np.format_float_positional(value, precision=2, fractional=False, trim="-")
    return f"{value:.3f}"


def percent(share: float) -> str:
    """A share of 0 to 1 to read: "38 %", and never 0 or 100 for what is neither."""
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.995 <= share < 1 - 1e-9:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def spread(values: Sequence[float]) -> str:
    """Percentages of several adapters: one if they agree within 5 points, else from and to."""
    low, high = min(values), max(values)
    if high - low < 0.05:
        return percent(float(np.mean(values)))
    return f"{100 * low:.0f} to {percent(high)}"


def count(n: int, what: str) -> str:
    """ "1 tensor", "2 tensors"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """ "a, b and c"; of more than `most` names the first ones and how many more."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def base_text(name: str) -> str:
    """The base model as a page names it: of a local path, which is nobody's business, the end."""
    path = Path(printable(name))
    return "/".join(path.parts[-2:]) if path.is_absolute() else str(path)


def printable(name: str) -> str:
    """A stranger's file may hold any name, and a terminal obeys what cannot be printed."""
    return "".join(filter(str.isprintable, name))
