"""How long texts are: what the run's pool tells, else what is assumed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from finetune_geometry.runs.folders import results_root
from finetune_geometry.settings.profiles import Profile

GENERATED = (78.0, 79.0, 77.0)  # measured: the reference run's prompts, rollouts and answers
REAL = (120.0, 1000.0, 300.0)  # assumed: competition problems, answers to GSM8K
#: Assumed, of public traces: by the words that their cards count, 1.6 tokens a word.
TRACES = {
    "PrimeIntellect/NuminaMath-QwQ-CoT-5M": 2000.0,
    "open-r1/OpenR1-Math-220k": 4700.0,
    "lime-nlp/DeepScaleR_Difficulty": 700.0,
}
CUT, FITTING = 0.6, 0.35  # of the room, at most: assumed
AIME_ANSWER = 2500.0  # assumed: tokens; one problem is long
PADDING = 0.19  # of the positions a step computes, measured: the reference run's trainings
#: A pair's rollouts are of mixed groups, whose problems are harder: measured in the reference run.
PAIRED_LONGER = 1.15
LONGEST_PROMPT = 1.9  # against the mean, measured: the generated problems
SPREAD = 2.0  # the longest of a batch against its mean, measured in the reference run


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt, a rollout and an answer, and the longest row of the pool."""

    prompt: float
    completion: float
    answer: float
    longest: int
    measured: bool  # from the pool of the run

    @property
    def row(self) -> float:
        return self.prompt + self.completion


def lengths_of(profile: Profile, run: str = "") -> Lengths:
    """Of a profile: from its run's card where the pool is there, else assumed."""
    generated = profile.problems.source == "generated"
    prompt, completion, answer = GENERATED if generated else REAL
    rollouts = profile.rollouts
    if rollouts.source == "traces":
        completion = TRACES.get(rollouts.traces.dataset, completion)
    room = profile.model.max_length - prompt
    if rollouts.source != "traces":
        room = min(room, float(rollouts.max_new_tokens))
    # What is longer is cut off; of traces whole groups are left out, and those that stay are short.
    completion = min(completion, (FITTING if rollouts.source == "traces" else CUT) * room)
    longest, measured = prompt * LONGEST_PROMPT + room, False
    card = results_root() / (run or profile.name) / "rollouts" / "card.json"
    if card.is_file():
        found = json.loads(card.read_text(encoding="utf-8"))
        completion, measured = float(found["mean_tokens"]), True
        longest = prompt * LONGEST_PROMPT + float(found["max_tokens"])
    longest = min(longest, float(profile.model.max_length))
    answer = min(answer, float(profile.evaluation.max_new_tokens))
    return Lengths(prompt, completion, answer, int(longest), measured)
