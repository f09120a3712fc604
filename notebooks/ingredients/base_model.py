# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (base-model)=
# # Problems, a student and a teacher
#
# **The answer.** The student has {number}`base_model.parameters:,` parameters and solves {number}`base_model.base_short:.0%` of the short problems and {number}`base_model.base_long:.0%` of the long ones, the teacher {number}`base_model.teacher_short:.0%` and {number}`base_model.teacher_long:.0%`.
#
# **What you will learn.** What the problems look like, how two models of {number}`base_model.parameters:,` parameters learnt to solve them from nothing, and where the student still fails. That gap is what fine-tuning will work on.
#
# ## Why a small world
#
# The paper fine-tunes a model of four billion parameters on competition mathematics. That needs a large GPU ([](../../book/cost)). The default experiment of this book needs two processor cores, so that you can change it and run it again. It is a small world, but a real one: the student really learns, the teacher really writes the solutions, and every answer is really checked.
#
# Three ingredients make the small world comparable with the large one. The models have the Qwen3 architecture, the one that the paper uses, with {number}`base_model.layers` layers. The problems need several steps of reasoning, written out one per line. And the student can do short problems before fine-tuning starts, as the paper's base model can do mathematics before it does.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
retrain: bool = False  # train both models again from nothing (about an hour on one core)
output: str = "results/models"  # folder of retrained models, relative to the project
student_problems: int = 100_000  # problems of 2-4 steps that the student is raised on
teacher_problems: int = 60_000  # problems of 2-8 steps that the teacher sees after that

# %% tags=["hide-input"]
import json

import pandas as pd

from finetune_geometry.evaluation.answers import predict
from finetune_geometry.figures.method_plots import accuracy_by_steps, pretraining_curves
from finetune_geometry.figures.palette import set_style
from finetune_geometry.models.loading import load_model, teacher_is_here
from finetune_geometry.models.pretraining import raise_models
from finetune_geometry.models.tiny import write_model_card
from finetune_geometry.problems.generator import SPLITS
from finetune_geometry.problems.phrasings import STEP_KINDS
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.runs.folders import project_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)

# %% [markdown]
# ## The problems
#
# A generator writes grade-school word problems. A quantity is followed through 2 to 8 steps. There are {number}`base_model.step_kinds` kinds of step: adding and taking away, halves, fractions and percentages, comparisons between two people, sharing, packing, unit prices. Each kind has at least {number}`base_model.fewest_phrasings` phrasings, and now and then a sentence is irrelevant. Here is one problem with its solution:

# %%
test = load_problems(this_run.profile, "test")
example = next((problem for problem in test if problem.steps >= 4), test[0])
print(example.question, example.solution, sep="\n\n")

# %% [markdown]
# Every solution ends in a boxed number, which is all that a verifier looks at.
#
# Problems are split by their numeric skeleton, the kinds and numbers of their steps without names and wording. The skeleton is hashed, and the hash decides to which split a problem may belong. A test problem can therefore not come back in training in other words. The next cell checks it.

# %%
identifiers = {
    split: {problem.id for problem in load_problems(this_run.profile, split)} for split in SPLITS
}
pairs = [(a, b) for a in SPLITS for b in SPLITS if a < b]
shared = {f"{a} and {b}": len(identifiers[a] & identifiers[b]) for a, b in pairs}
assert not any(shared.values()), shared
at_hand = pd.DataFrame(
    {"problems at hand": {split: len(found) for split, found in identifiers.items()}}
)
if this_run.profile.problems.source == "generated":
    at_hand["share of all skeletons"] = {split: f"{len(part)} %" for split, part in SPLITS.items()}
at_hand

# %% [markdown]
# ## Raising the models
#
# Both models start from random weights and see generated problems with their solutions; only the tokens of the solution count. The student is raised on problems of 2 to 4 steps. The teacher goes on from the student with problems of 2 to 8 steps. They are siblings, then, and the teacher went to school for longer. In the paper the teacher is another model altogether: keep that difference in mind when you read the results.
#
# The trained models ship with the book. `make models` trains them again with the same command. Models that come from a hub, as in the larger profiles, have no record of their training here: then the table and the figure below are empty.

# %%
if retrain:
    raise_models(project_root() / output, student_problems, teacher_problems)
model_settings = this_run.profile.model
folders = {
    "student": f"{output}/student" if retrain else model_settings.base,
    "teacher": f"{output}/teacher" if retrain else model_settings.teacher,
}
cards = {
    role: json.loads((project_root() / path / "card.json").read_text())
    for role, path in folders.items()
    if (project_root() / path / "card.json").is_file()
}
if retrain:
    for role, card in cards.items():
        write_model_card(project_root() / output / role, card)
pd.DataFrame(
    {
        role: {
            "parameters": f"{card['parameters']:,}",
            "steps per problem": f"{card['min_steps']} to {card['max_steps']}",
            "problems": f"{card['problems']:,}",
            "tokens seen": f"{card['tokens']:,}",
            "seconds on one core": f"{card['seconds']:.0f}",
            "peak learning rate": card["learning_rate"],
        }
        for role, card in cards.items()
    }
)

# %% mystnb={"figure": {"name": "fig-pretraining", "caption": "How were the two models raised? Left: the loss per solution token. Right: accuracy on validation problems of 2 to 8 steps. Look whether it rises where the loss falls, or later. The student ends at {number}`base_model.student_curve_end:.0%`, the teacher, which starts where the student ends, at {number}`base_model.teacher_curve_end:.0%`. The curves are those of the shipped models' training, on 210 validation problems; they say nothing about fine-tuning."}, "image": {"alt": "Two panels against millions of training tokens: the loss per token of student and teacher falls, the accuracy of both rises, the teacher's further."}} tags=["hide-input"]
pretraining_curves(cards)
# %% [markdown]
# ## What the student cannot do yet
#
# Now both models answer the validation problems of this run, greedily.

# %%
validation = load_problems(this_run.profile, "validation")
student, tokenizer = load_model(this_run.profile)
answers = [predict(student, tokenizer, validation, "base", this_run.profile)]
if teacher_is_here(this_run.profile):
    teacher = load_model(this_run.profile, "teacher")
    answers.append(predict(*teacher, validation, "teacher", this_run.profile))
answers = pd.concat(answers)
answers["steps"] = answers["problem"].map({problem.id: problem.steps for problem in validation})

# %% mystnb={"figure": {"name": "fig-student-teacher", "caption": "Where does the student fail? It solves {number}`base_model.base_short:.0%` of the problems with 2 to 4 steps and {number}`base_model.base_long:.0%` of those with 5 to 8. The teacher solves {number}`base_model.teacher_short:.0%` and {number}`base_model.teacher_long:.0%`. Bars are 95 % Wilson intervals; all lengths together have {number}`profile.problems.validation` problems."}, "image": {"alt": "Accuracy of student and teacher by number of steps, as two lines with intervals."}} tags=["hide-input"]
accuracy_by_steps(answers)
# %% [markdown]
# ## How the models read
#
# The tokenizer knows whole words, and every digit is a token of its own, so that a number is read and written digit by digit.

# %%
first_line = (example.solution or example.question).splitlines()[0]
ids = tokenizer(first_line).input_ids
print(" | ".join(tokenizer.convert_ids_to_tokens(ids)))

# %% tags=["remove-cell"]
known = answers[answers["steps"] > 0]
right = known.groupby(["model", known["steps"] <= 4])["correct"].mean()
unknown = {"tokens": float("nan"), "accuracy": [(0, float("nan"))]}
raised = {role: cards.get(role, unknown) for role in folders}
this_run.record(
    "base_model",
    {
        "parameters": student.num_parameters(),
        "layers": student.config.num_hidden_layers,
        "vocabulary": len(tokenizer),
        "step_kinds": len(STEP_KINDS),
        "fewest_phrasings": min(len(phrasings) for phrasings in STEP_KINDS.values()),
        "student_tokens": raised["student"]["tokens"],
        "teacher_tokens": raised["teacher"]["tokens"],
        "student_curve_end": raised["student"]["accuracy"][-1][1],
        "teacher_curve_end": raised["teacher"]["accuracy"][-1][1],
        "base_short": float(right.get(("base", True), float("nan"))),
        "base_long": float(right.get(("base", False), float("nan"))),
        "teacher_short": float(right.get(("teacher", True), float("nan"))),
        "teacher_long": float(right.get(("teacher", False), float("nan"))),
    },
)

# %% [markdown]
# ## One thing to vary
#
# `student_problems`, with `retrain`: how long must the student be raised before it solves short problems? And from which length on does it fail?
#
# ```
# papermill notebooks/ingredients/base_model.ipynb out.ipynb -p retrain True -p output results/models -p student_problems 20000
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-base-model
#
# *Derivation · ★ · 10 minutes*
#
# Suppose the student gets each step right with probability $q$, independently of the others. Which accuracy do you expect on problems of $n$ steps? Estimate $q$ from the accuracy at 4 steps, and predict the accuracy at 8. Why is the student's real accuracy at 8 steps lower?
# ```
#
# ```{dropdown} Hint
# All steps must be right.
# ```
#
# ````{solution} ex-base-model
# :label: sol-base-model
# :class: dropdown
#
# The expected accuracy is $q^n$. With $q^4 = a$, the prediction for 8 steps is $a^2$. A real one far below that says that no single $q$ holds for both lengths. One reason is at hand: the student has never seen a problem of more than 4 steps, nor written a fifth line.
# ````
#
# ## Take-away
#
# The student solves {number}`base_model.base_short:.0%` of the short problems and {number}`base_model.base_long:.0%` of the long ones, the teacher {number}`base_model.teacher_short:.0%` and {number}`base_model.teacher_long:.0%`. The teacher is the source of everything the six methods will learn from.
