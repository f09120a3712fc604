"""The path of one training through its checkpoints: how long, how straight, where it breaks.

Everything follows from the distances between the points, so that no point itself is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.geometry.pairs import start_of

PATH_COLUMNS = [
    "place", "name", "step", "path", "net", "straightness", "turn", "to_last", "remaining",
    "cosine_of_a", "breaks",
]  # fmt: skip
# A step out of line: a modified z-score beyond this (Iglewicz and Hoaglin 1993, How to Detect and
# Handle Outliers), of at least this many steps.
OUTLIER = 3.5
LEAST_STEPS = 5
# Steps of one training are not equal to the last digit: less scatter than this, in nats of length
# and in degrees of turn, counts as this. The two numbers have no source.
LEAST_SCATTER = {"length": 0.1, "turn": 5.0}


def turning_angles(distance2: Array) -> Array:
    """Angles between successive steps through n points, (n - 2,), in degrees.

    Args:
        distance2: squared distances of the points, (n, n), in the order of the path.

    0: straight on; 90: at a right angle; 180: straight back. With d the distances, the inner
    product of the steps from i to j and from j to k is (d_ik^2 - d_ij^2 - d_jk^2) / 2. NaN beside a
    step of length 0, which has no direction.
    """
    n = len(distance2)
    steps = np.sqrt(distance2[range(n - 1), range(1, n)])
    inner = (distance2[range(n - 2), range(2, n)] - steps[:-1] ** 2 - steps[1:] ** 2) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = inner / steps[:-1] / steps[1:]
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))))


def out_of_line(values: Array, least_scatter: float) -> Array:
    """Which values lie far above all others: a truth each, all false for less than five.

    The modified z-score 0.6745 (x - median) / MAD, with MAD the median distance from the median, is
    above 3.5. Missing values count neither way.
    """
    known = np.isfinite(values)
    if known.sum() < LEAST_STEPS:
        return np.zeros(len(values), dtype=bool)
    middle = np.median(values[known])
    scatter = max(float(np.median(np.abs(values[known] - middle))), least_scatter)
    return np.asarray(known & (0.6745 * (values - middle) / scatter > OUTLIER))


def tabulate_path(
    names: Sequence[str], distance2: Array, cosines_of_a: Sequence[float | None]
) -> pd.DataFrame:
    """One row a checkpoint of a series that starts at the base.

    Args:
        names: the checkpoints, in order.
        distance2: squared Frobenius distances of the base and the checkpoints, (n + 1, n + 1).
        cosines_of_a: mean cosine of the saved A of each checkpoint and the one before, n - 1; None
            where there is no A.

    Columns: `place` from 1; `name`; `step`, the distance from the point before (of the first
    checkpoint from the base); `path`, the steps so far together; `net`, the distance from the
    base; `straightness` = net / path, 1 on a straight line; `turn`, the angle in degrees between
    the step that leads here and the next; `to_last`, the distance to the last checkpoint;
    `remaining`, the share of the whole path that is still to come; `cosine_of_a` with the
    checkpoint before; `breaks`, why the step that leads here is out of line: "start" (the initial A
    is another: this is another training), "length" (longer than the
    steps before and after, and far longer than most) or "turn" (it sets
    off far from where the last step went), else "".

    The path is drawn through the checkpoints alone; the training's own is at least as long.
    """
    n = len(names)
    steps = np.sqrt(distance2[range(n), range(1, n + 1)])
    path, turns = np.cumsum(steps), turning_angles(distance2)
    net = np.sqrt(distance2[0, 1:])
    with np.errstate(divide="ignore"):
        # From the base to the first checkpoint it may be any number of steps of the others.
        lengths = np.log(np.where(steps[1:] > 0, steps[1:], np.nan))
    # Early steps of a training are long; one that breaks in is longer than those beside it.
    beside = np.maximum(steps[:-1], np.append(steps[2:], 0.0))
    long = out_of_line(lengths, LEAST_SCATTER["length"]) & (steps[1:] > beside)
    sharp = out_of_line(turns, LEAST_SCATTER["turn"])
    breaks = [""]
    for i in range(1, n):
        of_a = cosines_of_a[i - 1]
        if of_a is not None and start_of(of_a) == "independent":
            breaks.append("start")
        elif long[i - 1]:
            breaks.append("length")
        else:  # behind a jump the path goes on as it did before it: no second break
            breaks.append("turn" if sharp[i - 1] and not breaks[i - 1] else "")
    return pd.DataFrame(
        {
            "place": range(1, n + 1),
            "name": list(names),
            "step": steps,
            "path": path,
            "net": net,
            "straightness": np.divide(net, path, out=np.zeros(n), where=path > 0),
            "turn": [*turns, np.nan],
            "to_last": np.sqrt(distance2[-1, 1:]),
            "remaining": 1 - path / path[-1] if path[-1] > 0 else np.zeros(n),
            "cosine_of_a": [np.nan, *(np.nan if c is None else c for c in cosines_of_a)],
            "breaks": breaks,
        }
    )[PATH_COLUMNS]


def settles(path: pd.DataFrame, share: float) -> str | None:
    """The first checkpoint of `tabulate_path` after which at most `share` of the path remains.

    None if that is no earlier than on a path of equal steps, or if nothing moves.
    """
    n, whole = len(path), path["path"].iloc[-1]
    first = int(np.argmax(path["remaining"].to_numpy() <= share + 1e-12))
    even = int(np.ceil(n * (1 - share) - 1e-9)) - 1
    return str(path["name"].iloc[first]) if whole > 0 and first < even else None
