"""Deltas taken apart in one repetition: the part along SFT, the part off it, and stand-ins."""

from __future__ import annotations

import zlib

import pandas as pd

from finetune_geometry.deltas.adapters import Point, load_adapter
from finetune_geometry.evaluation.answers import check_adapters
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.rays import measure_points
from finetune_geometry.geometry.split_off import random_rest, rest_norms, shares_along
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.repetitions.cells import parts_of
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.variation import Cell

OTHERS = tuple(method for method in METHODS if method != "sft")


def measure_causes(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """What parts of each delta do to the base and to SFT.

    With dW = c S + R, S being SFT's delta: "whole" is dW, "along" c S, "off" R, "order" the same
    rest of SFT in another order (the cell's yardstick), scaled to |R|, and "random" a part of |R|
    in every module with the adapter's own A and a Gaussian B. "sft and off" is S + R, and so on.
    The random parts are drawn from the profile's geometry.seed, the cell and the method.

    Returns two tables:
        causes: method, part ("" for the base and for SFT), loss (nats a token), right, problems;
        causes_parts: method, c, length (|R|), fraction (|R| / |dW|).
    """
    adapters = {role: cell.adapters[role] for role in (*METHODS, "sft-order")}
    check_adapters(run, list(adapters.values()))
    loaded = {role: load_adapter(run.adapter_dir(name), role) for role, name in adapters.items()}
    sft, order = loaded["sft"], loaded["sft-order"]
    share = shares_along(list(loaded.values()), "sft")
    of_order = _length(rest_norms(order, sft, share["sft-order"]))
    points: dict[str, Point] = {"sft": (("sft", 1.0),)}
    lengths = []
    for method in OTHERS:
        norms = rest_norms(loaded[method], sft, share[method])
        length, c = _length(norms), share[method]
        seed = [run.profile.geometry.seed, zlib.crc32(f"{cell.name} {method}".encode())]
        drawn = random_rest(loaded[method], norms, seed)
        loaded[drawn.name] = drawn
        scale = length / of_order
        rest = {"off": {method: 1.0, "sft": -c}, "random": {drawn.name: 1.0},
                "order": {"sft-order": scale, "sft": -scale * share["sft-order"]}}  # fmt: skip
        models = {"whole": {method: 1.0}, "along": {"sft": c}, **rest}
        models |= {
            f"sft and {name}": part | {"sft": part.get("sft", 0.0) + 1.0}
            for name, part in rest.items()
        }
        points |= {
            f"{method}: {name}": tuple(sorted(point.items())) for name, point in models.items()
        }
        whole = _length({module: delta.norm() for module, delta in loaded[method].items()})
        lengths.append((method, c, length, length / whole))
    settings = run.profile.geometry
    table = measure_points(
        run,
        loaded,
        points,
        spread_rows(load_rollouts(run, "heldout"), settings.lmc_rows),
        load_problems(run.profile, "validation"),
        parts_of("causes", cell),
    )
    table[["method", "part"]] = table["model"].str.partition(": ")[[0, 2]]
    return {
        "causes": table[["method", "part", "loss", "right", "problems"]],
        "causes_parts": pd.DataFrame(lengths, columns=["method", "c", "length", "fraction"]),
    }


def _length(norms: dict[str, float]) -> float:
    """The Frobenius norm of all modules stacked, from that of each."""
    return float(sum(norm**2 for norm in norms.values()) ** 0.5)
