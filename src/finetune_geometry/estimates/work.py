"""What each chapter of the book computes in a profile: trainings, answers, texts that are read.

A mirror of the notebooks, by the names that `workflow/jobs.py` gives them; a test compares.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from finetune_geometry.estimates.lengths import (
    AIME_ANSWER,
    PADDING,
    PAIRED_LONGER,
    SPREAD,
    Lengths,
)
from finetune_geometry.settings.objectives import METHODS, OBJECTIVES
from finetune_geometry.settings.profiles import Profile, load_profile
from finetune_geometry.settings.repetitions import CHAPTERS, MEASUREMENTS
from finetune_geometry.settings.variations import ANSWERING, kind_of, variations

AIME_PROBLEMS = 30
#: Positions that are read together for each of `evaluation.batch_size`: `geometry.line_scores` and
#: `geometry.hidden_states` have the same numbers.
LINE_TOKENS, STATE_TOKENS = 32, 64
TREATED = 42  # models of the chapter on causes
SWEEP = 2  # further learning rates that the chapter on the learning rate trains at


@dataclass(frozen=True)
class Trained:
    """One training: positions that its steps compute, and what a micro-batch holds."""

    positions: float  # padding included, all sequences
    length: float  # mean of a row, padded
    scored: float  # share of the positions that are completion
    micro_tokens: float  # of the largest micro-batch
    reference: float = 0.0  # positions read once by the base without adapter


@dataclass(frozen=True)
class Written:
    """Answers sampled from a model of the role "base" or "teacher"."""

    answers: float
    prompts: float  # different ones: equal prompts are read once
    prompt: float  # tokens
    new: float  # tokens of a mean answer
    longest: float  # tokens at most
    batch: int
    role: str = "base"
    adapted: bool = False  # adapters beside the base
    models: int = 1  # that write equally many of the answers: on a GPU one after another


@dataclass(frozen=True)
class Read:
    """Given texts that a model reads."""

    tokens: float
    length: float
    scored: float  # share whose logits are computed
    passing: float  # positions of one forward pass, or those of the longest text
    kept: float = 0.0  # hidden states kept on the host, tokens x models


@dataclass(frozen=True)
class Host:
    """Work of the processor alone."""

    seconds: float
    gib: float = 0.8


@dataclass(frozen=True)
class Asked:
    """Rollouts of an endpoint."""

    answers: float
    prompt: float
    new: float


Item = Trained | Written | Read | Host | Asked


def work(profile: Profile, text: Lengths) -> dict[str, tuple[Item, ...]]:
    """The work of each chapter by its job's name, in the order of the book."""
    test = _answers(profile, profile.problems.test, text, adapted=True)
    competition = AIME_PROBLEMS if profile.problems.aime_dataset else 0
    hard = dataclasses.replace(
        test,
        answers=competition,
        prompts=competition,
        new=min(AIME_ANSWER, float(profile.evaluation.max_new_tokens)),
    )
    validation = _answers(profile, profile.problems.validation, text)
    sft = trained(profile, "sft", text)
    # Its answers ship with the models of the reference run.
    base = () if is_reference(profile) else (dataclasses.replace(test, adapted=False),)
    jobs: dict[str, tuple[Item, ...]] = {
        "ingredients/base_model": (validation, *_of_teacher(profile, validation)),
        "ingredients/rollouts": (_rollouts(profile, text), Host(_verify(profile))),
        "ingredients/lora_delta": (Host(1.0),),
        **{f"methods/{name}": (trained(profile, name, text),) for name in METHODS},
        "ingredients/learning_rate": (
            *(sft,) * SWEEP,
            *(dataclasses.replace(validation, adapted=True),) * (SWEEP + 2),
        ),
        **{f"geometry/{name}": _geometry(profile, name) for name in _GEOMETRY},
        "geometry/mode_connectivity": _lines(profile, text),
        "geometry/cka": _cka(profile, text),
        "evaluation/accuracy": (
            *(test, hard) * len(METHODS),
            *base,
            dataclasses.replace(hard, adapted=False),
            *(_of_teacher(profile, *base)),
        ),
        "controls/reshuffled": (sft,),
        "controls/second_seed": (sft, *_lines(profile, text, one=True), test, test),
        "controls/matched_rate": (sft, trained(profile, "dpo", text), test, test),
        **_further(profile, text, test, validation),
        "controls/another_base": (Host(5.0),),
        "evaluation/released_weights": (Host(5.0),),  # fetched and measured only when asked for
        "evaluation/verdict": (Host(1.0),),
        "your_adapters": _geometry(profile, "your_adapters"),
        "book": (Host(60.0 if profile.problems.source == "hub" else 6.0),),
    }
    return jobs


def _further(
    profile: Profile, text: Lengths, test: Written, validation: Written
) -> dict[str, tuple[Item, ...]]:
    """The chapters that repeat the trainings, and these trainings themselves."""
    if not CHAPTERS:
        return {}
    chapters = [MEASUREMENTS[name] for name in CHAPTERS]
    read = {name for m in chapters for cell in m.cells(profile) for name in m.adapters(cell)}
    every = [one for one in variations(profile).values() if one.name in read]
    answers = (test,) * sum(kind_of(one) in ANSWERING for one in every)
    adapters = len(METHODS) * (cells := len(MEASUREMENTS["ray"].cells(profile)))
    point = dataclasses.replace(validation, adapted=True)
    on_rays = len(profile.geometry.ray_factors) * adapters
    found: dict[str, tuple[Item, ...]] = {
        "ray": (*(point,) * on_rays, *(test,) * adapters),
        "annealed": (point,) * on_rays,
        "causes": (point,) * (TREATED * cells),
        **dict.fromkeys(("path", "spread"), (Host(5.0),)),
        "behaviour": (Host(20.0),) * len(MEASUREMENTS["behaviour"].cells(profile)),
    }
    return {
        "controls/trainings": (*(trained(profile, v.method, text) for v in every), *answers),
        **{f"controls/{name}": found[name] for name in CHAPTERS},
    }


@functools.lru_cache(maxsize=4)
def _reference() -> dict[str, object]:
    return load_profile("tiny").flat()


def is_reference(profile: Profile) -> bool:
    """Whether these are the settings of the run that ships with the project."""
    return profile.flat() == _reference()


def trained(profile: Profile, method: str, text: Lengths) -> Trained:
    """The training of one objective."""
    settings, paired = profile.training_of(method), OBJECTIVES[method].paired
    sequences, row = 1, text.row
    if paired:
        sequences, row = 2, min(text.row * PAIRED_LONGER, float(text.longest))
    length = row / (1 - PADDING)
    positions = settings.steps * settings.batch_size * sequences * length
    reference = 0.0
    if OBJECTIVES[method].variant(profile.methods[method].variant).needs_reference:
        # Of pairs once for each; one group in twenty or so is mixed. Without knowledge: one in
        # eight. Of rows at every step.
        reference = profile.rollouts.prompts / 8 * sequences * length if paired else positions
    longest = -(-text.longest // 32) * 32
    micro = settings.micro_batch_size * sequences * longest
    if settings.micro_batch_tokens:
        micro = max(settings.micro_batch_tokens, longest * sequences)
    share = (row - text.prompt) / length
    return Trained(positions, length, share, float(micro), reference)


def _answers(profile: Profile, count: int, text: Lengths, adapted: bool = False) -> Written:
    return Written(
        answers=count,
        prompts=count,
        prompt=text.prompt,
        new=text.answer,
        longest=float(profile.evaluation.max_new_tokens),
        batch=profile.evaluation.batch_size,
        adapted=adapted,
    )


def _of_teacher(profile: Profile, *items: Item) -> tuple[Item, ...]:
    """The same answers by the teacher, where it is at hand."""
    if profile.rollouts.source != "model":
        return ()
    return tuple(
        dataclasses.replace(item, role="teacher", adapted=False)
        for item in items
        if isinstance(item, Written)
    )


def _rollouts(profile: Profile, text: Lengths) -> Item:
    settings = profile.rollouts
    prompts = settings.prompts + settings.heldout_prompts
    if settings.source == "endpoint":
        return Asked(prompts * settings.k, text.prompt, text.completion)
    if settings.source == "traces":
        return Host(prompts * settings.k * 2e-3, gib=4.0)  # reading and sorting a data set
    return Written(
        answers=prompts * settings.k,
        prompts=prompts,
        prompt=text.prompt,
        new=text.completion,
        longest=float(settings.max_new_tokens),
        batch=settings.batch_size,
        role="teacher",
    )


def _verify(profile: Profile) -> float:
    """Seconds of checking every rollout: 1.1 ms each, measured (math-verify)."""
    settings = profile.rollouts
    return (settings.prompts + settings.heldout_prompts) * settings.k * 1.1e-3


def _lines(profile: Profile, text: Lengths, one: bool = False) -> tuple[Item, ...]:
    """The points of the chapter on mode connectivity, or of one line between two adapters."""
    settings, ends = profile.geometry, len(METHODS) + 1
    inside = settings.lmc_alphas - 2
    # Lines of each metric: from SFT to all others and two of the paper's; the paper's three and
    # two to compare with; one of the paper's and these two. The ends are shared.
    lines = (1, 1, 1) if one else (len(METHODS) + 2, 5, 3)
    read, boxed, answered = (n * inside + (2 if one else ends) for n in lines)
    test = _answers(profile, settings.lmc_answered, text, adapted=True)
    box = text.prompt + 8
    return (
        Read(
            *(read * settings.lmc_rows * text.row, text.row, text.completion / text.row),
            passing=LINE_TOKENS * profile.evaluation.batch_size,
        ),
        Read(
            *(boxed * settings.lmc_problems * box, box, 8 / box),
            passing=LINE_TOKENS * profile.evaluation.batch_size,
        ),
        dataclasses.replace(
            test,
            answers=answered * settings.lmc_answered,
            prompts=answered * settings.lmc_answered,
            models=answered,
        ),
    )


def _cka(profile: Profile, text: Lengths) -> tuple[Item, ...]:
    models, settings = len(METHODS) + 1, profile.geometry
    tokens = min(settings.cka_tokens, settings.cka_rows * text.completion)
    read = models * settings.cka_rows * text.row
    passing = STATE_TOKENS * profile.evaluation.batch_size
    return (Read(read, text.row, 0.0, passing, kept=tokens * models),)


#: Seconds of a chapter for 144 modules of a model of width 2,560 and seven adapters. The first is
#: measured on adapters of random numbers (book/compare_cost.csv), the others in proportion to it
#: as in the reference run.
_GEOMETRY = {"cosine": 12.0, "principal_angles": 6.0, "orthogonal_fraction": 6.0}


def _geometry(profile: Profile, name: str) -> tuple[Item, ...]:
    # Of 144 modules, 36 blocks of four; `estimate` knows how many there are, and how wide.
    return (Host(_GEOMETRY.get(name, 6.0)),)


def steps_of(item: Written) -> float:
    """Steps of sampling, batch by batch: each goes on until its longest answer has ended."""
    batches = -(-item.answers // item.batch)
    return batches * min(item.new * SPREAD, item.longest)


def held_tokens(item: Written) -> float:
    """Tokens in the cache, for each row of a batch, where most are held.

    Rows leave as they end, evenly between nothing and SPREAD times the mean, and the others grow.
    """
    last = min(item.new * SPREAD, item.longest)
    if item.prompt >= last:
        return item.prompt
    return (item.prompt + last) ** 2 / (4 * last)
