"""Write the tables of the page on costs: `python workflow/cost_table.py`.

Everything is estimated, for one H100, from constants that were measured nowhere: the tables must
not depend on the machine that writes them. A test compares them with what is committed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune_geometry.estimates.asked import FURTHER
from finetune_geometry.estimates.estimate import Estimate, estimate
from finetune_geometry.estimates.machines import MEANINGS, Machine, machine_for
from finetune_geometry.estimates.shown import duration
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.profiles import Profile, load_profile

PROFILE, GPU, TARGET = "qwen3-4b", "h100", 12.0  # hours


def tables() -> dict[str, str]:
    """The tables as text, by the name of their file in book/."""
    profile = load_profile(PROFILE)
    machine = machine_for(GPU, needs_gpu=True)
    assumed = dataclasses.replace(machine, assumed_device=True, host_gib=0.0)
    found = estimate(profile, machine=assumed)
    return {
        "cost_stages.csv": _csv(_stages(found)),
        "cost_assumptions.csv": _csv(_assumptions(profile, found, assumed)),
    }


def unbroken(seconds: float) -> str:
    """A duration whose number and unit stay on one line of a narrow cell."""
    return duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")


def _stages(found: Estimate) -> list[list[str]]:
    head = ["stage", "time", "from", "to", "PFLOP", "GPU GiB", "host GiB", "money", "how"]
    rows = [head]
    for stage in found.stages:
        rows.append(
            [
                stage.name.rpartition("/")[2],
                *map(unbroken, (stage.seconds, stage.low, stage.high)),
                f"{stage.flops / 1e15:,.0f}" if stage.flops else "",
                f"{stage.gpu_gib:.0f}" if stage.gpu_gib else "",
                f"{stage.host_gib:.0f}",
                f"{stage.money:.0f} $" if stage.money else "",
                "measured" if stage.measured else "estimated",
            ]
        )
    on_gpu = [s for s in found.stages if s.gpu_gib and s.name not in FURTHER]
    sums = [unbroken(sum(getattr(s, end) for s in on_gpu)) for end in ("seconds", "low", "high")]
    flops = f"{sum(s.flops for s in on_gpu) / 1e15:,.0f}"
    memory = [f"{found.total(name):.0f}" for name in ("gpu_gib", "host_gib")]
    money = f"{found.total('money'):.0f} $"
    rows.append(["**all that the GPU does**", *sums, flops, *memory, money, "estimated"])
    rows.append(["the target", unbroken(TARGET * 3600), *[""] * 7])
    share = f"{_needed_share(found):.0%}"
    rows.append(["**share of the matrix rate that meets it, training**", share, *[""] * 7])
    return rows


def _needed_share(found: Estimate) -> float:
    """The share of the matrix rate with which all that the GPU does takes TARGET hours."""
    machine = found.machine
    constant = machine.constants["training_share"]
    certain = dataclasses.replace(constant, value=1e9)  # trainings that take no time
    other = dataclasses.replace(machine, constants={**machine.constants, "training_share": certain})
    rest = estimate(found.profile, machine=other).device_seconds
    return constant.value * (found.device_seconds - rest) / (TARGET * 3600 - rest)


def _assumptions(profile: Profile, found: Estimate, machine: Machine) -> list[list[str]]:
    """What the whole book takes on the GPU if one constant alone is at an end of its range."""
    rows: list[tuple[float, list[str]]] = []
    for name, constant in machine.constants.items():
        hours = []
        for end in ("high", "low"):
            changed = {**machine.constants, name: constant.at(end)}
            other = dataclasses.replace(machine, constants=changed)
            hours.append(estimate(profile, machine=other).device_seconds)
        values = [f"{value:.3g}" for value in (constant.value, constant.high, constant.low)]
        row = [MEANINGS[name], *values, *map(unbroken, hours)]
        rows.append((hours[1] - hours[0], row))
    rows.sort(key=lambda row: -row[0])
    head = [
        "constant",
        "assumed",
        "fast end",
        "slow end",
        "book at the fast end",
        "at the slow end",
    ]
    return [head, *(row for _, row in rows)]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def main(folder: Path) -> int:
    for name, text in tables().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(project_root() / "book"))
