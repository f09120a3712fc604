"""Everything that this project can say about somebody's adapters, measured in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from finetune_geometry.checkpoints import is_checkpoint, load_checkpoint
from finetune_geometry.cores import ModuleCores, common_modules, map_modules
from finetune_geometry.deltas import BASE, Adapter, load_adapter, zero_adapter
from finetune_geometry.nulls import chance_table
from finetune_geometry.profiles import UserError
from finetune_geometry.similarity import (
    chance_outside,
    inner_products,
    rejections,
    tabulate_cosines,
    tabulate_rejections,
)
from finetune_geometry.sources import locate
from finetune_geometry.subspaces import (
    angle_rows,
    check_ks,
    spectrum_rows,
    tabulate_angles,
    tabulate_spectra,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tables of one comparison, and what is needed to read them.

    Attributes:
        names: the adapters, in the order given; the base is not among them.
        tables: "cosine", "principal_angles", "orthogonal_fraction", "spectra" (laid out as
            `similarity` says) and "chance", with the column `shared_a`: was A drawn once for both
            adapters of the random pairs, or independently?
        shapes: (d_out, d_in) of each module compared.
        k: dimension of the subspaces; r: LoRA rank assumed by the chance levels.
        outside: norm fraction of a random delta outside a k-dimensional left subspace.
        extras: adapter -> number of its tensors that are no LoRA factors and were not compared.
    """

    names: tuple[str, ...]
    reference: str
    base_model: str
    tables: Mapping[str, pd.DataFrame]
    shapes: Mapping[str, tuple[int, int]]
    k: int
    r: int
    outside: float
    extras: Mapping[str, int]

    def value(self, table: str, quantity: str, a: str, b: str, **where: Any) -> float | None:
        """One number of a pair, in either order (default: of all modules); None if undefined."""
        rows = self.tables[table]
        rows = rows[rows["quantity"] == quantity]
        for column, wanted in ({"module": "global"} | where).items():
            rows = rows[rows[column] == wanted]
        straight = (rows["a"] == a) & (rows["b"] == b)
        rows = rows[straight | ((rows["a"] == b) & (rows["b"] == a))]
        return float(rows["value"].iloc[0]) if len(rows) else None

    def chance(self, quantity: str, pooled: str, *, side: str = "", shared_a: bool = True) -> Any:
        """The row `low`, `value`, `high` of a chance level at this comparison's k, or None."""
        rows = self.tables["chance"]
        k = self.k if quantity.startswith("angle_") else 0
        rows = rows[
            (rows["quantity"] == quantity)
            & (rows["pooled"] == pooled)
            & (rows["side"] == side)
            & (rows["k"] == k)
            & (rows["shared_a"] == shared_a)
        ]
        return rows.iloc[0] if len(rows) else None


def check_name(name: str) -> str:
    """`name` if it can stand in tables and file names; `UserError` if not."""
    if not NAME.fullmatch(name) or name == BASE:
        raise UserError(
            f"name {name!r}: adapters: use letters, digits, '.', '-' and '_', at most 64, "
            f"and not {BASE!r}"
        )
    return name


def load_named(texts: Sequence[str], base_model: str | None = None) -> list[Adapter]:
    """The adapters of "NAME=SOURCE" texts; a source is a folder or a hub id.

    A folder that holds a whole model (full fine-tuning) counts as its difference from
    `base_model`, a folder or hub id of the model that it was trained from.
    """
    adapters = []
    for text in texts:
        name, equals, source = text.partition("=")
        if not (equals and source):
            raise UserError(f"{text!r}: adapters: write NAME=SOURCE, as in sft=adapters/sft")
        check_name(name)
        folder = locate(source)
        if not is_checkpoint(folder):
            adapters.append(load_adapter(folder, name))
        elif base_model:
            adapters.append(load_checkpoint(folder, base_model, name))
        else:
            raise UserError(
                f"a whole model, no adapter: {source}: say which model it was trained from "
                "(--base-model), to compare the difference"
            )
    return adapters


def compare(
    adapters: Sequence[Adapter],
    *,
    k: int | None = None,
    reference: str | None = None,
    draws: int = 200,
    seed: int = 0,
    intersection: bool = False,
    any_base: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Cosines, angles, orthogonal fractions, spectra and chance levels of all pairs.

    Args:
        adapters: two or more.
        k: dimension of the subspaces; default: 10, or half of the smallest rank if less.
        reference: whose direction the others are split by; default: the first adapter.
        draws, seed: of the chance levels.
        intersection, any_base, progress: see `cores.map_modules`.
    """
    if len(adapters) < 2:
        raise UserError("one adapter: nothing to compare: give at least two, a=... b=...")
    names = [check_name(adapter.name) for adapter in adapters]
    modules = common_modules(adapters, intersection=intersection, any_base=any_base)
    shapes = {module: adapters[0].shapes[module] for module in modules}
    r = min(adapter[modules[0]].r for adapter in adapters)
    k = max(1, min(10, r // 2)) if k is None else k
    check_ks([k])
    if k > r:
        raise UserError(f"k = {k}: above the rank {r}: choose k between 1 and {r}")
    chosen = reference or names[0]
    ks = sorted({1, k})

    def measure(cores: ModuleCores) -> tuple[Any, ...]:
        return (
            rejections(cores, chosen, [k]),
            angle_rows(cores, ks),
            spectrum_rows(cores),
            inner_products(cores),  # last: from the frame that the others have formed
        )

    with_base = [zero_adapter(adapters[0]), *adapters]
    parts = map_modules(
        measure, with_base, intersection=intersection, any_base=any_base, progress=progress
    )
    off, angles, spectra, products = zip(*parts, strict=True)
    chance = [
        chance_table(shapes, ks, r=r, draws=draws, seed=seed, shared_a=shared).assign(
            shared_a=shared
        )
        for shared in (True, False)
    ]
    return Comparison(
        names=tuple(names),
        reference=chosen,
        base_model=next((a.base_model for a in adapters if a.base_model), ""),
        tables={
            "cosine": tabulate_cosines(products),
            "principal_angles": tabulate_angles(angles),
            "orthogonal_fraction": tabulate_rejections(off, chosen),
            "spectra": tabulate_spectra(spectra),
            "chance": pd.concat(chance, ignore_index=True),
        },
        shapes=shapes,
        k=k,
        r=r,
        outside=chance_outside(shapes, k, side="left"),
        extras={adapter.name: len(adapter.extras) for adapter in adapters},
    )


def summary(comparison: Comparison) -> dict[str, Any]:
    """The main numbers as plain data, for `--json` and for the report."""
    c = comparison
    level = c.chance("cosine", "global")
    angle = c.chance("angle_smallest", "median", side="left")
    pairs = []
    for a, b in combinations(c.names, 2):
        at_k = {"module": "median", "k": c.k}
        pairs.append(
            {
                "a": a,
                "b": b,
                "cosine": c.value("cosine", "cosine", a, b),
                "cosine_median": c.value("cosine", "cosine", a, b, module="median"),
                "distance": c.value("cosine", "distance", a, b),
                "angle_smallest_left": c.value(
                    "principal_angles", "angle_smallest", a, b, side="left", **at_k
                ),
                "angle_smallest_right": c.value(
                    "principal_angles", "angle_smallest", a, b, side="right", **at_k
                ),
            }
        )
    return {
        "base_model": c.base_model,
        "modules": len(c.shapes),
        "reference": c.reference,
        "k": c.k,
        "r": c.r,
        "adapters": {
            name: {
                "norm": c.value("cosine", "norm", name, BASE),
                "entropy_rank": c.value("spectra", "entropy_rank", name, BASE, module="mean"),
                "stable_rank": c.value("spectra", "stable_rank", name, BASE, module="mean"),
                "outside_reference_norm": c.value(
                    "orthogonal_fraction", "outside_direction_norm", name, c.reference
                ),
                "tensors_not_compared": c.extras[name],
            }
            for name in c.names
        },
        "pairs": pairs,
        "chance": {
            "cosine": [float(level["low"]), float(level["high"])],
            "angle_smallest_left": None
            if angle is None
            else [float(angle["low"]), float(angle["high"])],
            "outside_subspace_norm": c.outside,
        },
    }
