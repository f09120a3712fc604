"""Machines: what one can do in a second, each figure measured on it or assumed.

Figures of a GPU's maker are assumed, too: what our code reaches of them is known only where
`finetune-geometry calibrate` was run (it writes MEASURED in the folder of all runs).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_geometry.estimates.architecture import Architecture
from finetune_geometry.runs.folders import results_root
from finetune_geometry.settings.errors import UserError, closest

MEASURED = "machine.json"  # in the folder of all runs
CPU = "cpu"
GIB = 2**30
PATIENCE = 60  # seconds that the driver has to answer


@dataclass(frozen=True)
class Constant:
    """A figure and where it is from; `low` and `high` are how far an assumed one may be off."""

    value: float
    measured: bool = False
    low: float = 0.0  # the slow end
    high: float = 0.0

    def at(self, end: str) -> Constant:
        """This constant at its "low" or "high" end; a measured one stays as it is."""
        value = getattr(self, end)
        return self if self.measured or not value else replace(self, value=value)


#: What the constants mean, for the table that is shown with an estimate.
MEANINGS = {
    "matrix_rate": "matrix products, operations a second",
    "bandwidth": "memory, bytes a second",
    "training_share": "share of the matrix rate that training reaches",
    "reading_share": "share of the matrix rate that reading given texts reaches",
    "writing_share": "share of the matrix rate that sampling reaches",
    "bandwidth_share": "share of the bandwidth that sampling reaches",
    "layer_seconds": "seconds a layer that each step of sampling takes beside its arithmetic",
    "step_seconds": "seconds of scheduling at each step of continuous batching",
    "mixture_reading": "times as long, reading with adapters beside the base",
    "mixture_writing": "times as long, sampling with adapters beside the base",
    "start_seconds": "seconds a notebook takes to start and to import",
}

#: Where nothing was measured. On a GPU, training: 0.19 is what public figures give for stock
#: transformers, 0.41 for a tuned LoRA recipe at 4k tokens. A CPU's are those of the reference run.
ASSUMED: dict[str, dict[str, Constant]] = {
    "gpu": {
        "training_share": Constant(0.30, low=0.19, high=0.41),
        "reading_share": Constant(0.40, low=0.25, high=0.55),
        "writing_share": Constant(0.40, low=0.25, high=0.55),
        "bandwidth_share": Constant(0.65, low=0.40, high=0.80),
        "layer_seconds": Constant(1.2e-3, low=2.4e-3, high=0.6e-3),
        "step_seconds": Constant(2e-3, low=8e-3, high=1e-3),
        "mixture_reading": Constant(1.3, low=1.6, high=1.1),
        "mixture_writing": Constant(1.5, low=2.0, high=1.2),
        "start_seconds": Constant(20.0, low=40.0, high=10.0),
    },
    CPU: {
        "matrix_rate": Constant(1.0e11, low=4.0e10, high=2.0e11),  # of one thread
        "bandwidth": Constant(1.0e10, low=5e9, high=2e10),
        "training_share": Constant(0.30, low=0.15, high=0.5),
        "reading_share": Constant(0.40, low=0.2, high=0.6),
        "writing_share": Constant(0.30, low=0.15, high=0.5),
        "bandwidth_share": Constant(0.5, low=0.3, high=0.8),
        "layer_seconds": Constant(5e-4, low=1e-3, high=2e-4),
        "step_seconds": Constant(0.0),
        "mixture_reading": Constant(1.3, low=1.6, high=1.1),
        "mixture_writing": Constant(1.5, low=2.0, high=1.2),
        "start_seconds": Constant(5.0, low=10.0, high=3.0),
    },
}

#: Name: memory (GiB), dense bf16 operations and bytes a second, as the makers print them.
GPUS: dict[str, tuple[float, float, float]] = {
    "b200": (178.0, 2.25e15, 8.0e12),
    "h200": (139.0, 9.89e14, 4.8e12),
    "h100": (79.0, 9.89e14, 3.35e12),
    "a100-80": (79.0, 3.12e14, 2.04e12),
    "a100-40": (39.0, 3.12e14, 1.56e12),
    "l40s": (44.0, 3.62e14, 8.64e11),
    "a6000": (47.0, 1.55e14, 7.68e11),
    "5090": (31.0, 2.09e14, 1.79e12),
    "4090": (23.5, 1.65e14, 1.01e12),
    "3090": (23.5, 7.1e13, 9.36e11),
    "l4": (22.0, 1.21e14, 3.0e11),
    "t4": (14.7, 6.5e13, 3.2e11),
}


@dataclass(frozen=True)
class Machine:
    """One device that computes, and the host around it."""

    name: str
    gpu_gib: float  # 0: a CPU
    host_gib: float  # 0: not known, for the device is not this machine's
    constants: Mapping[str, Constant]
    assumed_device: bool = False  # it is not this machine's

    @property
    def kind(self) -> str:
        return "gpu" if self.gpu_gib else CPU

    def __getitem__(self, name: str) -> float:
        return self.constants[name].value

    def at(self, end: str) -> Machine:
        """This machine with every assumed constant at its "low" or "high" end."""
        return replace(self, constants={name: c.at(end) for name, c in self.constants.items()})


def shape_key(shape: Architecture) -> str:
    """What the speed of small steps hangs on, as text."""
    return f"{shape.layers} layers of {shape.width}, {shape.vocabulary} tokens"


def machine_for(
    gpu: str, shape: Architecture | None = None, threads: int = 1, needs_gpu: bool = False
) -> Machine:
    """The machine to estimate for.

    gpu: a name of GPUS or "cpu"; empty: what is here, and an H100 where a profile that needs a GPU
    finds none. shape: of the model, whose speed may have been measured. threads: that one job
    takes of a CPU.
    """
    name = gpu.lower().removeprefix("nvidia ").removeprefix("rtx ").replace(" ", "-")
    if name and name != CPU and name not in GPUS:
        raise UserError(f"unknown device {gpu!r}: --gpu: {closest(name, [*GPUS, CPU])}")
    here = gpu_here() if name != CPU else None
    if not name and here is None and needs_gpu:
        name = "h100"
    if name == CPU or (not name and here is None):
        return _with_measured(Machine(CPU, 0.0, host_gib(), _cpu(threads)), CPU, shape, threads)
    listed = name or (here[2] if here else "")
    memory, rate, bandwidth = GPUS.get(listed, GPUS["l4"])
    if here and not name:
        memory = here[1]
    constants = ASSUMED["gpu"] | {
        "matrix_rate": Constant(rate, low=rate * 0.8, high=rate),
        "bandwidth": Constant(bandwidth, low=bandwidth * 0.8, high=bandwidth),
    }
    own = here is not None and listed == here[2]
    machine = Machine(
        here[0] if here and own else listed,
        memory,
        host_gib() if own else 0.0,
        constants,
        assumed_device=not own,
    )
    return _with_measured(machine, "gpu", shape, threads) if own else machine


def _cpu(threads: int) -> dict[str, Constant]:
    one = ASSUMED[CPU]["matrix_rate"]
    rate = Constant(one.value * threads, low=one.low * threads, high=one.high * threads)
    return ASSUMED[CPU] | {"matrix_rate": rate}


def _with_measured(
    machine: Machine, kind: str, shape: Architecture | None, threads: int
) -> Machine:
    """The machine with what `calibrate` found on it, for these threads and this shape of model."""
    found = measured_here().get(kind)
    if not found or found["device"] != (machine.name if kind == "gpu" else CPU):
        return machine
    if kind == CPU and found["threads"] != threads:
        return machine
    values = found["constants"] | (found["shapes"].get(shape_key(shape), {}) if shape else {})
    known = {name: Constant(float(value), measured=True) for name, value in values.items()}
    return replace(machine, constants={**machine.constants, **known})


def measured_here() -> dict[str, Any]:
    """What `calibrate` has written on this machine; empty if it was not run."""
    path = results_root() / MEASURED
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def keep_measured(found: Mapping[str, Any]) -> Path:
    """Write what `calibrate` found beside what was found earlier; returns the file."""
    path = results_root() / MEASURED
    kept = measured_here()
    for kind, new in found.items():
        old = kept.get(kind, {})
        same = all(old.get(key) == new[key] for key in ("device", "threads"))
        shapes = (old["shapes"] if same else {}) | new["shapes"]
        kept[kind] = {**new, "shapes": shapes}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


@functools.cache
def gpu_here() -> tuple[str, float, str] | None:
    """(full name, memory in GiB, name in GPUS or "") of a GPU here, asked of the driver.

    The first one that $CUDA_VISIBLE_DEVICES names, else the first there is. None where the driver
    knows none, or not by that name.
    """
    asked = shutil.which("nvidia-smi")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None or chosen in ("", "-1"):
        return None
    query = [asked, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if chosen is not None:
        query.append(f"--id={chosen.partition(',')[0].strip()}")
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):  # no program, or a driver that hangs
        return None
    name, _, memory = (done.stdout.splitlines() or [""])[0].partition(",")
    if done.returncode != 0 or not memory.strip().isdigit():
        return None
    words = name.lower().replace("-", " ").split()
    gib = int(memory) / 1024
    fits = [n for n, facts in GPUS.items() if n.partition("-")[0] in words]
    best = min(fits, key=lambda n: abs(GPUS[n][0] - gib), default="")
    return name.strip(), gib, best


def host_gib() -> float:
    """Memory of this machine in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def free_disk_gib() -> float:
    """Free space where runs are kept, in GiB."""
    root: Path = results_root()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    return shutil.disk_usage(there).free / GIB
