"""Everything that this project can say about somebody's adapters, measured in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
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
from finetune_geometry.deltas.locations import locate
from finetune_geometry.geometry.cores import ModuleCores, map_modules
from finetune_geometry.geometry.energy import tabulate_energy
from finetune_geometry.geometry.merging import sign_rows, tabulate_merging
from finetune_geometry.geometry.nulls import chance_table
from finetune_geometry.geometry.pairs import pair_moments, tabulate_pairs
from finetune_geometry.geometry.rank_needed import rank_rows, tabulate_ranks
from finetune_geometry.geometry.saved_heads import tabulate_saved
from finetune_geometry.geometry.series_path import tabulate_path
from finetune_geometry.geometry.similarity import (
    InnerProducts,
    chance_orthogonal_fraction,
    inner_products,
    orthogonal_parts,
    plane,
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
from finetune_geometry.report.result import Comparison, at_level
from finetune_geometry.settings.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LARGEST_K = 10  # the paper's


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
    series: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Cosines, angles, orthogonal fractions, spectra and chance levels of all pairs; where each
    adapter changed, how much rank it used, what would become of them if merged, and what is saved
    beside them.

    Args:
        adapters: two or more.
        k: dimension of the subspaces; default: see `choose_k`.
        reference: whose direction the others are split by; default: the first adapter.
        draws, seed: of the chance levels.
        intersection, any_base, progress: see `cores.map_modules`.
        series: the adapters are checkpoints of one training, in order: measure the path, too.
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
            sign_rows(cores, seed=seed),
            rank_rows(cores),
            inner_products(cores),  # last: from the frame that the others have formed
        )

    lowest = {module: found[0] if found else 1 for module, found in ranks.items()}

    def by_chance() -> pd.DataFrame:
        tables = [
            chance_table(shapes, ks, r=lowest, draws=draws, seed=seed, shared_a=shared).assign(
                shared_a=shared
            )
            for shared in (True, False)
        ]
        return pd.concat(tables, ignore_index=True)

    with_base = [zero_adapter(adapters[0]), *adapters]
    with ThreadPoolExecutor(1) as beside:  # waits for no module, and no module for it
        promised = beside.submit(by_chance)
        parts = map_modules(
            measure, with_base, intersection=intersection, any_base=any_base, progress=progress
        )
        chance = promised.result()
    orthogonal, angles, spectra, moments, signs, needed, products = zip(*parts, strict=True)
    by_name = {adapter.name: adapter for adapter in adapters}
    pairs = tabulate_pairs(moments)
    tables = {
        "cosine": tabulate_cosines(products),
        "principal_angles": tabulate_angles(angles),
        "orthogonal_fraction": tabulate_orthogonal_fractions(orthogonal, chosen),
        "spectra": tabulate_spectra(spectra),
        "pairs": pairs,
        # Of cosines "pairs" knows more: these draws give every module the same energy.
        "chance": chance[chance["side"] != ""],
        "energy": tabulate_energy(products, shapes),
        "rank": tabulate_ranks(needed, lambda name, module: by_name[name].rank(module)),
        "merging": tabulate_merging(products, signs),
    }
    if series:
        tables["path"] = _path(products, pairs, names)
    saved = tabulate_saved(adapters)
    if len(saved):
        tables["heads"] = saved
    everything = [r for found in ranks.values() for r in found] or [0]
    return Comparison(
        names=tuple(names),
        reference=chosen,
        base_models={adapter.name: adapter.base_model for adapter in adapters},
        tables=tables,
        shapes=shapes,
        k=k,
        ranks=(min(everything), max(everything)),
        chance_orthogonal=chance_orthogonal_fraction(shapes, k, side="left"),
        extras={adapter.name: adapter.extras for adapter in adapters},
        left_out={adapter.name: len(adapter) - len(modules) for adapter in adapters},
        plane=plane(products) if series else None,
    )


def _path(
    products: Sequence[InnerProducts], pairs: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """The path of the base and then the adapters, in their order."""
    distance2 = np.sum([part.distance2 for part in products], axis=0)
    rows = at_level(pairs[pairs["quantity"] == "cosine_of_a"], "mean")
    of_a = dict(zip(zip(rows["a"], rows["b"], strict=True), rows["value"], strict=True))
    return tabulate_path(names, distance2, [of_a.get(pair) for pair in pairwise(names)])


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
