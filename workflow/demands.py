"""What a step demands of the machine that runs it: a GPU, memory, time.

Light, like jobs.py: the workflow asks each time it plans.
"""

from __future__ import annotations

from gpus import AS_IT_IS, NONE, ONE
from jobs import Job

from finetune_geometry.settings.profiles import Profile

# MiB, and minutes. Of `tiny` the most that a notebook took was 2,165 MiB (its kernel alone, without
# papermill and Snakemake around it) and four minutes on a quiet core; a node may be ten times as
# slow. Nobody waits for time that is not used, and what ran out of it goes on when started again.
ON_A_CPU = (3000, 60)
# Of the profiles that need a GPU, assumed: host memory holds the weights twice while they load.
WITHOUT_THE_MODEL = (16_000, 60)
WITH_THE_MODEL = (48_000, 8 * 60)
LONG = {
    "rollouts": 24 * 60,
    "dpo": 16 * 60,  # two models on two completions
    "learning_rate": 24 * 60,  # several trainings each
    "second_seed": 24 * 60,
    "matched_rate": 24 * 60,
}


def needs_gpu(job: Job, profile: Profile) -> bool:
    """Whether the step loads a model, and the profile wants that on a GPU."""
    elsewhere = job.stem == "rollouts" and profile.rollouts.source != "model"
    return profile.model.needs_gpu and job.loads_model and not elsewhere


def gpu_of(job: Job, profile: Profile) -> str:
    """Which GPUs the step may see, in the words of gpus.py."""
    if not profile.model.needs_gpu:
        return AS_IT_IS
    return ONE if needs_gpu(job, profile) else NONE


def resources_of(job: Job, profile: Profile) -> dict[str, int]:
    """Snakemake's resources of a step: memory (`mem_mb`), minutes (`runtime`), GPUs (`gpu`).

    `gpu` is left out where there is none: to Kubernetes none is a request, too.
    """
    if not profile.model.needs_gpu:
        memory, minutes = ON_A_CPU
    elif needs_gpu(job, profile):
        memory, minutes = WITH_THE_MODEL
        minutes = LONG.get(job.stem, minutes)
    else:
        memory, minutes = WITHOUT_THE_MODEL
    gpu = {"gpu": 1} if needs_gpu(job, profile) else {}
    return {"mem_mb": memory, "runtime": minutes, **gpu}
