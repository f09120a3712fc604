"""What a profile fetches, in GiB by repository."""

from __future__ import annotations

from finetune_geometry.estimates.architecture import Architecture, architecture_of
from finetune_geometry.estimates.machines import GIB
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.profiles import Profile

TOKENIZER = 0.02  # GiB
#: Rows and words of a data set, as its page tells them: 6 bytes a word, packed to 40 %.
SIZES = {
    "PrimeIntellect/NuminaMath-QwQ-CoT-5M": 5.1e6 * 1300 * 6 * 0.4 / GIB,
    "open-r1/OpenR1-Math-220k": 2.2e5 * 2.5 * 3000 * 6 * 0.4 / GIB,
}
DATASET = 0.1  # GiB of any other: assumed


def downloads(profile: Profile, shape: Architecture) -> dict[str, float]:
    """GiB by repository; a folder of the project is none. Weights on the hub are bf16."""
    model, problems, rollouts = profile.model, profile.problems, profile.rollouts
    found = {}
    if not _local(model.base):
        found[model.base] = shape.parameters * 2 / GIB + TOKENIZER
    if rollouts.source == "model" and not _local(model.teacher):
        teacher = architecture_of(model.teacher, model.teacher_revision)
        found[model.teacher] = teacher.parameters * 2 / GIB + TOKENIZER
    if problems.source == "hub":
        names = [problems.rollout_dataset, problems.test_dataset, problems.aime_dataset]
        if rollouts.source == "traces" and not rollouts.traces.folder:
            names.append(rollouts.traces.dataset)
        found |= {name: SIZES.get(name, DATASET) for name in names if name and not _local(name)}
    return found


def _local(name: str) -> bool:
    return (project_root() / name).exists()
