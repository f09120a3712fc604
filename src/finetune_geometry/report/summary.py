"""What a comparison found, as plain data."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.geometry.clusters import CLEAR, WEAK, connected_sets, groups_of, leaf_order
from finetune_geometry.geometry.merging import ALL
from finetune_geometry.geometry.pairs import ALPHA, start_of
from finetune_geometry.geometry.rank_needed import SHARES
from finetune_geometry.geometry.series_path import settles
from finetune_geometry.report.result import TO_DIRECTION, Comparison

# A series has settled when this share of its path is left. The number has no source.
SETTLED = 0.1


def summary(c: Comparison) -> dict[str, Any]:
    """The main numbers as plain data, for `--json`, the sentences and the page.

    Of a pair: `cosine` and its chance ("chance_shared_a", "chance_independent_a": 95 % of unrelated
    pairs stay below), `p` and `p_corrected` over all pairs, `initial_a` ("shared", "independent",
    "unclear", or "no A" for full fine-tunings) and the mean `cosine_of_a` that it rests on;
    `shared_a` is true, false or, for the last two, null.

    Of all: `identical` sets; `order`, in which neighbours are alike, of those that change anything;
    `groups` (members, the mean cosine within, "clear" or "weak": see `clusters`) and the
    `ungrouped`; `one_a`, sets that share their initial A, member by member; the numbers of pairs
    that are `more_than_chance`, alike and opposed; `merged`; and of a series `path`, else null.
    """
    pairs = [_pair(c, a, b) for a, b in combinations(c.names, 2)]
    moving = [name for name in c.names if (c.value("cosine", "norm", name, BASE) or 0) > 0]
    cosines = pair_matrix(pairs, moving, "cosine", 1.0)
    found = [p for p in pairs if p["cosine"] is not None and p["p_corrected"] < ALPHA]
    angle = c.chance("angle_smallest", "median", side="left")
    bases = sorted({base for base in c.base_models.values() if base})
    return {
        "base_model": bases[0] if len(bases) == 1 else None,
        "modules": len(c.shapes),
        "reference": c.reference,
        "k": c.k,
        "ranks": list(c.ranks),
        "adapters": {name: _adapter(c, name) for name in c.names},
        "pairs": pairs,
        "chance": {
            "angle_smallest_left": None
            if angle is None
            else [float(angle["low"]), float(angle["high"])],
            "orthogonal_to_subspace_norm": c.chance_orthogonal,
        },
        "identical": _sets(pairs, moving, [p for p in pairs if p["identical"]]),
        "order": [moving[i] for i in leaf_order(cosines)],
        **_groups(cosines, moving),
        "one_a": _sets(pairs, moving, [p for p in pairs if p["shared_a"]]),
        "more_than_chance": {
            "pairs": sum(p["cosine"] is not None for p in pairs),
            "alike": sum(p["cosine"] > 0 for p in found),
            "opposed": sum(p["cosine"] < 0 for p in found),
        },
        "merged": _merged(c.tables["merging"]),
        "path": _path(c.tables["path"]) if "path" in c.tables else None,
    }


def pair_matrix(pairs: list[dict[str, Any]], names: list[str], what: str, diagonal: float) -> Array:
    """One number of all pairs as a symmetric matrix in the order of `names`; NaN if undefined."""
    place = {name: i for i, name in enumerate(names)}
    values = np.full((len(names),) * 2, np.nan)
    np.fill_diagonal(values, diagonal)
    for pair in pairs:
        if pair["a"] in place and pair["b"] in place and pair[what] is not None:
            i, j = place[pair["a"]], place[pair["b"]]
            values[i, j] = values[j, i] = pair[what]
    return values


def _pair(c: Comparison, a: str, b: str) -> dict[str, Any]:
    of_a = c.value("pairs", "cosine_of_a", a, b, level="mean")
    start = start_of(of_a)
    cosine, distance = (c.value("cosine", what, a, b) for what in ("cosine", "distance"))
    angles = {
        f"angle_smallest_{side}": c.value(
            "principal_angles", "angle_smallest", a, b, level="median", side=side, k=c.k
        )
        for side in ("left", "right")
    }
    return {
        "a": a,
        "b": b,
        "cosine": cosine,
        "cosine_median": c.value("cosine", "cosine", a, b, level="median"),
        "distance": distance,
        "identical": distance == 0 and cosine is not None,
        **angles,
        "angle_modules": c.angle_modules(a, b),
        "initial_a": start,
        "shared_a": {"shared": True, "independent": False}.get(start),
        "cosine_of_a": of_a,
        **{
            what: c.value("pairs", what, a, b)
            for what in ("chance_shared_a", "chance_independent_a", "p", "p_corrected")
        },
    }


def _adapter(c: Comparison, name: str) -> dict[str, Any]:
    energy = c.tables["energy"]
    energy = energy[energy["adapter"] == name]
    rank = c.tables["rank"]
    rank = rank[(rank["adapter"] == name) & (rank["stable_rank"] > 0)]
    modules = energy[energy["by"] == "module"]
    top = modules.iloc[int(modules["share"].argmax())]
    given = rank["rank_given"]
    return {
        "base_model": c.base_models[name],
        "norm": c.value("cosine", "norm", name, BASE),
        "entropy_rank": c.value("spectra", "entropy_rank", name, BASE, level="mean"),
        "stable_rank": c.value("spectra", "stable_rank", name, BASE, level="mean"),
        "orthogonal_to_reference_norm": c.value(
            "orthogonal_fraction", f"{TO_DIRECTION}_norm", name, c.reference
        ),
        "tensors_not_compared": len(c.extras[name]),
        "modules_left_out": c.left_out[name],
        "energy_by_kind": _shares(energy, "kind"),
        "energy_by_layer": _shares(energy, "layer"),
        "top_module": {
            what: str(top[what]) if what == "part" else float(top[what])
            for what in ("part", "share", "share_of_entries")
        },
        "rank_given": [int(given.min()), int(given.max())] if len(given) else None,
        # Of the modules that it changes; null where a full fine-tuning's singular values, of which
        # only the leading ones are known, hold too little.
        **{
            f"{what}_{how}": _finite(getattr(rank[what], how)(skipna=False))
            for what in SHARES
            for how in ("median", "max")
        },
    }


def _shares(energy: pd.DataFrame, by: str) -> dict[str, float]:
    rows = energy[energy["by"] == by]
    return {str(part): float(s) for part, s in zip(rows["part"], rows["share"], strict=True)}


def _sets(
    pairs: list[dict[str, Any]], names: list[str], joined: list[dict[str, Any]]
) -> list[list[str]]:
    """Sets of two or more adapters, from the pairs that belong together."""
    place = {name: i for i, name in enumerate(names)}
    linked = np.eye(len(names), dtype=bool)
    for pair in joined:
        if pair["a"] in place and pair["b"] in place:
            i, j = place[pair["a"]], place[pair["b"]]
            linked[i, j] = linked[j, i] = True
    return [[names[i] for i in members] for members in connected_sets(linked)]


def _groups(cosines: Array, names: list[str]) -> dict[str, Any]:
    labels, silhouette = groups_of(cosines)
    groups: list[dict[str, Any]] = []
    alone: list[str] = []
    for label in dict.fromkeys(labels.tolist()):
        members = np.flatnonzero(labels == label)
        strength = float(silhouette[members].mean())
        if len(members) < 2 or strength < WEAK:
            alone += [names[i] for i in members]
            continue
        within = cosines[np.ix_(members, members)][np.triu_indices(len(members), 1)]
        groups.append(
            {
                "members": [names[i] for i in members],
                "cosine": float(within.mean()),
                "silhouette": strength,
                "strength": "clear" if strength >= CLEAR else "weak",
            }
        )
    groups.sort(key=lambda group: -len(group["members"]))
    return {"groups": groups, "ungrouped": alone}


def _merged(merging: pd.DataFrame) -> dict[str, float | None]:
    row = merging[merging["a"] == ALL].iloc[0]
    what = ("common", "common_if_unrelated", "interference", "opposed", "opposed_by_chance")
    return {name: _finite(row[name]) for name in what}


def _path(path: pd.DataFrame) -> dict[str, Any]:
    """Of a series: its length and how straight it is, where it settles and where it breaks."""
    steps = path["step"].to_numpy()
    length = float(path["path"].iloc[-1])
    breaks = path[path["breaks"] != ""]
    turns = path["turn"].dropna()
    return {
        "checkpoints": len(path),
        "length": length,
        "net": float(path["net"].iloc[-1]),
        "straightness": float(path["straightness"].iloc[-1]),
        # That of the same steps, each at a right angle to all others.
        "straightness_if_unrelated": float(np.linalg.norm(steps)) / length if length else 0.0,
        "turn_median": _finite(turns.median()) if len(turns) else None,
        "settles": settles(path, SETTLED),
        "breaks": [
            {"at": str(name), "why": str(why)}
            for name, why in zip(breaks["name"], breaks["breaks"], strict=True)
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
