"""Which repositories a profile needs from a hub, and the commit that each is fixed at.

A profile pins its commits. Where it leaves one empty, `finetune-geometry prefetch` takes the
newest commit once and notes it in the run's folder, in LOCK; every later step reads it there.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import PINS, RELEASED_FILES, fetched, is_path
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.trace_sets import needed_files, trace_set

Section = TypeVar("Section")

LOCK = "revisions.json"  # in a run's folder


@dataclasses.dataclass(frozen=True)
class Item:
    """A repository that is wanted."""

    repo: str
    revision: str  # a commit; empty: the newest
    kind: str = "model"  # or "dataset"
    key: str = ""  # the setting that names it
    files: tuple[str, ...] | None = None  # patterns; None: those of `hub.FILES`


def needed(profile: Profile, released: bool = False) -> list[Item]:
    """What a run of the profile reads from the hub, each repository once; folders are not listed.

    released: instead, the collection of released adapters, which no run needs.

    The teacher only where it is sampled here, the traces only where they are the source and are
    not in a folder, problems only where they are not generated.
    """
    source, hub = profile.rollouts.source, profile.problems.source == "hub"
    read = {
        "released.collection": False,
        "model.base": True,
        "model.teacher": source == "model",
        "problems.rollout_dataset": hub,
        "problems.test_dataset": hub,
        "problems.aime_dataset": True,
        "rollouts.traces.dataset": source == "traces" and not profile.rollouts.traces.folder,
    }
    if released:
        read = {**dict.fromkeys(read, False), "released.collection": True}
    values = profile.flat()
    items: dict[tuple[str, str, str], Item] = {}
    for key, (revision, kind) in PINS.items():
        repo = values[key]
        if read[key] and repo and not is_path(repo):
            files = RELEASED_FILES if released else None
            item = Item(repo, values[revision], kind, key, files)
            if key == "rollouts.traces.dataset":  # some are large, and few of their files do
                commit = item.revision or trace_set(repo).revision
                item = dataclasses.replace(item, revision=commit, files=needed_files(profile))
            items.setdefault((repo, item.revision, kind), item)
    return list(items.values())


def check_fetched(profile: Profile) -> None:
    """Raise UserError, naming the command to run first, unless all that is `needed` is here."""
    for item in needed(profile):
        fetched(item.repo, item.revision, item.kind, profile.name, item.files)


def locked(profile: Profile, folder: Path) -> Profile:
    """The profile with the commits of the run's LOCK in place of empty ones.

    An entry counts for the repository that it was written for.
    """
    path = folder / LOCK
    if not path.is_file():
        return profile
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        found = {key: (str(note["repo"]), str(note["commit"])) for key, note in notes.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"not a list of commits: {path}: delete it, and prefetch again") from None
    values = profile.flat()
    for key, (revision, _) in PINS.items():
        repo, commit = found.get(key, ("", ""))
        if repo and repo == values[key] and not values[revision]:
            profile = _replaced(profile, revision.split("."), commit)
    return profile


def _replaced(section: Section, keys: list[str], value: Any) -> Section:
    """A copy of nested dataclasses with one value changed."""
    first, *rest = keys
    new = _replaced(getattr(section, first), rest, value) if rest else value
    return dataclasses.replace(section, **{first: new})  # type: ignore[type-var]
