"""An estimate for people (a table) and for programs (JSON)."""

from __future__ import annotations

import dataclasses
from typing import Any

from finetune_geometry.estimates.estimate import Estimate, Stage
from finetune_geometry.estimates.lengths import PADDING
from finetune_geometry.estimates.machines import MEANINGS
from finetune_geometry.estimates.verdict import verdict

#: Columns of memory, disk and money: attribute, heading.
COLUMNS = {
    "gpu_gib": "GPU GiB",
    "host_gib": "host GiB",
    "disk_gib": "disk GiB",
    "download_gib": "fetched GiB",
    "money": "money",
}


def as_json(found: Estimate) -> dict[str, Any]:
    """Everything that the table shows, with the constants and where each is from."""
    machine = found.machine
    return {
        "profile": found.profile.name,
        "device": machine.name,
        "device_is_here": not machine.assumed_device,
        "verdict": verdict(found),
        "stages": [_hours(stage) for stage in found.stages],
        "total": {
            "hours": found.total("seconds") / 3600,
            "hours_low": found.total("low") / 3600,
            "hours_high": found.total("high") / 3600,
            "flops": found.total("flops"),
            **{name: found.total(name) for name in COLUMNS},
        },
        "tokens": dataclasses.asdict(found.lengths),
        "padding": PADDING,
        "constants": {
            name: {
                "value": constant.value,
                "from": "measured on this machine" if constant.measured else "assumed",
                "meaning": MEANINGS[name],
            }
            for name, constant in machine.constants.items()
        },
    }


def _hours(stage: Stage) -> dict[str, Any]:
    kept = dataclasses.asdict(stage)
    hours = {
        "hours": kept.pop("seconds") / 3600,
        "hours_low": kept.pop("low") / 3600,
        "hours_high": kept.pop("high") / 3600,
    }
    kept["speed"] = "measured" if kept.pop("measured") else "assumed"
    return {"name": kept.pop("name"), **hours, **kept}


def show(found: Estimate) -> None:
    """Print the table of stages, what it rests on, and the verdict."""
    from rich.console import Console  # kept here: the workflow asks for numbers alone
    from rich.table import Table

    console, machine = Console(highlight=False), found.machine
    table = Table(title=f"{found.profile.name} on {machine.name}", title_justify="left")
    table.add_column("stage")
    for heading in ("time", "from", "to", *COLUMNS.values()):
        table.add_column(heading, justify="right")
    table.add_column("speed")
    for stage in found.stages:
        times = (stage.seconds, stage.low, stage.high)
        table.add_row(
            stage.name + (" *" if stage.note else ""),
            *map(duration, times),
            *(_amount(name, getattr(stage, name)) for name in COLUMNS),
            "" if not stage.flops else "measured" if stage.measured else "assumed",
        )
    table.add_section()
    sums = [found.total(name) for name in ("seconds", "low", "high")]
    table.add_row(
        "sum (memory: largest)",
        *map(duration, sums),
        *(_amount(name, found.total(name)) for name in COLUMNS),
        "",
    )
    console.print(table)
    for stage in found.stages:
        if stage.note:
            console.print(f"* {stage.name}: {stage.note}")
    console.print(_texts(found))
    for name, constant in machine.constants.items():
        origin = "measured on this machine" if constant.measured else "assumed"
        console.print(f"  {constant.value:>10.4g}  {origin:<24}  {MEANINGS[name]}")
    if not machine.gpu_gib:
        console.print("Times are those of one job; two cores run two at a time.")
    console.print(f"Verdict: {verdict(found)}.", style="bold")


def _texts(found: Estimate) -> str:
    text = found.lengths
    origin = "measured in this run" if text.measured else "assumed"
    return (
        f"Tokens ({origin}): {text.prompt:.0f} a prompt, {text.completion:,.0f} a rollout, "
        f"{text.answer:.0f} an answer; {PADDING:.0%} of a training's positions are padding.\n"
        "Constants:"
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    if seconds == 0:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _amount(name: str, value: float) -> str:
    if not value:
        return ""
    return f"{value:,.2f}" if name in ("money", "disk_gib") and value < 10 else f"{value:,.1f}"
