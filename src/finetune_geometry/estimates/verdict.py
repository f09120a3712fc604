"""Whether a profile fits, and what can where it does not."""

from __future__ import annotations

import dataclasses
import operator
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from finetune_geometry.estimates.estimate import Estimate, cached, estimate
from finetune_geometry.estimates.machines import Machine, free_disk_gib, gpu_here, machine_for
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile, load_profile, profile_names

USABLE = 0.95  # of a memory: the rest is held by others
SMALLEST = "tiny"  # in time and in memory
PATIENCE = 14 * 86400.0  # seconds: nobody is advised to wait for longer


def misfit(found: Estimate) -> str:
    """What of an estimate does not fit on its machine, as half a sentence; empty if all does.

    Of a machine that is elsewhere only the GPU's memory is known.
    """
    machine = found.machine
    for what, has, kind in (
        ("gpu_gib", machine.gpu_gib, f"on the GPU, the {machine.name} has"),
        ("host_gib", machine.host_gib, "of memory, this machine has"),
    ):
        worst = max(found.stages, key=operator.attrgetter(what))
        needs = getattr(worst, what)
        if has and needs > has * USABLE:
            return f"{worst.name} needs {needs:.0f} GiB {kind} {has:.0f}"
    needs, free = found.total("disk_gib"), free_disk_gib()
    if not machine.assumed_device and needs > free:
        return f"it needs {needs:.0f} GiB of disk, {free:.0f} are free"
    return ""


def verdict(found: Estimate) -> str:
    """One line: it fits, or what does not and what to do."""
    profile, machine = found.profile, found.machine
    if profile.model.needs_gpu and not machine.gpu_gib:
        return f"does not fit: {profile.name} needs a GPU; {advice(profile, machine)}"
    lacking = misfit(found)
    if lacking:
        return f"does not fit: {lacking}; {advice(profile, machine)}"
    if machine.assumed_device:
        host, disk = found.total("host_gib"), found.total("disk_gib")
        return (
            f"fits on one {machine.name} beside {host:.0f} GiB of memory and {disk:.0f} of disk "
            "(assumed: there is none here)"
        )
    return f"fits on this machine ({machine.name})"


def advice(profile: Profile, machine: Machine) -> str:
    """A setting, or a shipped profile, with which it would fit on this machine."""
    if machine.gpu_gib or not profile.model.needs_gpu:
        for settings, changed in _smaller(profile):
            if not misfit(_on(changed, machine)):
                words = " ".join(f"{key}={value}" for key, value in settings.items())
                return f'it fits with SET="{words}"'
    for name in _largest_first(profile):
        other = load_profile(name)
        if other.model.needs_gpu and not machine.gpu_gib:
            continue
        try:
            found = _on(other, machine)
            if not misfit(found) and found.total("seconds") < PATIENCE:
                return f"the profile {name} fits"
        except UserError:  # a model whose shape is not known here
            continue
    return "no profile that ships with the project fits"


def _on(profile: Profile, machine: Machine) -> Estimate:
    return estimate(profile, machine=machine)


def _smaller(profile: Profile) -> Iterator[tuple[Mapping[str, Any], Profile]]:
    """The profile with settings that take less memory, from the least change on."""
    row = profile.model.max_length
    steps: list[dict[str, Any]] = [
        {"training.gradient_checkpointing": "auto"},
        {"training.gradient_checkpointing": "auto", "training.micro_batch_tokens": 2 * row},
        {
            "training.gradient_checkpointing": "auto",
            "training.micro_batch_tokens": 2 * row,
            "evaluation.batch_size": 16,
            "rollouts.batch_size": 16,
        },
    ]
    for settings in steps:
        changed = profile
        for key, value in settings.items():
            section, _, name = key.partition(".")
            part = dataclasses.replace(getattr(changed, section), **{name: value})
            changed = dataclasses.replace(changed, **{section: part})
        yield settings, changed


def _largest_first(profile: Profile) -> list[str]:
    """Shipped profiles other than this one: those that need a GPU, then the quickest without."""
    names = [name for name in profile_names() if name not in (profile.name, "smoke")]
    order = {name: load_profile(name) for name in names}
    return sorted(names, key=lambda n: (not order[n].model.needs_gpu, n != SMALLEST, n))


def refuse_what_cannot_fit(profile: Profile, run: str = "") -> None:
    """Raise UserError in one line where this machine cannot hold the profile.

    What is not known here passes: a model before it is fetched, a GPU whose driver tells nothing.
    Quick: no torch, and no driver is asked unless the profile needs a GPU.
    """
    if profile.model.needs_gpu and gpu_here() is None:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # as with devices of another make
        if shutil.which("nvidia-smi") or named not in ("", "-1"):
            return
        machine = machine_for("cpu", threads=profile.training.threads)
        raise UserError(
            f"no GPU here, and {profile.name} needs one: model.needs_gpu: "
            f"{advice(profile, machine)}; `finetune-geometry estimate --profile {profile.name} "
            "--gpu h100` tells what one would do"
        )
    try:
        found = estimate(profile, run=run)
    except UserError:
        return
    lacking = misfit(found)
    if lacking:
        raise UserError(f"{profile.name} does not fit: {lacking}: {advice(profile, found.machine)}")


def runtime_minutes(profile: Profile, stage: str) -> int:
    """Minutes that a scheduler should give a job: thrice what is expected, a quarter of an hour
    at least. `stage`: a job's name, "methods/sft"."""
    found = cached(profile)
    return 15 if found is None else max(15, round(3 * found.stage(stage).seconds / 60))


def memory_mb(profile: Profile, stage: str) -> int:
    """Memory of the host in MB that a scheduler should give a job."""
    found = cached(profile)
    gib = 4.0 if found is None else found.stage(stage).host_gib
    return round(gib * 1.05 * 1000)
