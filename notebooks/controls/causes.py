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
# (control-causes)=
# # Does it matter? Taking the orthogonal part away, and putting in another
#
# **The answer.** Added to the base, the part of Offline GRPO off SFT changes the held-out loss by {number}`causes.base.off.offline_grpo:+.3f` nats a token, as much off SFT by another order of SFT's rows by {number}`causes.base.order.offline_grpo:+.3f`, and as much at random by {number}`causes.base.random.offline_grpo:+.3f` (means over {number}`causes.cells` repetitions of all trainings).
#
# **What you will learn.** Whether the part of a delta that is off SFT's direction does anything, whether it does what its loss is for, and whether any other part of that length would do the same.
#
# ## The question
#
# "67 % of Offline GRPO's delta are orthogonal to SFT" sounds as if Offline GRPO had found something that SFT lacks. An angle cannot say that. So the delta is taken apart,
#
# $$
# \Delta = c\,S + R, \qquad c = \frac{\inner{\Delta}{S}}{\norm{S}^2},\quad \inner{R}{S} = 0,
# $$ (eq-parts)
#
# with all modules stacked, and the parts are tried on the base and on SFT. Here $R$ has {number}`causes.fraction.offline_grpo:.0%` of the length of Offline GRPO's delta and {number}`causes.fraction.dpo:.0%` of DPO's, but {number}`causes.fraction.rift:.0%` of RIFT's (means over the repetitions). Where it is nearly all, base $+\,R$ is nearly the method itself.
#
# | model | what it asks |
# |---|---|
# | base $+\,c\,S$ | is the part along SFT enough? |
# | base $+\,R$ | does the orthogonal part do anything by itself? |
# | base $+\,R_{\text{order}}$ | would the orthogonal part of SFT *in another order* do the same? |
# | base $+\,R_{\text{random}}$ | would a meaningless part do the same? |
# | SFT $+\,R$, SFT $+\,R_{\text{order}}$, SFT $+\,R_{\text{random}}$ | the same on top of SFT |
#
# $R_{\text{order}}$ is scaled to the length of $R$. $R_{\text{random}}$ has the length of $R$ in every module, reads the same inputs (the adapter's own $A$), and has a random $B$; it is not made orthogonal to $S$. All of it for {number}`causes.cells` repetitions from one base: the run, and further ones whose rows come in another order (the table below lists them). In each, SFT is its own, and "another order" is SFT of the repetition before (for the run, [SFT reshuffled](reshuffled)): neighbouring repetitions share a model, so they are not independent.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.evaluation.choice import FLOOR
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.spread_plots import treatments
from finetune_geometry.repetitions.cells import made_where, read_cells
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.repetitions import MEASUREMENTS

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
chosen = MEASUREMENTS["causes"].cells(this_run.profile)
others = [method for method in METHODS if method != "sft"]

# %% [markdown]
# ## The models
#
# Each repetition is taken apart and measured by a job of its own ([`measure_causes`](../../book/api/repetitions.md)), and this page lays their tables side by side.

# %%
table = read_cells(this_run, chosen, "causes")
shares = read_cells(this_run, chosen, "causes_parts")
table["accuracy"] = table["right"] / table["problems"].where(table["problems"] > 0)
this_run.write_table("controls/causes.csv", table)
show_table(made_where(this_run, chosen, "causes"), {"minutes": "{:.0f}"})

# %% [markdown]
# ## On the base alone

# %% tags=["hide-input"]
start = table[table["method"] == "base"].set_index("cell")["loss"]
alone = table[table["part"].isin(["whole", "along", "off", "order", "random"])]
alone = alone.assign(value=alone["loss"] - alone["cell"].map(start))
parts = {
    "whole": "the whole delta",
    "along": "its part along SFT",
    "off": "its part off SFT",
    "order": "as much off SFT by another order",
    "random": "as much at random",
}

# %% mystnb={"figure": {"name": "fig-causes-base", "caption": "What does each part do to the base? Change of the held-out loss (nats a token; below 0: better) when a part is added to the base; one mark a repetition. The part of Offline GRPO off SFT changes it by {number}`causes.base.off.offline_grpo:+.3f`, as much off SFT by another order of SFT by {number}`causes.base.order.offline_grpo:+.3f`, as much at random by {number}`causes.base.random.offline_grpo:+.3f` (means). For DPO the three are {number}`causes.base.off.dpo:+.3f`, {number}`causes.base.order.dpo:+.3f` and {number}`causes.base.random.dpo:+.3f`. The loss is that of imitating the teacher; a part may do something else."}, "image": {"alt": "For each method five rows of marks: change of the held-out loss by the whole delta, its part along SFT, its part off SFT, a part of another order and a random part."}} tags=["hide-input"]
treatments(
    alone, {method: label(method) for method in others}, parts, xlabel="change of the held-out loss"
)
# %% [markdown]
# ## On top of SFT

# %% tags=["hide-input"]
with_sft = table[table["method"] == "sft"].set_index("cell")["loss"]
added = table[table["part"].isin(["sft and off", "sft and order", "sft and random"])]
added = added.assign(value=added["loss"] - added["cell"].map(with_sft))
words = {f"sft and {part}": parts[part] for part in ("off", "order", "random")}

# %% mystnb={"figure": {"name": "fig-causes-sft", "caption": "And what does it do to SFT? The same on top of SFT. The part of Offline GRPO changes the loss by {number}`causes.sft.off.offline_grpo:+.3f`, that of another order by {number}`causes.sft.order.offline_grpo:+.3f`, a random one by {number}`causes.sft.random.offline_grpo:+.3f` (means). Two deltas that each are good for the base need not be good together: their sum is longer than either."}, "image": {"alt": "For each method three rows of marks: change of the held-out loss when a part is added to SFT."}} tags=["hide-input"]
treatments(
    added,
    {method: label(method) for method in others},
    words,
    xlabel="change of the held-out loss",
    skip=2,  # the looks of the figure above
)
# %% [markdown]
# In right answers to {number}`causes.validation` validation problems, means over the repetitions ("nan" where the base has fewer than {number}`causes.floor:.0%` of them right, and none were asked). The base has {number}`causes.right.base:.1%`, SFT {number}`causes.right.sft:.1%`. The interval of one such share in one repetition is up to {number}`causes.half_width:.0%` either way, and nothing here is tested.

# %%
wide = table[table["part"] != ""].pivot_table(
    index="method", columns="part", values="accuracy", aggfunc="mean", dropna=False
)
columns = [name for name in [*parts, *words] if name in wide.columns]
heads = {name: f"base + {name}" for name in parts if name != "whole"}
heads |= {
    "whole": "the method",
    **{name: f"SFT + {name.removeprefix('sft and ')}" for name in words},
}
show_table(
    wide.reindex(others)[columns].rename(columns=heads).reset_index(),
    {"method": label, **{heads[name]: "{:.1%}" for name in columns}},
)

# %% [markdown]
# ## What was expected
#
# Written down before any of these models was measured (`book/predictions.yaml`), but after a pilot on an earlier student, which the file describes; means over the repetitions, nats a token. For another profile, of which nothing was expected, the numbers stand alone.

# %%
by_part = alone.groupby(["part", "method"])["value"].mean()
show_expected(
    this_run.profile.name,
    "causes",
    {
        "off_alone_minus_base_offline_grpo": by_part["off", "offline_grpo"],
        "off_alone_minus_base_dpo": by_part["off", "dpo"],
        "random_alone_minus_base_offline_grpo": by_part["random", "offline_grpo"],
        "order_alone_minus_off_alone_offline_grpo": (
            by_part["order", "offline_grpo"] - by_part["off", "offline_grpo"]
        ),
    },
)

# %% [markdown]
# ## What it means
#
# - **A part that works is not a part that is new.** If the part off SFT does to the base what as much of another order of SFT does, the loss gives no reason to call it new; two different directions can lower a loss equally. If it does more, it may be the loss's own, or that of its choice of rows. If it does no more than a random part, *this* loss does not see it; the answers, or another loss, might.
# - **The part along SFT** alone changes the base by {number}`causes.base.along.offline_grpo:+.3f` nats for Offline GRPO, the whole delta by {number}`causes.base.whole.offline_grpo:+.3f`.
# - **For C5 and C7** this is the test that angles cannot make. It says what a direction does to *this* loss and *these* problems.
#
# ## How to read the figures, and how not to
#
# - **{number}`causes.cells` repetitions** show a range, no interval. Compare treatments within a repetition. A difference that has not the same sign in each cannot be told from none here; and the same sign in all of {number}`causes.cells` comes by chance in {number}`causes.same_sign:.0%` of cases where there is no difference. All share the held-out rollouts and the validation problems: others could move all marks together.
# - **Large parts leave the linear regime.** A sum of two long deltas is far from the base, where neither was trained.
# - **The random part reads the same inputs.** It has a random $B$ only. A matrix that is random on the input side, too, was not tried. $R$ itself reads through SFT's $A$ as well as through its own.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-causes
#
# *Derivation · ★★ · 15 minutes*
#
# (a) Show that the lengths of the parts obey $\norm{\Delta}^2 = c^2 \norm{S}^2 + \norm{R}^2$. (b) Suppose the loss is quadratic and isotropic around a best delta $D$: $L = \norm{\Delta - D}^2$. By how much does adding $R$ to the base change it, and when is that good? (c) And adding it to $S$?
# ```
#
# ```{dropdown} Hint
# $R$ is what is left of $\Delta$ when its part along $S$ is taken away. What is $\inner{R}{S}$? For (b) expand the square.
# ```
#
# ````{solution} ex-causes
# :label: sol-causes
# :class: dropdown
#
# (a) $\inner{R}{S} = 0$. (b) By $\norm{R}^2 - 2\inner{R}{D}$: good if its cosine with $D$ is above $\norm{R} / (2 \norm{D})$. (c) By the same, as $\inner{R}{S} = 0$: in this picture it does not matter what it is added to. Where the two figures differ, the picture is wrong: the loss is not isotropic.
# ````
#
# ## Take-away
#
# Orthogonal means different. Whether it is new, or useful, only the model can say: add the part, and measure.

# %% tags=["remove-cell"]


def means(rows: pd.DataFrame, prefix: str = "") -> dict[str, dict[str, float]]:
    table = rows.groupby(["part", "method"])["value"].mean()
    return {
        part.removeprefix(prefix): {method: float(table[part, method]) for method in others}
        for part in table.index.get_level_values("part").unique()
    }


alone_right = table[table["part"] == ""].groupby("method")["accuracy"].mean()
this_run.record(
    "causes",
    {
        "cells": len(chosen),
        "base": means(alone),
        "sft": means(added, "sft and "),
        "fraction": shares.groupby("method")["fraction"].mean().astype(float).to_dict(),
        "right": alone_right.astype(float).to_dict(),
        "validation": this_run.profile.problems.validation,
        "floor": FLOOR,
        "half_width": 1.96 * (0.25 / this_run.profile.problems.validation) ** 0.5,
        "same_sign": 2.0 ** (1 - len(chosen)),
    },
)
