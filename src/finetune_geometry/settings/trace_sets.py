"""The public data sets of verified generations: what each is, and which of its files are needed.

Kept below everything else, so that fetching can ask it. How a row is read is told in
`rollouts/trace_readers.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune_geometry.settings.errors import UserError

if TYPE_CHECKING:
    from finetune_geometry.settings.profiles import Profile


@dataclass(frozen=True)
class TraceSet:
    """A data set in which several language models' answers to a problem were checked.

    files: patterns of its files, in their order; {part} is the number of one of `parts`.
    usual_k: responses that most of its problems have; groups: problems with so many that a file
    is reckoned to give, after all that is left out (an estimate, on the low side).
    revision: commit on the hub that a profile without one takes; empty: the newest.
    temperature: of the sampling, where its authors state it.
    """

    name: str
    licence: str
    files: str
    parts: int = 1
    usual_k: int = 4
    groups: int = 1
    revision: str = ""
    temperature: float | None = None
    on_hub: bool = True

    def patterns(self, groups: int, k: int, parts: int | None = None) -> tuple[str, ...]:
        """Patterns of the first files, those that should hold `groups` problems of K responses.

        parts: so many files, whatever the estimate says.
        """
        if parts is None:
            parts = math.ceil(groups / self.groups) if k <= self.usual_k else self.parts
        return tuple(self.files.format(part=f"{n:05d}") for n in range(min(parts, self.parts)))


TRACE_SETS = {
    one.name: one
    for one in (
        TraceSet(
            "PrimeIntellect/NuminaMath-QwQ-CoT-5M",
            licence="MIT",
            files="data/train-{part}-of-*.parquet",
            parts=88,  # of 58,000 rows, 9,700 problems with six responses each on average
            groups=4_000,
        ),
        TraceSet(
            "lime-nlp/DeepScaleR_Difficulty",
            licence="MIT",
            files="Qwen2.5-Math-7B--deepscaler.csv",  # 17 GB in one piece
            usual_k=128,
            groups=40_000,
            temperature=0.6,
        ),
        TraceSet(
            "open-r1/OpenR1-Math-220k",
            licence="Apache-2.0",
            files="data/train-{part}-of-*.parquet",
            parts=10,  # of 9,400 problems
            usual_k=2,
            groups=6_000,
            revision="e4e141ec9dea9f8326f4d347be56105859b2bd68",
        ),
        TraceSet(
            "openai/grade-school-math",
            licence="MIT",
            files="*model_solutions.jsonl*",
            groups=1_319,
            on_hub=False,  # a repository of code; named by rollouts.traces.folder
        ),
    )
}
"""By name."""


def trace_set(name: str) -> TraceSet:
    """The data set of a name; raises UserError, which lists those there are."""
    if name not in TRACE_SETS:
        known = ", ".join(TRACE_SETS)
        raise UserError(f"unknown data set {name!r}: rollouts.traces.dataset: use one of {known}")
    return TRACE_SETS[name]


def needed_files(profile: Profile) -> tuple[str, ...]:
    """Patterns of the files that a profile's traces are read from, in their order.

    Decided before anything is fetched. Raises UserError for an unknown data set, for one that is on
    no hub and has no folder, and for fewer than one file.
    """
    settings = profile.rollouts
    one = trace_set(settings.traces.dataset)
    if not one.on_hub and not settings.traces.folder:
        raise UserError(
            f"not on the hub: {one.name}: set rollouts.traces.folder to where {one.files} lies"
        )
    files = settings.traces.files
    if files is not None and files < 1:
        raise UserError(f"rollouts.traces.files = {files}: out of range: it must be at least 1")
    wanted = settings.prompts + settings.heldout_prompts
    return one.patterns(wanted, settings.k, files)
