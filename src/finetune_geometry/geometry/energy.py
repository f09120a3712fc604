"""Where a change lies: its energy by layer, by module and by kind of module.

The energy of a delta is its squared Frobenius norm. Energies of different modules add up to that of
the whole, which lengths do not, so that shares of it answer "where did the weights change?". A
change spread evenly over the entries of the weights has in each module the share of the entries
that this module holds: that is what a share is read against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.depth import kind_of
from finetune_geometry.geometry.similarity import InnerProducts

ENERGY_COLUMNS = ["adapter", "by", "part", "energy", "share", "share_of_entries"]
OUTSIDE = "none"  # the layer of modules that lie outside of any block


def tabulate_energy(
    parts: Sequence[InnerProducts], shapes: Mapping[str, tuple[int, int]]
) -> pd.DataFrame:
    """Energy of each adapter in each part of the network, the base left out.

    Args:
        parts: the modules' inner products, in order of depth.
        shapes: (d_out, d_in) of each of these modules.

    Columns: `adapter`; `by`, one of "layer", "kind" and "module"; `part`, the layer's number (or
    "none" outside of any block), the kind or the module; `energy`, the squared Frobenius norm
    there; `share` of the adapter's whole energy, 0 where it changes nothing; `share_of_entries`
    that the part holds of the modules compared.
    """
    energies = np.stack([np.diagonal(part.inner) for part in parts])  # (modules, M)
    entries = np.array([shapes[part.module][0] * shapes[part.module][1] for part in parts])
    labels = {
        "layer": [OUTSIDE if part.layer < 0 else str(part.layer) for part in parts],
        "kind": [kind_of(part.module) for part in parts],
        "module": [part.module for part in parts],
    }
    frames = []
    for i, name in enumerate(parts[0].names):
        if name == BASE:
            continue
        total = float(energies[:, i].sum())
        for by, names in labels.items():
            table = pd.DataFrame({"part": names, "energy": energies[:, i], "entries": entries})
            table = table.groupby("part", sort=False, as_index=False).sum()
            table["share"] = table["energy"] / total if total > 0 else 0.0
            table["share_of_entries"] = table["entries"] / entries.sum()
            frames.append(table.assign(adapter=name, by=by))
    return pd.concat(frames, ignore_index=True)[ENERGY_COLUMNS]
