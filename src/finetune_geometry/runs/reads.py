"""Which values of the profile a notebook reads: the check of what workflow/jobs.py declares.

Off unless $FINETUNE_GEOMETRY_READS names a folder. Then `Run.open` hands out a profile that notes
every value read, and `Run.record`, the end of every notebook, writes their dotted names there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Training

Section = TypeVar("Section")

#: Dotted names read by this process. A notebook is one process, and may open several runs.
READ: set[str] = set()


def watched(profile: Profile) -> Profile:
    """`profile` itself, or one of the same values that notes in READ which of them are read.

    A value of `training_of(method)` hangs on `training` and on `methods.<method>`, so both count.
    """
    if not os.environ.get("FINETUNE_GEOMETRY_READS"):
        return profile
    known = profile.flat().keys()

    class Watched(Profile):
        def training_of(self, method: str) -> Training:
            return _watch(profile.training_of(method), ("training", f"methods.{method}"), known)

    parts: dict[str, Any] = dict(vars(profile))
    for name, part in vars(profile).items():
        if dataclasses.is_dataclass(part):
            parts[name] = _watch(part, (name,), known)
        elif isinstance(part, Mapping):
            parts[name] = {key: _watch(p, (f"{name}.{key}",), known) for key, p in part.items()}
    return Watched(**parts)


def _watch(section: Section, prefixes: tuple[str, ...], known: Collection[str]) -> Section:
    """A copy of a dataclass: reading a field, or `vars` of it, adds `<prefix>.<field>` to READ.

    Of a field that holds named values all are noted; a section within it is watched in its turn.
    """
    kind = type(section)
    names: dict[str, set[str]] = {}
    parts = dict(vars(section))
    for field, value in vars(section).items():
        inside = tuple(f"{prefix}.{field}" for prefix in prefixes)
        if dataclasses.is_dataclass(value):
            parts[field] = _watch(value, inside, known)
        else:
            names[field] = {
                key for key in known for part in inside if f"{key}.".startswith(f"{part}.")
            }

    def read(self: Any, name: str) -> Any:
        READ.update(names.get(name, ()))
        if name == "__dict__":
            READ.update(*names.values())
        return object.__getattribute__(self, name)

    copy: Section = type(kind.__name__, (kind,), {"__getattribute__": read})(**parts)
    return copy


def write(section: str) -> None:
    """Write the names read so far to `<section>.json`, if reads are asked for."""
    folder = os.environ.get("FINETUNE_GEOMETRY_READS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(sorted(READ), indent=1) + "\n"
        (Path(folder) / f"{section}.json").write_text(text, encoding="utf-8")
