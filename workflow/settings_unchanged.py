"""Whether a run has the settings of the reference run, as far as a notebook depends on them.

Light, like jobs.py: the workflow asks each time it plans.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cells import cells_asked_for, made_with
from jobs import Job
from shipped import REFERENCE, ROOT
from trainings import covers

from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.repetitions import MEASUREMENTS, Measurement
from finetune_geometry.settings.variation import Cell


def lineage(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The job, and all whose outputs it reads, directly or through one another."""
    found, waiting = [job], [job]
    while waiting:
        reads = set(waiting.pop().reads)
        new = [other for other in jobs if other not in found and reads & set(other.outputs)]
        found += new
        waiting += new
    return found


@functools.cache
def digest(model: str) -> str:
    """SHA-256 of the files of a model; of a hub id, which has none here, that of nothing."""
    files = sorted(path for path in (ROOT / model).glob("*") if path.suffix != ".md")
    content = b"".join(path.read_bytes() for path in files if path.is_file())
    return hashlib.sha256(content).hexdigest()


def digests(profile: Profile) -> dict[str, str]:
    """The digests of the profile's two models."""
    return {name: digest(name) for name in (profile.model.base, profile.model.teacher)}


def settings_of(profile: Profile) -> dict[str, Any]:
    """All that a run depends on: the values of the profile, and the models themselves."""
    found = {"profile": profile.flat(), "models": digests(profile)}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def shippable(job: Job) -> bool:
    """Whether the reference run has this chapter."""
    return job.shipped and (REFERENCE / job.outputs[1]).is_file()


def as_in_the_reference(job: Job, profile: Profile, jobs: Sequence[Job]) -> bool:
    """Whether all settings that the job, or what it reads, depends on are the reference run's."""
    parts = {part for other in lineage(job, jobs) for part in deciding(other)}
    return shippable(job) and settings_as_in_the_reference(parts, profile)


def deciding(job: Job) -> tuple[str, ...]:
    """The settings that a notebook's outputs depend on: read by itself, or behind its tables."""
    return (*job.settings, *(MEASUREMENTS[job.stem].settings if job.repeats else ()))


def cells_to_make(measurement: Measurement, asked: Collection[str], profile: Profile) -> list[Cell]:
    """The repetitions that a run measures for an executed chapter; of others the reference's show.

    A chapter that is asked for by name is made of the run's own; where a repetition is asked for by
    name, that one is.
    """
    return [
        cell
        for cell in measurement.cells(profile)
        if {measurement.name, cell.name} & {*asked}
        or not cell_ships(measurement, cell.name, profile, REFERENCE)
    ]


def cell_ships(measurement: Measurement, cell: str, profile: Profile, folder: Path) -> bool:
    """Whether the folder holds what was measured of a repetition, made with these settings."""
    files = [folder / output for output in measurement.outputs(cell)]
    if not all(path.is_file() for path in files):
        return False
    card = json.loads(files[-1].read_text(encoding="utf-8"))
    own = made_with(measurement, profile, digests(profile))
    return bool(card.get("made_with") == own)


def settings_as_in_the_reference(parts: Collection[str], profile: Profile) -> bool:
    """Whether the models and these sections or values are the reference run's."""
    path = REFERENCE / "settings.json"
    if not path.is_file():
        return False
    shipped, own = json.loads(path.read_text(encoding="utf-8")), settings_of(profile)
    keys = [
        key
        for key in {*shipped["profile"], *own["profile"]}
        if any(covers(part, key) for part in parts)
    ]
    missing = object()
    return shipped["models"] == own["models"] and all(
        shipped["profile"].get(key, missing) == own["profile"].get(key, missing) for key in keys
    )


def executed(asked: Collection[str], profile: Profile, jobs: Sequence[Job]) -> set[str]:
    """Stems of the notebooks that a run executes; the others it shows from the reference run.

    asked: stems, and names of repetitions. A chapter on repetitions is executed only then,
    whatever the settings; and one that reads such a chapter never reads another run's tables: what
    it reads is executed with it. Chapters are executed where a repetition of theirs is asked for.
    """
    repeated = cells_asked_for(asked, profile)
    asked = {*asked} | {
        job.stem
        for job in jobs
        if job.repeats and repeated & {c.name for c in MEASUREMENTS[job.stem].cells(profile)}
    }
    shown = {
        job.stem
        for job in jobs
        if shippable(job) and (job.repeats or as_in_the_reference(job, profile, jobs))
    }
    found = {job.stem for job in jobs} - (shown - {*asked})
    for job in jobs:
        if job.stem in asked and not as_in_the_reference(job, profile, jobs):
            found |= {other.stem for other in lineage(job, jobs)}
    return found
