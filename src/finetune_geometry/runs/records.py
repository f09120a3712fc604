"""Runs and what they leave behind: folders, atomic writes, tables, and the numbers of the prose.

All outputs of a run lie under `results/<run>/`, so that a run never touches a tracked file. A file
appears under its name only when it is whole (see `files`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.runs import reads
from finetune_geometry.runs.files import (
    atomic_write,
    read_csv,
    sweep,
    write_csv,
)
from finetune_geometry.runs.folders import results_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import PINS
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile, load_profile, parse_overrides
from finetune_geometry.settings.revisions import LOCK, locked
from finetune_geometry.settings.schema import dotted


class Run:
    """One run of the project: a profile and the folder that its outputs go to."""

    def __init__(self, name: str, directory: Path, profile: Profile) -> None:
        self.name = name
        self.dir = directory
        self.profile = profile

    @classmethod
    def open(cls, profile: str, run: str = "", overrides: Mapping[str, Any] | None = None) -> Run:
        """The run `run` (empty: named as the profile) of `profile`, created when it is new.

        A run belongs to one profile: another one is refused, for it would mix two experiments.

        `overrides` are dotted names, {"methods.dpo.learning_rate": 1e-3}; one that is None means
        the profile's own value. $FINETUNE_GEOMETRY_SET holds those of the whole workflow.

        What killed processes left in the run's folder is cleared up (`files.sweep`).
        """
        chosen: dict[str, Any] = dict(parse_overrides(os.environ.get("FINETUNE_GEOMETRY_SET", "")))
        chosen |= {key: value for key, value in (overrides or {}).items() if value is not None}
        loaded = load_profile(profile, chosen)
        name = run or loaded.name
        if Path(name).name != name or name.startswith("."):
            raise UserError(
                f"run {name!r}: not a folder's name: RUN, run: use letters, digits, '-' and '_'"
            )
        directory = results_root() / name
        directory.mkdir(parents=True, exist_ok=True)
        made_with = directory / "profile.txt"
        if not made_with.exists():
            with atomic_write(made_with) as file:
                file.write(f"{loaded.name}\n")
        elif (before := made_with.read_text(encoding="utf-8").strip()) != loaded.name:
            raise UserError(
                f"run {name!r} was made with profile {before!r}, not {loaded.name!r}: {directory}: "
                "give that profile, or another name for the run"
            )
        for folder, inside, _ in os.walk(directory):
            sweep(Path(folder))
            inside[:] = [name for name in inside if name != "html" and not name.startswith(".")]
        return cls(name, directory, reads.watched(locked(loaded, directory)))

    def fix_revisions(self, commits: Mapping[str, str]) -> None:
        """Note the commits of repositories that the profile leaves open, in the file LOCK.

        commits: repository to commit. Every later step of the run reads them there.
        """
        values = self.profile.flat()
        notes = {
            key: {"repo": values[key], "commit": commits[values[key]]}
            for key, (revision, _) in PINS.items()
            if values[key] in commits and not values[revision]
        }
        if notes:
            before = self.read_json(LOCK) if (self.dir / LOCK).is_file() else {}
            self.write_json(LOCK, {**before, **notes})

    def path(self, relative: str | Path) -> Path:
        """A path inside the run's folder; the folders above it are made."""
        path = self.dir / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_table(self, relative: str, table: pd.DataFrame) -> Path:
        """Write a table, .csv or .parquet by its suffix; `read_table` gives it back exactly."""
        path = self.path(relative)
        if path.suffix == ".parquet":
            with atomic_write(path, "wb") as file:
                table.to_parquet(file, index=False)
        else:
            write_csv(path, table)
        return path

    def read_table(self, relative: str) -> pd.DataFrame:
        path = self._existing(relative)
        return pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)

    def write_json(self, relative: str, value: Any) -> Path:
        path = self.path(relative)
        with atomic_write(path) as file:
            json.dump(_plain(value), file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        return path

    def read_json(self, relative: str) -> Any:
        return json.loads(self._existing(relative).read_text(encoding="utf-8"))

    def record(self, section: str, values: Mapping[str, Any]) -> None:
        """Keep the numbers that a notebook's prose quotes, as `section.key` in numbers.json.

        A nested mapping adds one part to the name: {"cosine": {"sft_rft": 0.9}} is quoted as
        `section.cosine.sft_rft`. A value that is not finite is kept as null.
        """
        self.write_json(f"numbers/{section}.json", values)
        reads.write(section)

    def merge_numbers(self) -> Path:
        """numbers.json: what every notebook recorded, and the profile as `profile.section.key`."""
        numbers: dict[str, Any] = {
            "run.name": self.name,
            "run.profile": self.profile.name,
        }
        numbers |= {f"profile.{key}": value for key, value in self.profile.flat().items()}
        for path in sorted((self.dir / "numbers").glob("*.json")):
            section = json.loads(path.read_text(encoding="utf-8"))
            numbers |= dict(dotted(section, path.stem))
        return self.write_json("numbers.json", dict(sorted(numbers.items())))

    def adapter_dir(self, name: str) -> Path:
        return self.dir / "adapters" / name

    def adapter_names(self) -> list[str]:
        """Adapters that are there and whole: the six methods in their order, then the others."""
        folders = (self.dir / "adapters").glob("*/adapter_model.safetensors")
        found = sorted(p.parent.name for p in folders if not p.parent.name.startswith("."))
        order = list(METHODS)
        return sorted(found, key=lambda n: order.index(n) if n in order else len(order))

    def _existing(self, relative: str) -> Path:
        path = self.dir / relative
        if not path.is_file():
            maker = _maker(relative)
            raise UserError(
                f"missing {relative}: {self.dir}: run notebooks/{maker} for this run first, "
                "or `make book`"
            )
        return path


def _maker(relative: str) -> str:
    """The notebook that writes a file of the run (the table of the design, read backwards)."""
    folder, _, rest = relative.partition("/")
    stem = Path(relative).stem
    if relative.startswith("adapters/sft-order/"):
        return "controls/reshuffled"
    if stem == "predicted_cosine":
        return "geometry/cosine"
    makers = {
        "rollouts": "ingredients/rollouts",
        "adapters": f"methods/{rest.partition('/')[0]}",
        "geometry": f"geometry/{stem}",
        "evaluation": "evaluation/accuracy",
    }
    return makers.get(folder, "evaluation/verdict")


def _plain(value: Any) -> Any:
    """`value` in JSON's types; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
