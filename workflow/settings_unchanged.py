"""Whether a run has the settings of the reference run, as far as a notebook depends on them.

Light, like jobs.py: the workflow asks each time it plans.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from jobs import Job, covers
from shipped import REFERENCE, ROOT

from finetune_geometry.settings.profiles import Profile


def lineage(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The job, and all whose outputs it reads, directly or through one another."""
    found, waiting = [job], [job]
    while waiting:
        reads = set(waiting.pop().reads)
        new = [other for other in jobs if other not in found and reads & set(other.outputs)]
        found += new
        waiting += new
    return found


def digests(profile: Profile) -> dict[str, str]:
    """SHA-256 of the files of the profile's two models; a hub id has none."""
    found = {}
    for name in (profile.model.base, profile.model.teacher):
        files = sorted(path for path in (ROOT / name).glob("*") if path.suffix != ".md")
        content = b"".join(path.read_bytes() for path in files if path.is_file())
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def settings_of(profile: Profile) -> dict[str, Any]:
    """All that a run depends on: the values of the profile, and the models themselves."""
    found = {"profile": profile.flat(), "models": digests(profile)}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def as_in_the_reference(job: Job, profile: Profile, jobs: Sequence[Job]) -> bool:
    """Whether all settings that the job, or what it reads, depends on are the reference run's."""
    path = REFERENCE / "settings.json"
    if not (job.shipped and path.is_file()):
        return False
    shipped, own = json.loads(path.read_text(encoding="utf-8")), settings_of(profile)
    parts = {part for other in lineage(job, jobs) for part in other.settings}
    keys = [
        key
        for key in {*shipped["profile"], *own["profile"]}
        if any(covers(part, key) for part in parts)
    ]
    missing = object()
    return shipped["models"] == own["models"] and all(
        shipped["profile"].get(key, missing) == own["profile"].get(key, missing) for key in keys
    )
