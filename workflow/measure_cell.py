"""Measure repetitions of the six trainings for one of the chapters on them.

measure_cell.py PROFILE RUN CHAPTER CELL ...
"""

from __future__ import annotations

import importlib
import sys
import time

import torch
from cells import made_with
from origins import processor, sha256_of
from settings_unchanged import digests
from trainings import ADAPTER_FILES

from finetune_geometry.repetitions.cells import parts_of, write_cell
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.repetitions import MEASUREMENTS


def main(profile: str, run: str, chapter: str, *names: str) -> None:
    this_run = Run.open(profile, run)
    torch.set_num_threads(this_run.profile.training.threads)
    measurement = MEASUREMENTS[chapter]
    module, _, function = measurement.maker.partition(".")
    measure = getattr(importlib.import_module(f"finetune_geometry.repetitions.{module}"), function)
    known = {cell.name: cell for cell in measurement.cells(this_run.profile)}
    for name in names:
        if name not in known:
            raise UserError(f"no repetition {name!r}: {run or profile}: one of {', '.join(known)}")
        begun = time.perf_counter()
        tables = measure(this_run, known[name])
        if {*tables} != {*measurement.tables}:
            raise RuntimeError(f"{chapter} gave {sorted(tables)}")
        write_cell(this_run, known[name], tables)
        card = {
            "processor": processor(),
            "seconds": round(time.perf_counter() - begun, 1),
            "adapters": {
                role: sha256_of(this_run.adapter_dir(adapter) / ADAPTER_FILES[0])
                for role, adapter in known[name].adapters.items()
            },
            "made_with": made_with(measurement, this_run.profile, digests(this_run.profile)),
        }
        this_run.write_json(f"cells/{name}/{chapter}.json", card)
        Parts(this_run, parts_of(chapter, known[name]), None).clear()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
