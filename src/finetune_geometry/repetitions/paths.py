"""One repetition along its trainings: how alike the deltas are while they are made."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import Adapter, load_adapter
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.snapshots import snapshot_dir
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.variation import Cell

YARDSTICK = "sft-order"  # a role that is trained as SFT


def measure_path(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """Cosines and lengths of the deltas that the trainings of a cell kept on their way.

    All are taken at the same share of their steps; the last row of a pair is at the end. A share at
    which some delta is still 0 is left out: the first step of a warm-up has a rate of 0.

    Returns two tables:
        path: share, step (SFT's), a, b (roles), value (cosine, all modules stacked);
        path_lengths: share, role, step (its own), norm (Frobenius, all modules stacked), to_end
            (cosine with its own end).
    """
    roles = list(cell.adapters)
    ends = [load_adapter(run.adapter_dir(name), f"{name}@") for name in cell.adapters.values()]
    pairs: list[tuple[float, int, str, str, float]] = []
    lengths: list[tuple[float, str, int, float, float]] = []
    for share, steps in shares(run.profile, roles).items():
        here = [kept(run, cell.adapters[role], steps[role]) for role in roles] if share < 1 else []
        parts = map_modules(inner_products, [*here, *ends])
        gram = np.sum([part.inner for part in parts], axis=0)
        count = len(here)  # of the ends' first column; at the end they are their own
        found, norms = cosine(gram), np.sqrt(gram.diagonal())
        if not norms.all():
            continue
        for i, j in combinations(range(len(roles)), 2):
            pairs.append((share, steps["sft"], roles[i], roles[j], float(found[i, j])))
        for i, role in enumerate(roles):
            to_end = float(found[i, count + i])
            lengths.append((share, role, steps[role], float(norms[i]), to_end))
    return {
        "path": pd.DataFrame(pairs, columns=["share", "step", "a", "b", "value"]),
        "path_lengths": pd.DataFrame(lengths, columns=["share", "role", "step", "norm", "to_end"]),
    }


def shares(profile: Profile, roles: list[str]) -> dict[float, dict[str, int]]:
    """The shares of the trainings that are looked at, 1 the last -> step of each role.

    Of several that fall on one step of SFT the first; none that is the end of some role already.
    """
    training = {role: profile.training_of("sft" if role == YARDSTICK else role) for role in roles}
    found: dict[float, dict[str, int]] = {}
    for share in sorted(profile.training.snapshots):
        steps = {role: one.step_at(share) for role, one in training.items()}
        early = all(steps[role] < one.steps for role, one in training.items())
        if early and steps["sft"] not in {before["sft"] for before in found.values()}:
            found[share] = steps
    return found | {1.0: {role: one.steps for role, one in training.items()}}


def kept(run: Run, name: str, step: int) -> Adapter:
    """The adapter `name` after `step` steps; raises UserError if its training did not keep it."""
    folder = snapshot_dir(run, name, step)
    end = json.loads((run.adapter_dir(name) / "card.json").read_text(encoding="utf-8"))
    card = folder / "card.json"
    found = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    if not found or {**end, **found, "step": None} != {**end, "step": None}:
        what = "another training's" if found else "missing"
        raise UserError(
            f"the adapter {name} after {step} steps is {what}: {folder}: delete "
            f"{run.adapter_dir(name)} and start the run again; it is kept while {name} is trained"
        )
    return load_adapter(folder, name)
