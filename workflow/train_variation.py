"""Train one further adapter of a run (settings/variations.py) and let it answer the test problems.

train_variation.py PROFILE RUN NAME

With --student N the base model that further adapters start from is raised instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.methods.replay import replay, train_with_snapshots
from finetune_geometry.methods.training import trained
from finetune_geometry.models.pretraining import raise_student
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.variations import open_variation, student_folder
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.variations import ANSWERING, kind_of, students, variations


def main(profile: str, run: str, what: str, number: str = "") -> None:
    this_run = Run.open(profile, run)
    if what == "--student":
        folder = student_folder(this_run, int(number))
        seed = students(this_run.profile)[int(number)]
        raise_student(folder, this_run.profile.spread.student_problems, seed)
        return
    known = variations(this_run.profile)
    if what not in known:
        raise UserError(f"no training {what!r}: {Path(__file__).name}: one of {', '.join(known)}")
    chosen = known[what]
    changed = open_variation(profile, this_run, chosen)
    if chosen.replay:
        made = chosen.replay
        replay(changed, chosen.method, made.start, made.step, made.names)
    elif chosen.snapshots:
        train_with_snapshots(changed, chosen.method, what, chosen.snapshots)
    else:
        trained(changed, chosen.method, what)
    if kind_of(chosen) in ANSWERING:
        evaluate_models(changed, [what], beside=())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
