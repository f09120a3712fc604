"""Measurements of repetitions as steps of the workflow.

The trainings of all repetitions together take hours. What was measured of one is small and ships
with the reference run, so a run need not repeat them to hold them side by side, and the reference
can be added to one repetition at a time.

Light, like jobs.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from shipped import ROOT
from trainings import ADAPTER_FILES, ROLLOUTS, training_outputs

from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.repetitions import Measurement
from finetune_geometry.settings.variation import Cell
from finetune_geometry.settings.variations import cells, variations

SCRIPT = ROOT / "workflow" / "measure_cell.py"


def cell_inputs(
    measurement: Measurement, chosen: Sequence[Cell], profile: Profile, modules: Sequence[Path]
) -> list[str]:
    """The script, its `modules`, the ledger, the rollouts, adapters and answers of these cells."""
    known = variations(profile)
    found = [*map(str, (SCRIPT, *modules, ROOT / "book" / "claims.yaml")), *ROLLOUTS]
    for cell in chosen:
        for adapter in measurement.adapters(cell):
            if adapter in known:
                found += training_outputs(known[adapter])
            else:
                found += [f"adapters/{adapter}/{file}" for file in ADAPTER_FILES]
        if cell.kind == "run":
            found.append("evaluation/predictions.parquet")
    return list(dict.fromkeys(found))


def cells_asked_for(asked: Collection[str], profile: Profile) -> set[str]:
    """Names of the repetitions among the words that a run was asked with."""
    return {cell.name for cell in cells(profile)} & {*asked}


def bundles(chosen: Sequence[Cell], profile: Profile) -> list[list[Cell]]:
    """The cells that one job measures, as many as it makes trainings."""
    size = profile.spread.per_job
    return [list(chosen[start : start + size]) for start in range(0, len(chosen), size)]
