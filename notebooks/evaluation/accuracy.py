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
# (evaluation-accuracy)=
# # Accuracy: which model solves more problems?
#
# **The answer.** Of the six, {number}`accuracy.best_label` solves most, {number}`accuracy.best:.0%` of {number}`accuracy.n:,` problems; DPO solves {number}`accuracy.dpo:.0%` and the base {number}`accuracy.base:.0%`. Of the {number}`accuracy.pairs` pairs of models {number}`accuracy.different` differ, {number}`accuracy.equivalent` are shown to be equal, and {number}`accuracy.undecided` are neither.
#
# **What you will learn.** How often each model is right, how far chance alone could move that number, how two models are compared on the same problems, and why "no difference found" is not "no difference".
#
# ## The question
#
# Base, six trained models and the teacher answer the same {number}`profile.problems.test:,` test problems, once, greedily. The paper says that five of the six methods cannot be told apart and that DPO is the most accurate. Both are claims about *differences*, so differences are what we test.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
margin: float | None = None  # largest difference that counts as none; None: the profile's value

# %% tags=["hide-input", "remove-stderr"]
import torch

from finetune_geometry.evaluation.answers import TEACHER, evaluate_models
from finetune_geometry.evaluation.paired_tests import (
    accuracy_table,
    holm,
    mcnemar_exact,
    mcnemar_table,
    p_text,
    tost_paired,
    wilson_interval,
)
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.plots import toy
from finetune_geometry.figures.result_plots import accuracies, differences
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"evaluation.equivalence_margin": margin})
settings = this_run.profile.evaluation
torch.set_num_threads(this_run.profile.training.threads)
adapters = [*METHODS, *(name.strip() for name in others.split(",") if name.strip())]

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Exact McNemar test
# :label: def-mcnemar
#
# Two models answer the same problems. Let $b$ be the number that only the first solves and $c$ the number that only the second solves. If the two are equally good, each of these $b + c$ problems fell to one side or the other like a fair coin. The p value is the two-sided binomial probability of a split at least as uneven as $b : c$ {cite}`mcnemar1947note`.
# ```
#
# Problems that both solve, or neither, say nothing about which is better. They do not enter. In the table below $b$ and $c$ are the columns "only first right" and "only second right".
#
# ```{prf:definition} Equivalence test
# :label: def-tost
#
# Fix a margin $m > 0$ beforehand. Two one-sided tests ask whether the difference in accuracy is above $-m$ and below $m$. Only if both say yes are the models called equivalent {cite}`schuirmann1987comparison`. Here the tests use the score statistic for paired proportions {cite}`tango1998equivalence,liu2002tests`.
# ```
#
# Three more tools: the Wilson interval of one accuracy {cite}`wilson1927probable`, the score interval of a paired difference, and Holm's correction {cite}`holm1979simple`. The last is needed because seven models make 21 pairs, and one pair in twenty looks different by chance at the usual level. It corrects over a **family** of tests: all those that were made to answer one question.
#
# ## A toy with a known answer
#
# Two models of the same true accuracy, on 1,319 problems, 10 % of which only one of them solves. The figure asks what each test says as the split of those problems moves away from even.

# %% mystnb={"figure": {"name": "fig-accuracy-toy", "caption": "What do the two tests see? 132 problems are solved by one of two models only; the horizontal axis is the share of them that goes to the first. In the middle McNemar's test finds no difference. That does not make the models equal: the equivalence test with a margin of two points is below 0.05 only close to an even split. Between the two regions neither test decides. The figure is a calculation, not a measurement of this run."}, "image": {"alt": "p values of McNemar's test and of the equivalence test against how unevenly 132 discordant problems split; the first is high in the middle, the second low."}} tags=["hide-input"]
discordant, problems = 132, 1319
splits = range(40, 93)
toy(
    {
        "McNemar": (
            [s / discordant for s in splits],
            [mcnemar_exact(s, discordant - s) for s in splits],
        ),
        "equivalence": (
            [s / discordant for s in splits],
            [tost_paired(s, discordant - s, problems, 0.02) for s in splits],
        ),
        "0.05": ([splits[0] / discordant, splits[-1] / discordant], [0.05, 0.05]),
    },
    {},
    xlabel="share of the discordant problems that the first solves",
    ylabel="p value",
)
# %% [markdown]
# ## The six methods, the base and the teacher
#
# Answers are kept model by model, so an interrupted evaluation goes on where it was.

# %%
predictions = evaluate_models(this_run, adapters)
this_run.write_table("evaluation/predictions.parquet", predictions)
table = accuracy_table(predictions, settings.confidence)
this_run.write_table("evaluation/accuracy.csv", table)
show_table(table, {"model": label, **dict.fromkeys(["accuracy", "low", "high"], "{:.1%}")})

# %% mystnb={"figure": {"name": "fig-accuracy", "caption": "How often is each model right? Dots: share of {number}`accuracy.n:,` test problems solved, greedy, one attempt; bars: Wilson intervals ({number}`profile.evaluation.confidence:.0%`). The dashed line is the base, the point from which all six start. Base {number}`accuracy.base:.1%`, teacher {number}`accuracy.teacher:.1%`, best of the six {number}`accuracy.best_label` with {number}`accuracy.best:.1%`. Intervals that overlap do not show that two models are equal, nor do they show the contrary: the models share the problems, so compare them in pairs, as in the next figure."}, "image": {"alt": "Accuracy of base, six methods and teacher as dots with Wilson intervals, with the base's accuracy as a dashed line."}} tags=["hide-input"]
accuracies(table)
# %% [markdown]
# ### Short and long problems
#
# One total can hide a trade: a model may lose on problems that it could solve and win on others. The share solved by number of steps (nothing is shown where problems have no known number of steps):

# %%
steps = {problem.id: problem.steps for problem in load_problems(this_run.profile, "test")}
lengths = predictions.assign(steps=predictions["problem"].map(steps)).query("steps > 0")
by_steps = lengths.pivot_table(index="model", columns="steps", values="correct")
by_steps = by_steps.loc[[name for name in table["model"] if name in by_steps.index]].reset_index()
by_steps.columns = [str(column) for column in by_steps.columns]
show_table(by_steps, dict.fromkeys(by_steps.columns[1:], "{:.0%}") | {"model": label})

# %% [markdown]
# ## Chance level and controls
#
# The paired comparison takes out what the models share, such as a problem that is hard for all of them. The base is among the models compared; the teacher is not, because it is no weight change of the base. What pairing cannot take out is the luck of a training: three runs of SFT that differ in their seeds lie {number}`second_seed.spread:.1%` of the problems apart ([](../controls/second_seed)).
#
# **Which family.** The question here is which of the base and the methods differ, and its family is the {number}`accuracy.pairs` pairs of the table. This is the only place of the book where these pairs get a corrected p value; the ledger quotes it from here. The chapters on controls ask other questions and correct over pairs that contain a control.

# %%
pairs = mcnemar_table(
    predictions[predictions["model"] != TEACHER],
    margin=settings.equivalence_margin,
    confidence=settings.confidence,
)
this_run.write_table("evaluation/mcnemar.csv", pairs)
formats = dict.fromkeys(["a", "b"], label)
formats |= dict.fromkeys(["p_exact", "p_holm", "p_tost"], p_text)
formats |= dict.fromkeys(["difference", "low", "high"], "{:+.1%}")
columns = {
    "a": "first",
    "b": "second",
    "only_a": "only first right",
    "only_b": "only second right",
    "p_exact": "McNemar p",
    "p_holm": "p after Holm",
    "p_tost": "equivalence p",
}
formats = {columns.get(name, name): form for name, form in formats.items()}
shown = pairs.drop(columns=["n", "margin", "tost_low", "tost_high"])
show_table(shown.rename(columns=columns), formats)

# %% mystnb={"figure": {"name": "fig-differences", "caption": "Which models differ, and which are shown to be equal? One row a pair: difference in accuracy, first minus second, in percentage points. Thin bars: its interval ({number}`profile.evaluation.confidence:.0%`). Thick bars: the narrower one that belongs to the equivalence test ({number}`accuracy.tost_confidence:.0%`, because each of its two tests looks at one side). Filled dots: McNemar's test finds a difference after Holm's correction ({number}`accuracy.different` of {number}`accuracy.pairs` pairs). Black: the thick bar lies within the grey band, so the equivalence test shows the two to be less than {number}`profile.evaluation.equivalence_margin:.0%` apart ({number}`accuracy.equivalent` pairs). Hollow blue ({number}`accuracy.undecided` pairs): this test set cannot say. A pair can be both different and equivalent: a small difference, well measured. The bars are not corrected for the number of pairs, so a thin bar may miss 0 while its dot stays hollow."}, "image": {"alt": "Forest plot of paired accuracy differences for all pairs of models with intervals and a grey equivalence band around zero."}} tags=["hide-input"]
differences(pairs)
# %% [markdown]
# ### A second test set
#
# The paper also asks the thirty problems of AIME26, a contest {cite}`maa2026aime`. A profile whose `problems.aime_dataset` names them is examined on them in the same way, and C11 is judged from that comparison. Without it there is nothing to show here, and the ledger says "not testable".

# %%
solved = table.iloc[:0]
if this_run.profile.problems.aime_dataset:
    aime = evaluate_models(this_run, adapters, split="aime")
    solved = accuracy_table(aime, settings.confidence)
    compared = mcnemar_table(
        aime[aime["model"] != TEACHER],
        margin=settings.equivalence_margin,
        confidence=settings.confidence,
    )
    this_run.write_table("evaluation/aime.csv", compared)
else:
    this_run.path("evaluation/aime.csv").unlink(missing_ok=True)  # of a run that had one
show_table(solved, {"model": label, **dict.fromkeys(["accuracy", "low", "high"], "{:.1%}")})

# %% tags=["remove-cell"]
rows = table.set_index("model")
six = rows.loc[[name for name in rows.index if name in METHODS], "accuracy"]
five = ["sft", "rft", "dft", "rift", "offline_grpo"]  # the paper's, whatever else is trained
among_five = pairs[pairs["a"].isin(five) & pairs["b"].isin(five)]
different = pairs["p_holm"] < 0.05
gap = {
    name: float(rows.loc[name, "accuracy"] - rows.loc["base", "accuracy"]) for name in rows.index
}
this_run.record(
    "accuracy",
    {
        "n": int(rows["n"].iloc[0]),
        **{name: float(value) for name, value in rows["accuracy"].items()},
        **({} if TEACHER in rows.index else {TEACHER: float("nan")}),  # it cannot be asked here
        "low": {name: float(value) for name, value in rows["low"].items()},
        "high": {name: float(value) for name, value in rows["high"].items()},
        "gap": gap,
        "best": float(six.max()),
        "best_label": label(str(six.idxmax())),
        "half_width": float((rows["high"] - rows["low"]).max() / 2),
        "pairs": len(pairs),
        "tost_confidence": 2 * settings.confidence - 1,
        "different": int(different.sum()),
        "equivalent": int(pairs["equivalent"].sum()),
        "undecided": int((~different & ~pairs["equivalent"]).sum()),
        "five": {
            "pairs": len(among_five),
            "different": int((among_five["p_holm"] < 0.05).sum()),
            "equivalent": int(among_five["equivalent"].sum()),
            "largest": float(among_five["difference"].abs().max()),
        },
        "ten": dict(zip(("low", "high"), wilson_interval(3, 10), strict=True)),
        # DPO's nine of thirty against three and against one, both ways to overlap.
        "aime": {
            "three_inside": mcnemar_exact(6, 0),
            "three_outside": mcnemar_exact(9, 3),
            "one_inside": mcnemar_exact(8, 0),
            "one_outside": mcnemar_exact(9, 1),
            # The least of five p values is multiplied by five.
            "least_of_five": float(holm([mcnemar_exact(8, 0)] + 4 * [1.0])[0]),
        },
    },
)

# %% [markdown]
# ## How to read the figures, and how not to
#
# - **Read differences, not ranks.** With {number}`accuracy.n:,` problems one accuracy is uncertain by up to {number}`accuracy.half_width:.1%` either way. The models share the problems, so judge the order by the paired differences and their intervals alone.
# - **A large p value is no evidence of equality.** Among the five methods other than DPO, {number}`accuracy.five.different` of {number}`accuracy.five.pairs` pairs differ after correction, and the number of pairs found equivalent is {number}`accuracy.five.equivalent`. Only the second number supports "cannot be told apart". The largest difference among them is {number}`accuracy.five.largest:.1%` of the problems.
# - **Look at the base first.** A method close to the base may be a method that did nothing, or one that lost on some problems what it gained on others: the table by steps tells. The accuracies minus that of the base, in percentage points, are in this run: SFT {number}`accuracy.gap.sft:+.1%`, RFT {number}`accuracy.gap.rft:+.1%`, DFT {number}`accuracy.gap.dft:+.1%`, RIFT {number}`accuracy.gap.rift:+.1%`, Offline GRPO {number}`accuracy.gap.offline_grpo:+.1%`, DPO {number}`accuracy.gap.dpo:+.1%`. A negative one would mean that training on a better teacher's solutions cost accuracy, but only if the table above finds that pair different. In the paper DPO "wins" with 93.5 % where the base already had 94.0 %.
# - **One training each.** The intervals are about the choice of test problems. They say nothing about another seed of the training.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-accuracy
#
# *Code · ★★ · 20 minutes*
#
# A contest has ten problems and a model solves three. Its Wilson interval reaches from {number}`accuracy.ten.low:.0%` to {number}`accuracy.ten.high:.0%`. AIME26 has thirty problems; the paper gives DPO 30.0 % there and the other methods 3.3 % to 10.0 %. How many problems are these, and what would McNemar's test need to know that the percentages do not tell?
# ```
#
# ```{dropdown} Hint
# `mcnemar_exact(only_a, only_b)` is imported above. Try all splits that fit nine against three right answers, then nine against one.
# ```
#
# ````{solution} ex-accuracy
# :label: sol-accuracy
# :class: dropdown
#
# 30 % of 30 are nine problems, 10 % are three, 3.3 % is one. The test needs the number of problems that only one of the two solves. Against three: if all of them are also among DPO's nine, the split is 6 : 0 and $p$ = {number}`accuracy.aime.three_inside:.3f`; if none is, it is 9 : 3 and $p$ = {number}`accuracy.aime.three_outside:.3f`. Against one: 8 : 0 and $p$ = {number}`accuracy.aime.one_inside:.3f`, or 9 : 1 and $p$ = {number}`accuracy.aime.one_outside:.3f`. And DPO is compared with five methods: Holm's correction multiplies the least of five p values by five, so even the 8 : 0 of the weakest method has a corrected $p$ of {number}`accuracy.aime.least_of_five:.3f`, if it is the least of the five. Whether thirty problems show anything here hangs on an overlap that the percentages hide.
# ````
#
# ## Take-away
#
# Compare models on the same problems, state $b$ and $c$, correct for the number of pairs, and show equality with a test made for it. Then compare with the base.
