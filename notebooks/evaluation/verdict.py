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
# (evaluation-verdict)=
# # The verdict: which claims hold in this run?
#
# **The answer.** Of {number}`verdict.claims` claims {number}`verdict.count.reproduced` are reproduced, {number}`verdict.count.direction` hold in direction only, {number}`verdict.count.failed` are not reproduced, {number}`verdict.count.undecided` are undecided and {number}`verdict.count.untestable` not testable here.
#
# **What you will learn.** What came of each of the paper's seventeen claims, by rules that were written down before the run that they judge, which of these rules were changed and why, and what a careful reader should add to each.
#
# ## The question
#
# A reproduction is tempted to look at a figure and say "roughly as in the paper". To keep ourselves from doing that, the file `book/claims.yaml` states for each claim which number counts, what size of it would be "reproduced", and why. It has a memory: a rule that is changed stays in the file, with the day it was written and the reason for the change, and this page shows what the first and the present rule say of the same run.
#
# Three things belong to an honest account of it:
#
# - The first rules were written before the book's first run, but a pilot of the same design, with one seed, had been run before them. They were no blind guesses.
# - After the first runs a sceptical review found that some rules could not fail and that others asked for noise. They were rewritten once, from what the claim says, and committed before the run that they judge. Two others, C7 and C16, had got a second bound right after the first run. {number}`verdict.changed` of the {number}`verdict.claims` claims have more than one rule; in this run {number}`verdict.moved` verdicts differ between the first rule and the present one. A rule that is rewritten by people who have seen earlier runs is worth less than one that is not. Read both columns.
# - The runs changed, too: more problems and rollouts on the lines between models, a new student and teacher after a fault in the problem generator was mended, and batches that are uniform draws. With these the learning rate changed, too, by the rule that had set it before ([](../ingredients/learning_rate)). Claims C5, C6 and C9 changed their verdict with the first change of the student ([](../../book/changelog), the 22nd). That is how much such verdicts hang on one base model.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
ledger: str = ""  # file with claims and rules; empty: book/claims.yaml
beside: str = ""  # further runs whose ledgers stand beside, folders under results/ apart by commas

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd

from finetune_geometry.evaluation.claims import load_ledger, load_tables, look_up
from finetune_geometry.evaluation.columns import other_ledgers, side_by_side
from finetune_geometry.evaluation.judging import UNTESTABLE, VERDICTS, judge_claims
from finetune_geometry.figures.palette import set_style
from finetune_geometry.figures.result_plots import verdicts
from finetune_geometry.geometry.intervals import with_intervals
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
pd.set_option("display.max_colwidth", None)
this_run = Run.open(profile, run)
settings = this_run.profile
claims = load_ledger(ledger or None)

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Verdict
# :label: def-verdict
#
# **Reproduced**: the effect has the sign and, as far as sizes carry over to another model, the size that the paper reports. **Direction only**: a weaker reading, written down with the rule, holds: the sign or the order is that of the paper, in some claims with a least size. **Not reproduced**: neither. **Undecided**: the verdict hangs on a number whose interval crosses its line. **Not testable in this regime**: the run lacks what the claim is about, and we say what is missing.
# ```
#
# Each rule is a list of comparisons between numbers from the tables of the earlier chapters. A number with an interval can leave a comparison open. One comparison that surely fails decides a rule whatever the others say; if none fails and one is open, so is the rule. Where two measured numbers are compared, overlapping intervals count as open. That is stricter than a test of their difference would be. A number without an interval, such as a norm or a corrected p value, decides by its value.
#
# ## The ledger
#
# One row a claim. Shown is the first number that ruled out the better verdict, or left it open, with its interval and the line that it was held against; of a reproduced claim, its first number. The interval is over modules for a cosine, an angle or a fraction, over problems or prompts for accuracies, losses and CKA. None of them covers another seed of the training.

# %% tags=["hide-input"]
tables = with_intervals(
    load_tables(this_run, claims),
    load_run(this_run, "sft-order"),
    confidence=settings.evaluation.confidence,
    seed=settings.geometry.seed,
)
numbers = {
    name: {k: look_up(m, tables, settings.flat()) for k, m in claim.measures.items()}
    for name, claim in claims.claims.items()
}
table, rules, conditions = judge_claims(claims.claims, numbers)
this_run.write_table("claims.csv", table)
this_run.write_table("evaluation/claims_rules.csv", rules)
this_run.write_table("evaluation/claims_conditions.csv", conditions)


def in_words(value: float, low: float, high: float) -> str:
    """A number with its interval, where it has one."""
    if not np.isfinite(value):
        return "not measured"
    return f"{value:.4g} ({low:.3g} to {high:.3g})" if np.isfinite(low) else f"{value:.4g}"


def line_in_words(line: str, value: float, low: float = np.nan, high: float = np.nan) -> str:
    """A line, with its value where it is not a plain number."""
    text = line.replace(">=", "≥").replace("<=", "≤").replace("*", "×")
    if not line or text.split()[-1] == f"{value:g}":
        return text
    return f"{text}: {in_words(value, low, high)}"


shown = table.assign(
    number=[in_words(*row) for row in table[["value", "low", "high"]].itertuples(index=False)],
    line=[line_in_words(*row) for row in table[["line", "line_value"]].itertuples(index=False)],
)
columns = {
    "claim": "claim",
    "title": "what it says",
    "paper": "the paper",
    "measure": "decided by",
    "number": "this run",
    "line": "line",
    "first_verdict": "by the first rule",
    "verdict": "by the present rule",
}
show_table(shown[list(columns)].rename(columns=columns), {})

# %% mystnb={"figure": {"name": "fig-verdicts", "caption": "What came of the claims? By the present rules {number}`verdict.count.reproduced` of {number}`verdict.claims` are reproduced, {number}`verdict.count.direction` hold in direction only, {number}`verdict.count.undecided` are undecided, {number}`verdict.count.failed` are not reproduced, and {number}`verdict.count.untestable` cannot be tested in this run (profile {number}`run.profile`). A hollow square is the verdict by the first rule, where it is another. A verdict is about this model, these problems and this length of training; it is no judgement on the paper's own experiment."}, "image": {"alt": "Grid of the seventeen claims against five verdicts, one coloured square a claim, and a hollow one where the first rule says something else."}} tags=["hide-input"]
verdicts(table)
# %% [markdown]
# ### Beside other runs
#
# One column a run: this one, and every other whose ledger is at hand. Those are the reference run where this one has another profile, the runs on other base models that ship with the book, [the paper's released weights](../evaluation/released_weights) where they were fetched, and the runs named in the parameter `beside`. Each is judged by the rules of this book, on its own numbers. An empty cell: that run was not asked.

# %% tags=["hide-input"]
others = other_ledgers(this_run, [name.strip() for name in beside.split(",") if name.strip()])
show_table(side_by_side({this_run.name: table, **others}), {})

# %% [markdown]
# ### Every line that was drawn
#
# All comparisons of the first and the present rule, with the numbers on both sides. "Open" means that the interval crosses the line. The first rules were meant to be judged by the value alone; their "open" is shown for information.

# %% tags=["hide-input"]
lines = conditions.assign(
    number=[in_words(*row) for row in conditions[["value", "low", "high"]].itertuples(index=False)],
    against=[
        line_in_words(row.line, row.line_value, row.line_low, row.line_high)
        for row in conditions.itertuples()
    ],
)
columns = {
    "claim": "claim",
    "version": "rule",
    "part": "asked for",
    "measure": "measure",
    "number": "this run",
    "against": "line",
    "holds": "holds",
}
show_table(lines[list(columns)].rename(columns=columns), {})

# %% [markdown]
# ### Why the lines are where they are, and what was changed
#
# Every version of every rule: why its lines are where they are or, of a later version, why the one before was changed, and the verdict that it gives in this run. The last version of a claim is the present one; only it knows "undecided".

# %%
show_table(rules[["claim", "version", "written", "rule", "verdict", "reason"]], {})

# %% [markdown]
# All numbers behind the verdicts, and what would be needed where there is none:

# %%
table[["claim", "verdict", "detail"]].set_index("claim")

# %% [markdown]
# ## What rules cannot say
#
# The paper's numbers can be right and still invite a wrong reading. Eleven points to keep in mind, with what this run adds.

# %% tags=["remove-cell"]
cosines = tables["cosine"].query("level == 'global'")
norm = cosines.query("quantity == 'norm'").set_index("a")["value"]
fraction = tables["fraction"].query("level == 'global' and b == 'sft'")
fraction = fraction.query("quantity == 'orthogonal_to_direction_norm'").set_index("a")["value"]
accuracy = tables["accuracy"].set_index("model")["accuracy"]
lines_between = tables["connectivity"]
heights = lines_between.query("quantity == 'height'").set_index(["a", "b", "metric"])["value"]
boxed = lines_between.query("metric == 'boxed_cross_entropy'")
ends = boxed.query("quantity == 'end'")["value"]
cka = tables["cka"].groupby("quantity")[["chance_high"]].max()["chance_high"]
mcnemar = tables["mcnemar"]
dpo_base = mcnemar.query("a == 'base' and b == 'dpo'")
five = ["sft", "rft", "dft", "rift", "offline_grpo"]  # the paper's, whatever else is trained
among_five = mcnemar[mcnemar["a"].isin(five) & mcnemar["b"].isin(five)]
cards = {name: this_run.read_json(f"adapters/{name}/card.json") for name in ("sft", "dpo")}
rollouts = this_run.read_json("rollouts/card.json")
widths = [delta.shape[1] for delta in load_run(this_run)[1].values()]
count = table["verdict"].value_counts()
this_run.record(
    "verdict",
    {
        "claims": len(table),
        "changed": int((rules.groupby("claim").size() > 1).sum()),
        "moved": int((table["verdict"] != table["first_verdict"]).sum()),
        "count": {
            name: int(count.get(verdict, 0))
            for name, verdict in zip(
                ("reproduced", "direction", "undecided", "failed", "untestable"),
                VERDICTS,
                strict=True,
            )
        },
        "testable": int((table["verdict"] != UNTESTABLE).sum()),
        "of": dict(zip(table["claim"], table["verdict"], strict=True)),
        "first": dict(zip(table["claim"], table["first_verdict"], strict=True)),
        "value": {row.claim: float(row.value) for row in table.itertuples()},
        "base": float(accuracy["base"]),
        "dpo": float(accuracy["dpo"]),
        "dpo_against_base": float(dpo_base["p_holm"].iloc[0]),
        "sft": float(accuracy["sft"]),
        "norm_ratio": float(norm["sft"] / norm["dpo"]) if norm["dpo"] > 0 else float("nan"),
        "fraction": {name: float(value) for name, value in fraction.items()},
        "energy": {name: float(value) ** 2 for name, value in fraction.items()},
        "floor": float(np.mean([settings.lora.r / width for width in widths])),
        "height": {
            name: float(heights["rift", "dpo", f"{name}_cross_entropy"])
            for name in ("boxed", "sft")
        },
        "boxed": {
            "least": float(ends.min()),
            "blind": float(boxed.query("quantity == 'blind'")["value"].iloc[0]),
        },
        "cka_chance": {name.removesuffix("_cka"): float(value) for name, value in cka.items()},
        "epochs": {name: float(card["epochs"]) for name, card in cards.items()},
        "rows": {name: int(card["rows"]) for name, card in cards.items()},
        "mixed": float(rollouts["mixed"]),
        "five": {
            "pairs": len(among_five),
            "different": int((among_five["p_holm"] < 0.05).sum()),
            "equivalent": int(among_five["equivalent"].sum()),
        },
    },
)

# %% [markdown]
# 1. **"DPO is the most accurate" needs the base beside it.** In the paper the base has 94.0 %, DPO 93.5 %, and DPO's delta is 13 times shorter than SFT's: there, DPO stayed at home. Here the base has {number}`verdict.base:.1%`, DPO {number}`verdict.dpo:.1%`, SFT {number}`verdict.sft:.1%`; SFT's delta is {number}`verdict.norm_ratio:.1f` times as long as DPO's, and the corrected p of DPO against the base is {number}`verdict.dpo_against_base:.2g`. Where that p is small, a short delta did change the answers.
# 2. **"67 % orthogonal" is a ratio of lengths.** As energy it is 45 %. Here Offline GRPO has {number}`verdict.fraction.offline_grpo:.0%` of its length and {number}`verdict.energy.offline_grpo:.0%` of its energy orthogonal to SFT's direction; DFT {number}`verdict.fraction.dft:.0%` and {number}`verdict.energy.dft:.0%`; DPO {number}`verdict.fraction.dpo:.0%` and {number}`verdict.energy.dpo:.0%`.
# 3. **Angles need their chance level.** The largest of ten angles is near 90 degrees for random subspaces, too. "Orthogonal at every index" does not follow from it; the smallest angle, 54.6 degrees in the paper, is far *below* chance. See [](../geometry/principal_angles).
# 4. **One initialisation for all is necessary and a confound.** After one step by the same gradient adapters with unrelated $A$ have a cosine of about $r / d_{\text{in}}$, {number}`verdict.floor:.3f` here; after training, SFT and its second seed have {number}`second_seed.cosine.seed:.3f`. So the cosines of this book hold *given* the shared $A$. Compare output sides when seeds differ. See [](../ingredients/lora_delta).
# 5. **The paper's path metric is not a training loss.** It asks for the answer without reasoning. From RIFT to DPO the loss stands {number}`verdict.height.boxed:.2f` nats above the straight line between its ends in that metric and {number}`verdict.height.sft:.3f` in the held-out SFT loss. And it says something only where a model knows more of the answer than a blind guess among all tokens, which costs {number}`verdict.boxed.blind:.1f` nats a token. The best model here pays {number}`verdict.boxed.least:.1f`. Where that is more, C6 and C8 are not testable, whatever the curves look like. See [](../geometry/mode_connectivity).
# 6. **CKA has a bias.** Unrelated features reach {number}`verdict.cka_chance.biased:.2f` with the biased estimator here and {number}`verdict.cka_chance.debiased:.3f` with the debiased one; with few tokens in a wide model the gap is most of the scale. See [](../geometry/cka).
# 7. **"The same data" is the same pool.** Here SFT takes {number}`verdict.epochs.sft:.2f` passes over {number}`verdict.rows.sft:,` rows and DPO {number}`verdict.epochs.dpo:.1f` over {number}`verdict.rows.dpo:,` pairs, because {number}`verdict.mixed:.0%` of the groups are mixed. In the paper it is 0.43 passes against about 18.
# 8. **A large p value is no evidence of equality.** Of the {number}`verdict.five.pairs` pairs among the five methods other than DPO, {number}`verdict.five.different` differ after correction; the number shown to be equivalent is {number}`verdict.five.equivalent`. See [](../evaluation/accuracy).
# 9. **"Nearly collinear" needs a second run beside it.** SFT and RFT have a cosine of {number}`second_seed.cosine.rft:.3f` here, SFT and RIFT {number}`second_seed.cosine.rift:.3f`, and SFT with itself, rows in another order, {number}`second_seed.cosine.order:.3f`. Where two losses are closer to each other than that, the choice between them moved the weights less than which rows were drawn. How two losses weigh the rows that they share predicts {number}`cosine.predicted.sft_rft:.3f` and {number}`cosine.predicted.sft_rift:.3f` without any training. See [](../controls/reshuffled) and [](../geometry/cosine).
# 10. **DPO was trained at a tenth of the learning rate.** SFT's delta is {number}`matched_rate.ratio.sft_dpo:.1f` times as long as DPO's; at {number}`matched_rate.factor:.2g` times its learning rate, {number}`matched_rate.ratio.control_dpo:.1f` times. The nearer the second number is to 1, the more of the short delta is the learning rate. See [](../controls/matched_rate).
# 11. **Articles about the paper contradict it.** Who says what, and what the paper says: [](../../book/articles).
#
# ## The chance level and controls
#
# Rules have error rates, too, and {number}`verdict.testable` claims are tested here. A verdict of one run says what happened once; [repetitions of all six](../controls/spread) show how far chance alone moves a number. Several headlines have another explanation that a control can test:
#
# :::{table} Headlines, other explanations, and what was found of them
# :name: tab-headlines
#
# | headline | another explanation | what the control says |
# |---|---|---|
# | DPO is short (C12) | its learning rate | SFT is {number}`matched_rate.ratio.sft_dpo:.1f` times as long at unequal rates, {number}`matched_rate.ratio.control_dpo:.2f` times with the low rate for both, {number}`matched_rate.ratio.sft_raised:.2f` times with the high one ([](../controls/matched_rate)) |
# | DPO is nearly orthogonal (C7) | its learning rate | its cosine with SFT is {number}`matched_rate.cosine.sft_dpo:.3f` at unequal rates, {number}`matched_rate.cosine.dpo_control:.3f` and {number}`matched_rate.cosine.sft_raised:.3f` at equal ones |
# | Offline GRPO goes elsewhere (C5) | another order of the rows does as much | its orthogonal fraction is {number}`orthogonal_fraction.direction.norm.offline_grpo:.1%`, that of SFT in another order {number}`orthogonal_fraction.direction.norm.reshuffled:.1%` ([](../controls/reshuffled)) |
# | DFT and Offline GRPO turn away from SFT (C4, C5) | the noise of the batches, which adds up | after {number}`path.early.step` steps their cosines with SFT are {number}`path.early.with_sft.dft:.2f` and {number}`path.early.with_sft.offline_grpo:.2f`, that of SFT with itself in another order (the two see its own order) is {number}`path.early.with_sft.sft-order:.2f`; at the end {number}`path.end.with_sft.dft:.2f`, {number}`path.end.with_sft.offline_grpo:.2f` and {number}`path.end.with_sft.sft-order:.2f` ([](../controls/path)) |
# | Offline GRPO finds something that SFT lacks (C5) | the part off SFT is more of the same signal, or noise | added to the base, Offline GRPO's part off SFT changes the held-out loss by {number}`causes.base.off.offline_grpo:+.3f` nats a token, as much off SFT by another order of SFT by {number}`causes.base.order.offline_grpo:+.3f`, as much at random by {number}`causes.base.random.offline_grpo:+.3f` ([](../controls/causes)) |
# | five methods alike, DPO the most accurate (C3, C10) | how long the deltas are | the five lie {number}`ray.spread.trained.mean:.1%` of accuracy apart as trained, {number}`ray.spread.best.mean:.1%` each at its best length ([](../controls/ray)) |
# | the same (C3, C10) | the schedule is stopped at two thirds | run to its end in as many steps the five lie {number}`annealed.spread.annealed.mean:.1%` apart instead of {number}`annealed.spread.trained.mean:.1%`, and DPO lies {number}`annealed.dpo.annealed:+.1%` from the base instead of {number}`annealed.dpo.trained:+.1%` ([](../controls/annealed)) |
# | cosines stand for behaviour (all claims on angles) | they fit where the start is shared | over pairs of models the rank correlation of the cosine with the divergence of next tokens is {number}`behaviour.tokens.one.cosine:+.2f` where both have one initial $A$ and {number}`behaviour.tokens.two.cosine:+.2f` where they have two ([](../controls/behaviour)) |
# | all of it | one draw of orders and $A$ | of the {number}`spread.judged` claims that weights and answers can judge, {number}`spread.same.count` have the same verdict in {number}`spread.cells` repetitions; a cosine of two losses has a range of {number}`spread.range.cosine.most:.3f` at most, an accuracy one of {number}`spread.range.accuracy.most:.1%` ([](../controls/spread)) |
# | all of it | one small base, made for this book | of the {number}`another_base.both` claims that can be tested on a pretrained model of another family, too, {number}`another_base.agree.count` have the same verdict there, {number}`another_base.agree.claims` ([](../controls/another_base)) |
# :::
#
# The rows on [the spread](../controls/spread), [the path](../controls/path), [the ray](../controls/ray), [the annealed schedule](../controls/annealed), [causes](../controls/causes) and [behaviour](../controls/behaviour) rest on {number}`ray.cells` or {number}`path.cells` repetitions of all six, with other orders of the rows or other initial $A$ (in the reference run on another processor than the rest); each other row is one training. Still missing are further bases for all six methods, and the same rules on a model nearer to the paper's (the profiles `qwen3-0.6b` and larger). Where they are missing, "not testable" is the honest word.
#
# ## How to read the ledger, and how not to
#
# - Read the column with the number before the one with the verdict. A rule draws a line; a number just beside the line is just beside the line.
# - The ledger shows one number of each claim; the table of lines has them all.
# - "Undecided" is a verdict about this run's precision, not a mild form of "not reproduced". An interval over modules or problems is also the least that there is: another seed of the training may move a number by more. [SFT with its rows in another order](../controls/reshuffled) shows one case.
# - Where the first and the present rule disagree, ask which of them could have failed. The reasons for each change are in the table above.
# - "Not reproduced" in profile {number}`run.profile` is a fact about this experiment. It contradicts the paper only if the claim was meant to hold for any model. Some claims are: those about directions. Some are not: those about a base that is already almost perfect.
# - "Reproduced" does not mean that the paper's *explanation* is right.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-verdict
#
# *Re-run · ★★ · 20 minutes*
#
# Pick a claim whose verdict surprises you. Copy `book/claims.yaml`, change one threshold of its rule to a value that you would have defended *before* seeing the result, and run this notebook with the parameter `ledger` set to your file. Does the verdict change? How far would the threshold have to move?
# ```
#
# ```{dropdown} Hint
# The table of lines above shows each quantity that enters a rule, with its interval.
# ```
#
# ````{solution} ex-verdict
# :label: sol-verdict
# :class: dropdown
#
# There is no single answer; the point is the distance. If any threshold that one could reasonably defend gives the same verdict, the verdict is robust. If it flips within the interval of the number, the honest summary is "undecided", whatever the rule says. Note also what you now know and did not know before: a threshold chosen after looking is no longer a test.
# ````
#
# ## Take-away
#
# Seventeen claims, rules written before the run that they judge and kept with their history, one table. {number}`verdict.count.reproduced` reproduced, {number}`verdict.count.direction` in direction only, {number}`verdict.count.undecided` undecided, {number}`verdict.count.failed` not reproduced, {number}`verdict.count.untestable` not testable here.
