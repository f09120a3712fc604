"""What the interactive figures of a run show: `python -m finetune_geometry.report.explorables DIR`.

One file each, explorables/NAME.json in the run's folder DIR, made from its tables. In every file:

- `data`: what the figure's script reads; null where the run has no such table.
- `missing`: then, the table that it would come from.
- `from_reference`: whether the numbers are the reference run's, because the chapter is.
- `looks`: adapter -> label, colour, marker (as of matplotlib), whether its marks are hollow.
- `picture`: SVG text, what stands there where no script runs; empty where there are no data.

Those of the reference run ship in book/reference/explorables/ (workflow/reference.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from finetune_geometry.report.explorable_losses import line, ray, token
from finetune_geometry.report.explorable_tables import Found, Missing, is_from_reference, looks
from finetune_geometry.report.explorable_weights import arrows, depth, film
from finetune_geometry.runs.files import atomic_write

#: Name -> what makes it, and the chapters whose tables it is made of, the one it stands in first.
EXPLORABLES: dict[str, tuple[Callable[[Path], Found], tuple[str, ...]]] = {
    "arrows": (arrows, ("cosine", "principal_angles", "spread")),
    "depth": (depth, ("principal_angles", "cosine")),
    "line": (line, ("mode_connectivity",)),
    "film": (film, ("path",)),
    "ray": (ray, ("ray",)),
    "token": (token, ()),
}
DIGITS = 6  # significant ones: more than any figure shows


def explorable(run: Path, name: str) -> dict[str, Any]:
    """The content of one file."""
    make, _ = EXPLORABLES[name]
    try:
        data, names, picture = make(run)
    except Missing as missing:
        return {
            "data": None,
            "missing": str(missing),
            "from_reference": False,
            "looks": {},
            "picture": "",
        }
    return {
        "data": rounded(data),
        "missing": "",
        "from_reference": _borrowed(run, name),
        "looks": looks(names),
        "picture": picture,
    }


def _borrowed(run: Path, name: str) -> bool:
    """Whether the run shows the chapter that the figure stands in from the reference run."""
    return any(is_from_reference(run, chapter) for chapter in EXPLORABLES[name][1][:1])


def rounded(value: Any) -> Any:
    """The same, every float to DIGITS significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(inner) for inner in value]
    return value


def write_explorables(
    run: Path, out: Path, reference: Path | None = None, names: Iterable[str] = tuple(EXPLORABLES)
) -> None:
    """Write NAME.json of a run into `out`.

    reference: files of the reference run, for what this run shows from there without its tables.
    """
    for name in names:
        made = explorable(run, name)
        if made["data"] is None and reference and _borrowed(run, name):
            shipped = reference / f"{name}.json"
            if shipped.is_file():
                made = {**json.loads(shipped.read_text(encoding="utf-8")), "from_reference": True}
        with atomic_write(out / f"{name}.json") as file:
            json.dump(made, file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            file.write("\n")


if __name__ == "__main__":
    run = Path(sys.argv[1])
    write_explorables(run, run / "explorables", Path(sys.argv[2]) if len(sys.argv) > 2 else None)
