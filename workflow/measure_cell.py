"""Measure repetitions of the six trainings for one of the chapters on them.

measure_cell.py PROFILE RUN CHAPTER CELL ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pandas as pd
import torch
from machine import digest, processor

from finetune_geometry.repetitions.causes import measure_causes
from finetune_geometry.repetitions.cells import write_cell
from finetune_geometry.repetitions.ledger import measure_spread
from finetune_geometry.repetitions.rays import measure_annealed, measure_ray
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.repetitions import MEASUREMENTS
from finetune_geometry.settings.variation import Cell

MEASURES: dict[str, Callable[[Run, Cell], dict[str, pd.DataFrame]]] = {
    "ray": measure_ray,
    "annealed": measure_annealed,
    "spread": measure_spread,
    "causes": measure_causes,
}


def main(profile: str, run: str, chapter: str, *names: str) -> None:
    this_run = Run.open(profile, run)
    torch.set_num_threads(this_run.profile.training.threads)
    measurement = MEASUREMENTS[chapter]
    known = {cell.name: cell for cell in measurement.cells(this_run.profile)}
    for name in names:
        if name not in known:
            raise UserError(f"no repetition {name!r}: {run or profile}: one of {', '.join(known)}")
        begun = time.perf_counter()
        tables = MEASURES[chapter](this_run, known[name])
        if {*tables} != {*measurement.tables}:
            raise RuntimeError(f"{chapter} gave {sorted(tables)}")
        write_cell(this_run, known[name], tables)
        card = {
            "processor": processor(),
            "seconds": round(time.perf_counter() - begun, 1),
            "adapters": {
                role: digest(this_run.adapter_dir(adapter))
                for role, adapter in known[name].adapters.items()
            },
        }
        this_run.write_json(f"cells/{name}/{chapter}.json", card)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
