"""Everything that this project can say about somebody's adapters, measured in one pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import (
    BASE,
    Adapter,
    common_modules,
    load_adapter,
    zero_adapter,
)
from finetune_geometry.deltas.checkpoints import is_checkpoint, load_checkpoint
from finetune_geometry.deltas.sources import locate
from finetune_geometry.geometry.cores import ModuleCores, map_modules
from finetune_geometry.geometry.nulls import chance_table
from finetune_geometry.geometry.pairs import pair_moments, tabulate_pairs
from finetune_geometry.geometry.similarity import (
    chance_orthogonal_fraction,
    inner_products,
    orthogonal_parts,
    tabulate_cosines,
    tabulate_orthogonal_fractions,
)
from finetune_geometry.geometry.subspaces import (
    check_ks,
    module_angles,
    spectrum_rows,
    tabulate_angles,
    tabulate_spectra,
)
from finetune_geometry.settings.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LARGEST_K = 10  # the paper's


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tables of one comparison, and what is needed to read them.

    Attributes:
        names: the adapters, in the order given; the base is not among them.
        base_models: adapter -> the base model that it names, "" if it names none.
        tables: "cosine", "principal_angles", "orthogonal_fraction", "spectra" (laid out as
            `tidy` says), "pairs" (see `pairs.tabulate_pairs`), and "chance": that of angles,
            with the column `shared_a`: was A drawn once for both adapters of the random pairs, or
            independently?
        shapes: (d_out, d_in) of each module compared.
        k: dimension of the subspaces.
        ranks: lowest and highest rank of a module that was changed.
        chance_orthogonal: norm fraction of a random delta orthogonal to a k-dimensional left
            subspace.
        extras: adapter -> its tensors that are no LoRA factors and were not compared.
        left_out: adapter -> number of its modules that others lack and that were not compared.
    """

    names: tuple[str, ...]
    reference: str
    base_models: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    shapes: Mapping[str, tuple[int, int]]
    k: int
    ranks: tuple[int, int]
    chance_orthogonal: float
    extras: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, int]

    @cached_property
    def _pooled(self) -> dict[tuple[Any, ...], float]:
        """The rows of all modules together, by what `value` is asked for."""
        found = {}
        for name, table in self.tables.items():
            if name != "chance":
                rows = table[table["level"].isin(["global", "mean", "median"])]
                rows = rows.assign(**{c: d for c, d in (("side", ""), ("k", 0)) if c not in rows})
                columns = (rows[c] for c in ("a", "b", "quantity", "level", "side", "k", "value"))
                for a, b, *where, value in zip(*columns, strict=True):
                    found[name, frozenset({a, b}), *where] = float(value)
        return found

    def value(
        self,
        table: str,
        quantity: str,
        a: str,
        b: str,
        *,
        level: str = "global",
        side: str = "",
        k: int = 0,
    ) -> float | None:
        """One number of a pair, in either order, over all modules; None if undefined."""
        return self._pooled.get((table, frozenset({a, b}), quantity, level, side, k))

    def angle_modules(self, a: str, b: str) -> int:
        """In how many modules the pair has angles at this comparison's k."""
        return self._angle_modules.get(frozenset({a, b}), 0)

    @cached_property
    def _angle_modules(self) -> dict[frozenset[str], int]:
        rows = self.tables["principal_angles"]
        rows = rows[
            (rows["quantity"] == "angle_smallest")
            & (rows["side"] == "left")
            & (rows["k"] == self.k)
            & (rows["level"] == "module")
        ]
        pairs = zip(rows["a"], rows["b"], strict=True)
        return dict(Counter(frozenset(pair) for pair in pairs))

    def chance(self, quantity: str, level: str, *, side: str, shared_a: bool = True) -> Any:
        """The row `low`, `value`, `high` of an angle's chance level at this k, or None."""
        rows = self.tables["chance"]
        rows = rows[
            (rows["quantity"] == quantity)
            & (rows["level"] == level)
            & (rows["side"] == side)
            & (rows["k"] == self.k)
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
        k: dimension of the subspaces; default: see `choose_k`.
        reference: whose direction the others are split by; default: the first adapter.
        draws, seed: of the chance levels.
        intersection, any_base, progress: see `cores.map_modules`.
    """
    if len(adapters) < 2:
        raise UserError("one adapter: nothing to compare: give at least two, a=... b=...")
    names = [check_name(adapter.name) for adapter in adapters]
    modules = common_modules(adapters, intersection=intersection, any_base=any_base)
    shapes = {module: adapters[0].shapes[module] for module in modules}
    ranks = {m: sorted(r for a in adapters if (r := a.rank(m))) for m in modules}
    k = choose_k(ranks, k)
    chosen = reference or names[0]
    if chosen not in names:
        raise UserError(
            f"no reference {reference!r}: adapters: it must be one of {', '.join(names)}"
        )
    ks = sorted({1, k})

    def measure(cores: ModuleCores) -> tuple[Any, ...]:
        return (
            orthogonal_parts(cores, chosen, [k]),
            module_angles(cores, ks),
            spectrum_rows(cores),
            pair_moments(cores),
            inner_products(cores),  # last: from the frame that the others have formed
        )

    with_base = [zero_adapter(adapters[0]), *adapters]
    parts = map_modules(
        measure, with_base, intersection=intersection, any_base=any_base, progress=progress
    )
    orthogonal, angles, spectra, moments, products = zip(*parts, strict=True)
    lowest = {module: found[0] if found else 1 for module, found in ranks.items()}
    chance = pd.concat(
        [
            chance_table(shapes, ks, r=lowest, draws=draws, seed=seed, shared_a=shared).assign(
                shared_a=shared
            )
            for shared in (True, False)
        ],
        ignore_index=True,
    )
    everything = [r for found in ranks.values() for r in found] or [0]
    return Comparison(
        names=tuple(names),
        reference=chosen,
        base_models={adapter.name: adapter.base_model for adapter in adapters},
        tables={
            "cosine": tabulate_cosines(products),
            "principal_angles": tabulate_angles(angles),
            "orthogonal_fraction": tabulate_orthogonal_fractions(orthogonal, chosen),
            "spectra": tabulate_spectra(spectra),
            "pairs": tabulate_pairs(moments),
            # Of cosines "pairs" knows more: these draws give every module the same energy.
            "chance": chance[chance["side"] != ""],
        },
        shapes=shapes,
        k=k,
        ranks=(min(everything), max(everything)),
        chance_orthogonal=chance_orthogonal_fraction(shapes, k, side="left"),
        extras={adapter.name: adapter.extras for adapter in adapters},
        left_out={adapter.name: len(adapter) - len(modules) for adapter in adapters},
    )


def choose_k(ranks: Mapping[str, Sequence[int]], k: int | None = None) -> int:
    """The dimension of the subspaces: `k` if it can be had, or a default.

    Args:
        ranks: module -> ranks of the adapters that change it, rising.

    The default is half of the median, over the modules, of the lowest rank there; at least 1 and at
    most 10. Modules of a rank below k have no angles, and the tables name them. `UserError` if no
    module has two adapters of rank k.
    """
    changed = [found for found in ranks.values() if found]
    if k is None:
        middle = float(np.median([found[0] for found in changed])) if changed else 1.0
        return max(1, min(LARGEST_K, int(middle / 2)))
    check_ks([k])
    most = max((found[-2:][0] for found in changed), default=1)
    if k > most:
        raise UserError(f"k = {k}: above the rank of two adapters: choose k between 1 and {most}")
    return k
