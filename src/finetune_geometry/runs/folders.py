"""Where the checkout lies, and where runs are kept."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from finetune_geometry.settings.errors import UserError


def project_root() -> Path:
    """The checkout: where pyproject.toml of this package lies, above this file or above here."""
    for folder in (
        *Path(__file__).resolve().parents,
        *Path.cwd().resolve().parents,
        Path.cwd(),
    ):
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file():
            project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
            if project.get("name") == "finetune-geometry":
                return folder
    raise UserError(f"no checkout of this project: {Path.cwd()}: work inside a clone of it")


def results_root() -> Path:
    """Where runs are kept: $FINETUNE_GEOMETRY_RESULTS, or results/ in the checkout."""
    chosen = os.environ.get("FINETUNE_GEOMETRY_RESULTS")
    return Path(chosen).resolve() if chosen else project_root() / "results"
