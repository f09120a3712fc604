"""What a finished run left, as far as two runs can be held against each other.

Only files that are finished are read, and nothing is written into a run's folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.folders import project_root, results_root
from finetune_geometry.settings.errors import UserError, closest

SETTINGS = ("profile.", "run.")  # of the names in numbers.json: what was asked for
MARK = "from_reference"  # the number by which a chapter says that it is another run's


@dataclass(frozen=True)
class Figure:
    """One picture of an executed notebook. image: a PNG in base64; alt: its words."""

    notebook: str
    image: str
    alt: str


@dataclass(frozen=True)
class FinishedRun:
    """A run's name and folder, and what is compared of it."""

    name: str
    folder: Path
    numbers: Mapping[str, Any]
    claims: pd.DataFrame | None  # None: the run has no ledger
    adapters: Mapping[str, str]  # name: SHA-256 of its weights
    figures: Mapping[str, Figure]  # by the figure's name

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, by dotted names as in a profile; the profile's name is `profile`."""
        plain = {k.removeprefix("profile."): v for k, v in self.numbers.items()}
        found = {k: plain[k] for k in plain if f"profile.{k}" in self.numbers}
        return {"profile": self.numbers.get("run.profile"), **found}

    @property
    def measured(self) -> dict[str, Any]:
        """What was found: all numbers that are no settings."""
        return {
            key: value
            for key, value in self.numbers.items()
            if not key.startswith(SETTINGS) and not key.endswith(f".{MARK}")
        }

    @property
    def borrowed(self) -> list[str]:
        """Chapters that this run shows from the reference run, by the stems of their names."""
        return sorted(key.removesuffix(f".{MARK}") for key in self.numbers if key.endswith(MARK))


def open_finished(name: str) -> FinishedRun:
    """The run `name` of results/, or the one in the folder of that path.

    Raises UserError if there is none, or if it is not finished.
    """
    folder = Path(name) if "/" in name else results_root() / name
    if not name or not folder.is_dir():
        raise UserError(f"no run {name!r}: {folder.parent}: {_advice(name, folder.parent)}")
    path = folder / "numbers.json"
    if not path.is_file():
        advice = f"let this run finish first: make book RUN={folder.name}"
        raise UserError(f"no numbers: {folder}: {advice}")
    claims = folder / "claims.csv"
    return FinishedRun(
        name=folder.resolve().name,
        folder=folder,
        numbers=_numbers(path),
        claims=read_csv(claims) if claims.is_file() else None,
        adapters=_adapters(folder / "adapters"),
        figures=_figures(folder / "notebooks"),
    )


def chapter_order() -> list[str]:
    """Stems of the notebooks, in the order of the book."""
    toc = yaml.safe_load((project_root() / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(name).name for name in files if name.startswith("notebooks/")]


def _advice(name: str, parent: Path) -> str:
    there = sorted(path.parent.name for path in parent.glob("*/numbers.json"))
    if not there:
        return "make one first: make book"
    return closest(Path(name).name, there)


def _numbers(path: Path) -> dict[str, Any]:
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        numbers = None
    if not isinstance(numbers, dict):
        raise UserError(f"not a run's numbers: {path}: delete it and type make book again")
    return numbers


def _adapters(folder: Path) -> dict[str, str]:
    found = {}
    for weights in sorted(folder.glob("*/adapter_model.safetensors")):
        if not weights.parent.name.startswith("."):  # half-written by a killed run
            with open(weights, "rb") as file:
                found[weights.parent.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _figures(folder: Path) -> dict[str, Figure]:
    """Pictures by name. One that its cell did not draw has none, and is left out."""
    found = {}
    for path in sorted(folder.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        name = path.relative_to(folder).with_suffix("").as_posix()
        for cell in notebook["cells"]:
            told = cell["metadata"].get("mystnb", {})
            images = [
                output["data"]["image/png"]
                for output in cell.get("outputs", [])
                if "image/png" in output.get("data", {})
            ]
            if "figure" in told and images:
                # A picture is kept in lines, or in one.
                image = base64.b64encode(base64.b64decode("".join(images[0]))).decode()
                alt = told.get("image", {}).get("alt", "")
                found[told["figure"]["name"]] = Figure(name, image, alt)
    return found
