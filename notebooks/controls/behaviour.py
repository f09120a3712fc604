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
# (control-behaviour)=
# # Which measure foretells behaviour?
#
# **The answer.** Over {number}`behaviour.pairs` pairs of {number}`behaviour.models` models the measure of weights with the strongest rank correlation with how far their next tokens lie apart is the {number}`behaviour.best.measure` ({number}`behaviour.best.value:+.2f`), before the {number}`behaviour.second.measure` ({number}`behaviour.second.value:+.2f`). The cosine has {number}`behaviour.tokens.one.cosine:+.2f` where two models share an initial $A$ and {number}`behaviour.tokens.two.cosine:+.2f` where they do not.
#
# **What you will learn.** Whether two models whose deltas form a small angle also behave alike, which geometric measure comes closest to saying so, and whether it still does when the initial $A$ differs.
#
# ## The question
#
# This book, and the paper, measure angles because weights are at hand. What anybody cares about is what the models do. Three measures of that, for every two models:
#
# - **tokens**: the divergence of their next-token distributions on held-out rollouts (Kullback-Leibler, symmetrised, nats a token). It sees changes that no greedy answer shows;
# - **texts**: the share of test problems whose greedy answers differ in some character;
# - **errors**: of the problems that at least one of the two gets wrong, the share that the other gets right.
#
# And of the weights: the global cosine, the distance $\norm{\Delta - \Delta'}$, the difference in length, and two smallest principal angles, between their leading output and between their leading input subspaces (medians over modules). The models are those of {number}`behaviour.cells` repetitions from one base (the table below lists them), {number}`behaviour.models` in all: the run and, as far as the profile has them, one with the rows in another order and one with another initial $A$ as well.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.evaluation.behaviour import rank_correlations
from finetune_geometry.figures.behaviour_plots import correlations, scatter_pairs
from finetune_geometry.figures.palette import set_style
from finetune_geometry.repetitions.behaviour import BEHAVIOURS, MEASURES, PAIRS
from finetune_geometry.repetitions.cells import made_where, read_cells
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.repetitions import MEASUREMENTS

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
chosen = MEASUREMENTS["behaviour"].cells(this_run.profile)

# %% [markdown]
# ## Every pair, measured
#
# Each repetition is measured by a job of its own ([`measure_behaviour`](../../book/api/repetitions.md)): every two of its models, and each of them beside each of the run's. This page lays the pairs side by side; a pair of a second and a third repetition was not measured.

# %%
table = read_cells(this_run, chosen, "behaviour")
pair_of = [frozenset(pair) for pair in table[["a", "b"]].to_numpy()]
table = table[~pd.Series(pair_of, table.index).duplicated()]  # two cells may share a model
this_run.write_table("controls/behaviour.csv", table)
one_a = table["pair"] != "two A"
models = pd.concat([table["a"], table["b"]]).nunique()
show_table(made_where(this_run, chosen, "behaviour"), {"minutes": "{:.1f}"})

# %% mystnb={"figure": {"name": "fig-behaviour", "caption": "Does a small angle mean alike behaviour? One dot for a pair, {number}`behaviour.pairs` of {number}`behaviour.models` models; the higher, the further their next tokens lie apart. Left by the global cosine, right by the distance of the deltas; the marks say whether the two share their initial A and their order. The rank correlation with the cosine is {number}`behaviour.tokens.one.cosine:.2f` for one A and {number}`behaviour.tokens.two.cosine:.2f` for two; with the distance {number}`behaviour.tokens.one.distance:.2f` and {number}`behaviour.tokens.two.distance:.2f`. Dots share models, so they are far fewer observations than they look."}, "image": {"alt": "Two scatter plots: divergence of next tokens against the global cosine and against the distance of the deltas, pairs with one A and pairs with two in different colours."}} tags=["hide-input"]
scatter_pairs(
    table,
    {"cosine": "global cosine", "distance": "distance of the deltas"},
    "tokens",
    ylabel="divergence of next tokens (nats)",
)
# %% [markdown]
# ## Every measure against every behaviour

# %%
confidence = this_run.profile.evaluation.confidence
found = pd.concat(
    rank_correlations(rows, MEASURES, behaviour, confidence).assign(behaviour=behaviour, pair=pair)
    for pair, rows in {
        **{pair: table[table["pair"] == pair] for pair in PAIRS},
        "one A": table[one_a],
        "all": table,
    }.items()
    for behaviour in BEHAVIOURS
    if pd.concat([rows["a"], rows["b"]]).nunique() >= 4
)
this_run.write_table("controls/behaviour_correlations.csv", found)
with_dpo = table["a"].str.startswith("dpo") | table["b"].str.startswith("dpo")
without = rank_correlations(table[one_a & ~with_dpo], MEASURES, "tokens", confidence)
without = without.set_index("measure")["value"]
ends = zip(found["value"], found["low"], found["high"], strict=True)
found["text"] = [f"{middle:+.2f} ({low:+.2f} to {high:+.2f})" for middle, low, high in ends]
kinds = list(dict.fromkeys(found["pair"]))
wide = found.pivot_table(
    index=["behaviour", "measure"], columns="pair", values="text", aggfunc="first", sort=False
)
show_table(wide[kinds].reset_index(), {})

# %% mystnb={"figure": {"name": "fig-behaviour-measures", "caption": "Which measure of the weights foretells the divergence of next tokens? Spearman's rank correlation over pairs, with {number}`profile.evaluation.confidence:.0%` jackknife intervals over models. Over all pairs the strongest is the {number}`behaviour.best.measure` with {number}`behaviour.best.value:+.2f`; the cosine has {number}`behaviour.tokens.all.cosine:+.2f`. A cosine should correlate negatively, a distance or an angle positively. With one A and two orders the cosine has {number}`behaviour.tokens.orders.cosine:+.2f`, with two A {number}`behaviour.tokens.two.cosine:+.2f`: these two kinds of pairs differ in the A alone. A measure that is strong for the one and weak for the other needs the shared start."}, "image": {"alt": "Rank correlations with intervals of five measures of weights with the divergence of next tokens, by what the two models of a pair share, and for all pairs."}} tags=["hide-input"]
correlations(found[found["behaviour"] == "tokens"], MEASURES)
# %% [markdown]
# ## What was expected
#
# Written down before any of these pairs was measured (`book/predictions.yaml`); rank correlations with the divergence of next tokens. For another profile, of which nothing was expected, the numbers stand alone.

# %%
value = found.set_index(["behaviour", "pair", "measure"])["value"]
tokens_of = {key[1:]: number for key, number in value.items() if key[0] == "tokens"}
nan = float("nan")  # of pairs that the profile has too few models for
show_expected(
    this_run.profile.name,
    "behaviour",
    {
        "cosine_one_a": tokens_of.get(("one A", "cosine"), nan),
        "cosine_other_a": tokens_of.get(("two A", "cosine"), nan),
        "distance_one_a": tokens_of.get(("one A", "distance"), nan),
        "left_angle_all": tokens_of.get(("all", "output angle"), nan),
    },
)

# %% [markdown]
# ## What it means
#
# - **Within one A** two deltas begin by reading the same directions of their inputs, so equal weights should mean equal behaviour. The rank correlations: {number}`behaviour.tokens.one.cosine:+.2f` with the cosine, {number}`behaviour.tokens.one.distance:+.2f` with the distance.
# - **Across two A** a cosine is lower for that reason alone: SFT has {number}`second_seed.cosine.order:.2f` with itself in another order and {number}`second_seed.cosine.seed:.2f` with another $A$ as well ([](second_seed)). Its rank correlation there is {number}`behaviour.tokens.two.cosine:+.2f`; the nearer that is to zero, the less a cosine says.
# - **The input angle** has {number}`behaviour.tokens.one.input_angle:+.2f` with one A, {number}`behaviour.tokens.two.input_angle:+.2f` with two, and {number}`behaviour.tokens.all.input_angle:+.2f` over all pairs. Its mean is {number}`behaviour.input_angle.one:.0f` degrees over the pairs with one A and two orders, {number}`behaviour.input_angle.two:.0f` over those with two A: the two kinds are not on one scale where these differ much.
# - **A cosine knows no length.** A distance knows how far two models went. Two long deltas at a small angle can behave less alike than two short ones at a right angle.
#
# ## How to read the figures, and how not to
#
# - **One method may make the picture.** Without the pairs of DPO the rank correlation of the tokens, for one A, is {number}`behaviour.without_dpo.cosine:+.2f` with the cosine and {number}`behaviour.without_dpo.distance:+.2f` with the distance.
# - **The strongest of five** is picked after looking, and its interval does not know of the picking. Whether it is stronger than the second was not tested.
# - **Models of one loss are near-twins.** The jackknife leaves out one model at a time, and the others of its loss stay. So the intervals are likely too narrow.
# - **Only a part of each text was read** where the vocabulary is large: as many first tokens of each held-out rollout as the memory holds.
# - **A rank correlation is no law.** It says that more goes with less, over these models.
# - **All of these models were fine-tuned on one task.** Over unrelated tasks the range of behaviours is wider, and correlations may be other ones.
# - **Greedy texts are coarse**: one other token early on changes all that follows.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-behaviour
#
# *Derivation · ★★★ · 20 minutes*
#
# (a) Show that for two models near the base the divergence of next tokens is, to second order, a quadratic form in $\Delta - \Delta'$. (b) Why is it then no function of the cosine alone? (c) For which pairs is the distance nearly a function of the cosine?
# ```
#
# ```{dropdown} Hint
# (a) Expand the divergence in the difference of the two models, with the coefficients at the base. Which terms must vanish at a minimum? (c) Write $\norm{\Delta - \Delta'}^2$ with the two lengths and the cosine.
# ```
#
# ````{solution} ex-behaviour
# :label: sol-behaviour
# :class: dropdown
#
# (a) The divergence of a distribution from itself is 0 and minimal, so its first derivative vanishes and the second, Fisher's information, taken at the base, gives the form $\tfrac12 (\Delta - \Delta')^\top F (\Delta - \Delta')$. (b) Scaling both deltas by 2 leaves the cosine and makes the form four times as large. (c) Where all deltas have one length: $\norm{\Delta - \Delta'}^2 = 2 \norm{\Delta}^2 (1 - \cos)$.
# ````
#
# ## Take-away
#
# An angle is about weights. It speaks for behaviour as far as somebody has checked that it does, for models like these and starts like these.

# %% tags=["remove-cell"]
strongest = found[(found["behaviour"] == "tokens") & (found["pair"] == "all")]
strongest = strongest.sort_values("value", key=abs, ascending=False)[["measure", "value"]]
short = {PAIRS[0]: "order", PAIRS[1]: "orders", "two A": "two", "one A": "one", "all": "all"}


def correlation(behaviour: str, pair: str, measure: str) -> float:
    key = (behaviour, pair, measure)
    return float(value[key]) if key in value.index else float("nan")


this_run.record(
    "behaviour",
    {
        "models": models,
        "pairs": len(table),
        "cells": len(chosen),
        **{
            behaviour: {
                short[pair]: {
                    measure.replace(" ", "_"): correlation(behaviour, pair, measure)
                    for measure in MEASURES
                }
                for pair in short
            }
            for behaviour in BEHAVIOURS
        },
        "input_angle": {
            kind: float(table.loc[table["pair"] == pair, "input angle"].mean())
            for kind, pair in (("one", PAIRS[1]), ("two", PAIRS[2]))
        },
        "without_dpo": {measure: float(without[measure]) for measure in ("cosine", "distance")},
        **dict(zip(("best", "second"), strongest.to_dict("records"), strict=False)),
    },
)
