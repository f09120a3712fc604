"""Make further trainings of a run (settings/variations.py), and let them answer the test problems.

train_variation.py PROFILE RUN NAME ...

With --student N the base model that further adapters start from is raised instead.
"""

from __future__ import annotations

import sys

from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.methods.replay import replay
from finetune_geometry.methods.training import trained
from finetune_geometry.models.pretraining import raise_student
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.variations import open_variation, student_folder
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.variation import Variation
from finetune_geometry.settings.variations import (
    ANSWERING,
    kind_of,
    students,
    variations,
)


def main(profile: str, run: str, *what: str) -> None:
    this_run = Run.open(profile, run)
    if what[0] == "--student":
        number = int(what[1])
        seed = students(this_run.profile)[number]
        folder = student_folder(this_run, number)
        raise_student(folder, this_run.profile.spread.student_problems, seed)
        return
    known = variations(this_run.profile)
    for name in what:
        if name not in known:
            raise UserError(f"no training {name!r}: {run or profile}: one of {', '.join(known)}")
        make(profile, this_run, known[name])


def make(profile: str, run: Run, chosen: Variation) -> None:
    """One training, or one replay."""
    changed = open_variation(profile, run, chosen)
    if chosen.replay:
        made = chosen.replay
        replay(changed, chosen.method, made.step, made.names)
    else:
        trained(changed, chosen.method, chosen.name)
    if kind_of(chosen) in ANSWERING:
        evaluate_models(changed, [chosen.name], beside=())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
