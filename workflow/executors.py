"""Where a run's steps are executed: what of workflow/profiles/, with what arguments.

A fault that a person can mend is told before anything starts: a place that does not exist, a value
that the place's file leaves open, a plugin or a command that is missing, a GPU that is.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpus
import yaml

from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.profiles import Profile

PROFILES = Path(__file__).resolve().parent / "profiles"
OPEN = "EDIT-ME"
CLUSTER = "the extra `cluster`: .venv/bin/pip install --constraint constraints.txt -e '.[cluster]'"
#: executor -> its package, and the command that must be there
NEEDS = {
    "slurm": ("snakemake_executor_plugin_slurm", "sbatch"),
    "kubernetes-volume": ("snakemake_executor_plugin_kubernetes", ""),
}
#: What a job on another machine must know; Slurm passes on the whole environment anyway.
PASSED_ON = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "OPENAI_API_KEY")


@dataclass(frozen=True)
class Place:
    """Where steps run."""

    folder: Path  # in workflow/profiles
    executor: str = "local"
    arguments: list[str] = field(default_factory=list)  # of Snakemake
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        return self.executor != "local"


def place(name: str, profile: Profile) -> Place:
    """The place of that name; of none, this machine with a GPU where the profile needs one."""
    name = name or ("gpu" if profile.model.needs_gpu else "local")
    known = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))
    if name not in known:
        raise UserError(f"no executor {name!r}: EXECUTOR: {closest(name, known)}")
    path = PROFILES / name / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for key in open_values(config):
        raise UserError(f"{key} is not filled in: {path}: put your own in the place of {OPEN}")
    executor = config.get("executor", "local")
    package, command = NEEDS.get(executor, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise UserError(f"Snakemake lacks a plugin: EXECUTOR={name}: install {CLUSTER}")
    if command and shutil.which(command) is None:
        raise UserError(f"no {command} here: EXECUTOR={name}: start it where jobs are submitted")
    if executor == "local":
        needs_gpu = profile.model.needs_gpu
        processes = profile.training.processes
        arguments, environment = _gpus(processes) if needs_gpu else ([], {gpus.CLAIMABLE: ""})
        return Place(path.parent, executor, arguments, environment)
    if executor == "slurm":
        _known_to_slurm(config.get("default-resources") or {}, path)
    passed = [variable for variable in PASSED_ON if variable in os.environ]
    environment = {gpus.CLAIMABLE: ""}
    if (partitions := path.with_name("partitions.yaml")).is_file():
        environment["SNAKEMAKE_SLURM_PARTITIONS"] = str(partitions)  # of Slurm's plugin
    return Place(path.parent, executor, ["--envvars", *passed] if passed else [], environment)


def open_values(config: Any, key: str = "") -> Iterator[str]:
    """Names of the values that are still to be filled in."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from open_values(value, name)
    elif isinstance(config, list):
        for value in config:
            yield from open_values(value, key)
    elif OPEN in str(config):
        yield key


def _known_to_slurm(resources: dict[str, Any], path: Path) -> None:
    """Refuse an account or a partition that the cluster does not have, as far as it tells."""
    user = f"user={getpass.getuser()}"
    for what, command in (
        ("account", ["sacctmgr", "-nP", "show", "associations", user, "format=account"]),
        ("partition", ["sinfo", "--noheader", "--format", "%R"]),
    ):
        try:
            known = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        names = str(resources.get(f"slurm_{what}") or "").replace(",", " ").split()
        for name in names if known.split() else []:
            if name not in known.split():
                raise UserError(f"no {what} {name!r}: {path}: {closest(name, known.split())}")


def _gpus(processes: int) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a run on this machine's GPUs; processes: of one training."""
    devices = gpus.on_this_machine()
    if not devices:
        raise UserError(
            "no GPU here: nvidia-smi lists none, or CUDA_VISIBLE_DEVICES is empty: "
            "mend the driver, set CUDA_VISIBLE_DEVICES, or take EXECUTOR=slurm or kubernetes"
        )
    if processes > len(devices):
        raise UserError(
            f"{processes} processes of a training want a GPU each, {len(devices)} here: "
            f"training.processes: set it to {len(devices)} or less"
        )
    # A step on a GPU waits for it, not for a core: threads must not keep a device idle.
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    arguments = ["--resources", f"gpu={len(devices)}", "--max-threads", str(threads)]
    return arguments, {gpus.CLAIMABLE: ",".join(devices)}


def jobs_left(folder: Path) -> list[str]:
    """Numbers of the Slurm jobs of the run in this folder that are still queued or running.

    A run whose head was killed leaves them behind; beside a second one they would write the same
    files. An empty list where the queue cannot be asked: nothing can be submitted there, either.
    """
    command = ["squeue", "--me", "--noheader", "--format", "%i %Z"]
    try:
        queue = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line.split(maxsplit=1) for line in queue.stdout.splitlines()]
    return [number for number, *where in lines if where == [str(folder)]]
