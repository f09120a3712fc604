"""Where the further trainings of a run lie, and with which settings they are made."""

from __future__ import annotations

from pathlib import Path

from finetune_geometry.runs.records import Run
from finetune_geometry.settings.variation import Variation


def student_folder(run: Run, number: int) -> Path:
    """The further student `number` of the run."""
    return run.dir / "students" / str(number)


def open_variation(profile: str, run: Run, variation: Variation) -> Run:
    """The run with the settings of one further training; `profile` as it was opened with."""
    changes = dict(variation.changes)
    if variation.student:
        changes["model.base"] = str(student_folder(run, variation.student))
    return Run.open(profile, run.name, changes)
