"""Measurements of repetitions as steps of the workflow.

The trainings of all repetitions together take hours. What was measured of one is small and ships
with the reference run, so a run need not repeat them to hold them side by side, and the reference
can be added to one repetition at a time.

Light, like jobs.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from origins import sha256_of
from shipped import ROOT
from trainings import ADAPTER_FILES, ROLLOUTS, covered, training_outputs

from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.repetitions import Measurement
from finetune_geometry.settings.sections import WRITING
from finetune_geometry.settings.variation import Cell
from finetune_geometry.settings.variations import cells, variations

SCRIPT = ROOT / "workflow" / "measure_cell.py"
REPETITIONS = ROOT / "src" / "finetune_geometry" / "repetitions"


def maker_of(measurement: Measurement) -> Path:
    """The module that makes it."""
    return REPETITIONS / f"{measurement.maker.partition('.')[0]}.py"


def made_with(
    measurement: Measurement, profile: Profile, models: Mapping[str, str]
) -> dict[str, object]:
    """What decides the tables of a cell: its card says it, and another run compares.

    models: digests of the profile's models. Values that decide nothing here are left out.
    """
    written = {f"training.{name}" for name in WRITING} - {*measurement.settings}
    found = covered(measurement.settings, profile)
    values = {key: value for key, value in found.items() if key not in written}
    files = {file: sha256_of(ROOT / file) for file in measurement.files}
    plain: dict[str, object] = json.loads(json.dumps({**values, **models, **files}))
    return plain


def cell_inputs(
    measurement: Measurement, chosen: Sequence[Cell], profile: Profile, modules: Sequence[Path]
) -> list[str]:
    """The script, the `modules` it uses, tracked files; rollouts, adapters and answers."""
    known = variations(profile)
    files = [SCRIPT, *modules, *(ROOT / file for file in measurement.files)]
    # The base answers once, with the run's own six.
    found = [*map(str, files), *ROLLOUTS, "evaluation/predictions.parquet"]
    for cell in chosen:
        for adapter in measurement.adapters(cell):
            if adapter in known:
                found += training_outputs(known[adapter])
            else:
                found += [f"adapters/{adapter}/{file}" for file in ADAPTER_FILES]
    return list(dict.fromkeys(found))


def cells_asked_for(asked: Collection[str], profile: Profile) -> set[str]:
    """Names of the repetitions among the words that a run was asked with."""
    return {cell.name for cell in cells(profile)} & {*asked}


def bundles(chosen: Sequence[Cell], profile: Profile) -> list[list[Cell]]:
    """The cells that one job measures, as many as it makes trainings."""
    size = profile.spread.per_job
    return [list(chosen[start : start + size]) for start in range(0, len(chosen), size)]
