"""Train one further adapter of a run (settings/variations.py) and let it answer the test problems.

train_variation.py PROFILE RUN NAME

With --student N the base model that further adapters start from is raised instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.methods.training import trained
from finetune_geometry.models.pretraining import raise_student
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.variations import open_variation, student_folder
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.variations import students, variations


def main(profile: str, run: str, what: str, number: str = "") -> None:
    this_run = Run.open(profile, run)
    if what == "--student":
        spread, chosen = this_run.profile.spread, int(number)
        folder = student_folder(this_run, chosen)
        raise_student(folder, spread.student_problems, students(this_run.profile)[chosen])
        return
    known = variations(this_run.profile)
    if what not in known:
        raise UserError(f"no training {what!r}: {Path(__file__).name}: one of {', '.join(known)}")
    changed = open_variation(profile, this_run, known[what])
    trained(changed, known[what].method, what)
    evaluate_models(changed, [what], beside=())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
