"""An estimate for people (a table) and for programs (JSON)."""

from __future__ import annotations

import dataclasses
from typing import Any

from finetune_geometry.estimates.estimate import Estimate, Stage
from finetune_geometry.estimates.lengths import PADDING
from finetune_geometry.estimates.machines import MEANINGS
from finetune_geometry.estimates.verdict import verdict

WIDTH = 90  # characters that the table takes
#: Columns of memory, disk and money: attribute, heading.
COLUMNS = {
    "gpu_gib": "GPU",
    "host_gib": "host",
    "disk_gib": "disk",
    "download_gib": "fetched",
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
            "hours_asked": found.total("seconds", asked=True) / 3600,
            "device_hours": found.device_seconds / 3600,
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
    # Kept here: the workflow asks for numbers alone.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    machine = found.machine
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    title = f"{found.profile.name} on {machine.name} (memory, disk, what is fetched: GiB)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("from, to", no_wrap=True)
    used = [name for name in COLUMNS if any(getattr(stage, name) for stage in found.stages)]
    for name in used:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    for stage in found.stages:
        table.add_row(
            stage.name.rpartition("/")[2] + (" *" if stage.note else ""),
            duration(stage.seconds) + ("" if stage.measured or not stage.flops else " ~"),
            _range(stage.low, stage.high),
            *(_amount(getattr(stage, name)) for name in used),
        )
    table.add_section()
    for words, asked in {"sum (memory: most)": False, "with what must be asked for": True}.items():
        table.add_row(
            words,
            duration(found.total("seconds", asked)),
            _range(found.total("low", asked), found.total("high", asked)),
            *(_amount(found.total(name, asked)) for name in used),
        )
    console.print(table)
    if any(stage.flops and not stage.measured for stage in found.stages):
        console.print("~ at an assumed speed: the range is what the assumptions leave open")
    device = "the GPU" if machine.gpu_gib else "the processor"
    console.print(f"With a model on {device}: {duration(found.device_seconds)}")
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


def _range(low: float, high: float) -> str:
    """From and to, where they differ."""
    return "" if duration(low) == duration(high) else f"{duration(low)}, {duration(high)}"


def _amount(value: float) -> str:
    if not value:
        return ""
    return f"{value:,.1f}" if value >= 0.05 else "<0.1"
