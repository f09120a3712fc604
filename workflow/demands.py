"""What a step demands of the machine that runs it: a GPU, memory, time.

Light, like jobs.py: the workflow asks each time it plans.
"""

from __future__ import annotations

from gpus import AS_IT_IS, NONE
from jobs import Job

from finetune_geometry.estimates.verdict import memory_mb, runtime_minutes
from finetune_geometry.settings.profiles import Profile

# MiB, and minutes. Of `tiny` the most that a notebook took was 2,165 MiB (its kernel alone, without
# papermill and Snakemake around it) and four minutes on a quiet core; a node may be ten times as
# slow. Nobody waits for time that is not used, and what ran out of it goes on when started again.
ON_A_CPU = (3000, 60)
# A scheduler kills what takes more than it asked for, and the estimates are no more than that: half
# as much again, and room for the libraries.
LIBRARIES = 4000


def needs_gpu(job: Job, profile: Profile) -> bool:
    """Whether the step loads a model, and the profile wants that on a GPU."""
    elsewhere = job.stem == "rollouts" and profile.rollouts.source != "model"
    return profile.model.needs_gpu and job.loads_model and not elsewhere


def gpus_of(job: Job, profile: Profile) -> int:
    """How many GPUs the step computes on: as many as processes share a training."""
    count = profile.training.processes if "training" in job.settings else 1
    return count if needs_gpu(job, profile) else 0


def gpu_of(job: Job, profile: Profile) -> str:
    """Which GPUs the step may see, in the words of gpus.py."""
    if not profile.model.needs_gpu:
        return AS_IT_IS
    return str(count) if (count := gpus_of(job, profile)) else NONE


def resources_of(job: Job, profile: Profile) -> dict[str, int]:
    """Snakemake's resources of a step: memory (`mem_mb`), minutes (`runtime`), GPUs (`gpu`).

    `gpu` is left out where there is none: to Kubernetes none is a request, too.
    """
    memory, minutes = ON_A_CPU
    if profile.model.needs_gpu:
        estimated = memory_mb(profile, job.name)
        if needs_gpu(job, profile):  # whatever it does, the weights come through the host's memory
            estimated = max(estimated, memory_mb(profile, "methods/sft"))
        memory = LIBRARIES + 3 * estimated // 2
        minutes = max(60, runtime_minutes(profile, job.name))
    gpu = {"gpu": count} if (count := gpus_of(job, profile)) else {}
    return {"mem_mb": memory, "runtime": minutes, **gpu}
