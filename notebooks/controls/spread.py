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
# (control-spread)=
# # The spread: what is the loss, and what is the draw?
#
# **The answer.** Over {number}`spread.cells` repetitions of all six trainings, {number}`spread.same.count` of the {number}`spread.judged` claims that weights and answers can judge get one and the same verdict every time. A cosine of two losses has a range of {number}`spread.range.cosine.median:.3f` over the repetitions (median of the pairs); from one pair of losses to another it goes from {number}`spread.pairs.low:.2f` to {number}`spread.pairs.high:.2f`.
#
# **What you will learn.** How far each headline number moves when the rows come in another order and when the initial $A$ is another, which verdicts survive that, and how little a range of a few values promises.
#
# ## The question
#
# A training draws twice, an order of its rows and an $A$; how a processor rounds is a third source of chance. The paper has one run of each method and a second seed of SFT, and most chapters of this book have one run, too. Their intervals are over modules or problems: they say how firmly *these models* differ. Whether *the losses* differ is a question for repetitions. [A second seed](second_seed) asked it of SFT alone.
#
# Each repetition trains all six methods alike: in one order of the prompts and from one $A$ for all of them, as the run itself does. Each has a yardstick as well, SFT in another order with the same $A$. A repetition with another order takes the SFT of the one before it, the first that of the run, so the yardsticks are not independent of each other. And each is judged by the rules of the ledger as if it were a run of its own. Lines between models and hidden states were measured in the run alone, so the claims about them (C6, C8, C9) are not asked here, nor those that need a control (C12, C14, C15), the base's answers (C17), or what no run here has (C11, C16).

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
from itertools import combinations

import pandas as pd

from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.judging import UNTESTABLE
from finetune_geometry.figures.bases_plots import verdict_tiles
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.spread_plots import repetitions
from finetune_geometry.repetitions.cells import made_where, read_cells
from finetune_geometry.report.bases import listed
from finetune_geometry.report.cells import components, judged_cells
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.repetitions import MEASUREMENTS

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
chosen = MEASUREMENTS["spread"].cells(this_run.profile)

# %% [markdown]
# ## The verdicts
#
# Each repetition is measured by a job of its own ([`measure_spread`](../../book/api/repetitions.md)), and this page lays their tables side by side.

# %%
numbers = read_cells(this_run, chosen, "headlines")
this_run.write_table("controls/spread.csv", numbers)
judged = judged_cells(load_ledger(), read_cells(this_run, chosen, "measures"))
this_run.write_table("controls/spread_claims.csv", judged)
names = [cell.name for cell in chosen]
verdicts = judged.pivot_table(index="claim", columns="cell", values="verdict", aggfunc="first")
verdicts = verdicts.loc[judged["claim"].drop_duplicates(), names]
verdicts = verdicts[(verdicts != UNTESTABLE).any(axis=1)]
same = verdicts.eq(verdicts["run"], axis=0)
show_table(made_where(this_run, chosen, "spread"), {"minutes": "{:.0f}"})

# %% mystnb={"figure": {"name": "fig-spread-verdicts", "caption": "Does a verdict survive another draw? One row a claim, one tile a repetition: the seeds of the run, other orders of the rows, other draws of $A$ and order. One verdict in all of them: {number}`spread.same.claims`; several: {number}`spread.moved.claims`. A row of one colour says that these draws did not change the verdict: where the number is far from its line (the table below) that is no surprise, and an \"undecided\" that stays is no finding. All repetitions have one base; another base may judge differently."}, "image": {"alt": "Rows of coloured tiles: the verdict on each claim in every repetition."}} tags=["hide-input"]
titles = judged.drop_duplicates("claim").set_index("claim")["title"]
words = {"run": "the run", "order": "order", "draw": "A and order", "student": "student"}
numbered = {
    cell.name: f"{words[cell.kind]} {cell.name.removeprefix(cell.kind)}".strip() for cell in chosen
}
verdict_tiles(verdicts.assign(title=titles[verdicts.index]).reset_index(), numbered)
# %% [markdown]
# How far does the number move that decides, and where is its line? Only repetitions that were decided by the same number and the same line as the run are counted. A line can be a measured number itself.

# %% tags=["hide-input"]
own = judged[judged["cell"] == "run"].set_index("claim")
asked = judged["measure"].eq(judged["claim"].map(own["measure"]))
asked &= judged["line"].eq(judged["claim"].map(own["line"]))
alike = judged[asked].groupby("claim")[["value", "line_value"]]
least, greatest = alike.min(), alike.max()


def line_in_words(claim: str) -> str:
    """A line, with the values that it takes where it is a measured number."""
    text, low, high = own["line"][claim], least["line_value"][claim], greatest["line_value"][claim]
    text = text.replace(">=", "≥").replace("<=", "≤")
    return text if low == high else f"{text}: {low:.3g} to {high:.3g}"


show_table(
    pd.DataFrame(
        {
            "claim": verdicts.index,
            "repetitions with the run's verdict": [
                f"{n} of {len(names)}" for n in same.sum(axis=1)
            ],
            "decided by": own["measure"][verdicts.index].to_numpy(),
            "least": least["value"][verdicts.index].to_numpy(),
            "greatest": greatest["value"][verdicts.index].to_numpy(),
            "its line": [line_in_words(claim) for claim in verdicts.index],
        }
    ),
    dict.fromkeys(["least", "greatest"], "{:.3g}"),
)

# %% [markdown]
# ## The cosines

# %% tags=["hide-input"]
pairs = numbers[numbers["quantity"] == "cosine"]
pairs = pairs.assign(key=pairs["a"] + " " + pairs["b"])
by_pair = pairs.pivot_table(index="key", columns="cell", values="value", sort=False)[names]
by_pair = by_pair.loc[by_pair.mean(axis=1).sort_values(ascending=False).index]
pair_names = {key: ", ".join(map(label, key.split())) for key in by_pair.index}

# %% mystnb={"figure": {"name": "fig-spread-cosines", "caption": "How far does a cosine move from one repetition to the next? Every pair of the six methods, and of each with the yardstick, SFT (reshuffled); one mark a repetition. SFT and RFT have {number}`spread.cosine.sft_rft.low:.3f` to {number}`spread.cosine.sft_rft.high:.3f`, SFT and DFT {number}`spread.cosine.sft_dft.low:.3f` to {number}`spread.cosine.sft_dft.high:.3f`, SFT and Offline GRPO {number}`spread.cosine.sft_offline_grpo.low:.3f` to {number}`spread.cosine.sft_offline_grpo.high:.3f`, SFT and DPO {number}`spread.cosine.sft_dpo.low:.3f` to {number}`spread.cosine.sft_dpo.high:.3f`, SFT and SFT (reshuffled) {number}`spread.cosine.sft_order.low:.3f` to {number}`spread.cosine.sft_order.high:.3f`. Of the {number}`spread.compared` comparisons of two pairs of different methods, the same pair has the larger cosine in every repetition in {number}`spread.kept:.0%`; most of them compare pairs that lie far apart. Within a repetition all share one $A$; cosines between repetitions are not shown, because another $A$ alone lowers them."}, "image": {"alt": "One row a pair of methods with marks for its cosine in every repetition, by kind of repetition."}} tags=["hide-input"]
repetitions(pairs, pair_names, xlabel="global cosine")
# %% [markdown]
# ## Accuracy, length, rank

# %% tags=["hide-input"]
right = numbers[numbers["quantity"] == "accuracy"].assign(key=lambda table: table["a"])
by_method = right.pivot_table(index="a", columns="cell", values="value")[names].loc[list(METHODS)]

# %% mystnb={"figure": {"name": "fig-spread-accuracy", "caption": "Which differences in accuracy survive another draw? Test accuracy of each method in every repetition. One method has a range of {number}`spread.range.accuracy.median:.1%` in the median and {number}`spread.range.accuracy.most:.1%` at most ({number}`spread.range.accuracy.method`). In {number}`spread.ranks_kept` of the {number}`spread.ranked` pairs of methods neither is ahead in one repetition and behind in another; they change places: {number}`spread.ranks_moved`. McNemar's test knows nothing of this: it compares two models, not two losses."}, "image": {"alt": "One row a method with marks for its test accuracy in every repetition."}} tags=["hide-input"]
repetitions(
    right, {method: label(method) for method in METHODS}, xlabel="test accuracy", percent=True
)
# %% tags=["hide-input"]
by_quantity = numbers[numbers["quantity"].isin(["norm", "rank"]) & numbers["a"].isin(METHODS)]
lengths_ranks = by_quantity.pivot_table(
    index="a", columns="quantity", values="value", aggfunc=["min", "max"]
)
show_table(
    pd.DataFrame(
        {
            "method": list(METHODS),
            **{
                f"{text}, {end}": lengths_ranks[which, quantity][list(METHODS)].to_numpy()
                for quantity, text in {"norm": "length", "rank": "entropy rank"}.items()
                for which, end in {"min": "least", "max": "greatest"}.items()
            },
        }
    ),
    {"method": label}
    | {
        f"{text}, {end}": "{:.2f}"
        for text in ("length", "entropy rank")
        for end in ("least", "greatest")
    },
)

# %% [markdown]
# ## What was expected
#
# Written down before any repetition was trained (`book/predictions.yaml`), for more of them than there are: five orders, three draws of $A$ and order, three further students. The run counts among the repetitions; a standard deviation over orders rests on the {number}`spread.orders` orders there are (of two it is their difference divided by $\sqrt 2$). The run always agrees with itself, so the least share that is possible is one in {number}`spread.cells`. What needs further draws or students has no number yet. For another profile, of which nothing was expected, the numbers stand alone.

# %%
share = same.mean(axis=1)
parts = components(numbers, this_run.profile.evaluation.confidence)
of_cosines = parts[parts["quantity"] == "cosine"].set_index(["a", "b"])
show_expected(
    this_run.profile.name,
    "spread",
    {
        **{f"cells_with_the_runs_verdict_on_{claim}": share[claim] for claim in share.index},
        "order_deviation_of_the_cosine_of_sft_and_rft": of_cosines.loc[("sft", "rft"), "order"],
        "order_deviation_of_the_cosine_of_sft_and_dft": of_cosines.loc[("sft", "dft"), "order"],
        "order_deviation_of_an_accuracy": parts.query("quantity == 'accuracy'")["order"].max(),
        "initial_against_order_deviation_of_cosines": (
            of_cosines["initial"] / of_cosines["order"]
        ).median(),
        "base_against_order_deviation_of_cosines": (
            of_cosines["base"] / of_cosines["order"]
        ).median(),
    },
)

# %% [markdown]
# ## What it means
#
# - **For every headline there are two uncertainties.** The interval over modules or problems, in the chapters, is about these models. The marks here show what another training does, on this base, this pool and these problems. When you speak of a loss, allow for both.
# - **Cosines: the loss and the draw.** The {number}`spread.pairs.count` pairs of two losses lie between {number}`spread.pairs.low:.2f` and {number}`spread.pairs.high:.2f` (means over the repetitions); the largest range of one pair is {number}`spread.range.cosine.most:.3f` ({number}`spread.range.cosine.pair`). Where two pairs lie nearer to each other than that, these repetitions do not order them firmly.
# - **Accuracy.** The means of SFT, RFT, DFT and RIFT lie within {number}`spread.four.gap:.1%` of each other; one of these four has a range of up to {number}`spread.four.most:.1%`. Of their six pairs {number}`spread.four.moved` are ahead in one repetition and behind in another.
# - **A small spread is no strong finding by itself.** In every repetition RFT reads the {number}`rollouts.mean_reward:.0%` of SFT's rows that are right ([](../geometry/cosine)): that the two stay close may be the rows' doing.
#
# ## How to read the figures, and how not to
#
# - **{number}`spread.cells` repetitions give a range, no interval.** The exercise says how often the next one falls outside, were all drawn alike; these are not, as some share their $A$. It holds for each number by itself: of many numbers some leave their range. Which of the two draws moves a number more, the order or the $A$, cannot be told from them.
# - **The run, once more.** In the reference run all repetitions, the run's own six too, were trained on another processor than the other chapters' models, so their marks are not the numbers of those chapters. Some of those lie outside the ranges here. How far the processor alone moves a number says [](../../book/reproducing.md): about as far as the marks lie apart. What moved a mark, the order, the $A$ or the rounding, cannot be told.
# - **One base, one pool, one teacher, one set of test problems.** Another pool or another student could move all marks together. [](another_base) adds one base of another family, with one training of each loss.
# - **Many claims, many looks.** {number}`spread.judged` claims are judged in each repetition and {number}`spread.compared` comparisons of two cosines are counted. The largest ranges are the largest of {number}`spread.pairs.count` pairs and of six methods, and large for that reason too; the medians are not.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-spread
#
# *Derivation · ★★ · 10 minutes*
#
# (a) A number was measured in $n$ repetitions, and the next repetition is drawn like them. How probable is it that its number lies outside the range of the first $n$? Assume nothing about the distribution but that no two values are equal. (b) How many repetitions are needed for that to be at most one in ten? (c) Two methods differ by 4 points in accuracy, one training each, and the standard deviation of one over orders is 1.5 points. How many standard deviations of the difference are 4 points, if the two trainings have nothing to do with each other?
# ```
#
# ```{dropdown} Hint
# (a) Of $n + 1$ values, each is as likely as any other to be the largest. (c) The variances of independent numbers add up, also in a difference.
# ```
#
# ````{solution} ex-spread
# :label: sol-spread
# :class: dropdown
#
# (a) The last of $n + 1$ values is the largest with probability $1/(n+1)$ and the smallest with the same: together $2/(n+1)$. With three repetitions every second further one is expected outside their range. (b) $2/(n+1) \le 1/10$ needs $n \ge 19$. (c) $1.5\sqrt 2 = 2.1$ points; 4 points are 1.9 of them: hardly evidence.
# ````
#
# ## Take-away
#
# One run shows what can happen. Of the {number}`spread.judged` verdicts that weights and answers can give, {number}`spread.same.count` came out the same in every repetition.

# %% tags=["remove-cell"]


def ends(values: pd.Series) -> dict[str, float]:
    return {"low": float(values.min()), "high": float(values.max())}


def kept(table: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """Pairs of rows, and whether neither is the greater in one column and the less in another."""
    found = []
    for one, two in combinations(table.index, 2):
        apart = table.loc[one] - table.loc[two]
        found.append((one, two, not ((apart > 0).any() and (apart < 0).any())))
    return found


losses = by_pair.loc[[key for key in by_pair.index if {*key.split()} <= {*METHODS}]]
ranges = losses.max(axis=1) - losses.min(axis=1)
of_accuracy = by_method.max(axis=1) - by_method.min(axis=1)
compared, ranked = kept(losses), kept(by_method)
four = by_method.loc[["sft", "rft", "dft", "rift"]].mean(axis=1)
stable = same.all(axis=1)
moved = [f"{label(one)} and {label(two)}" for one, two, alike_ in ranked if not alike_]
this_run.record(
    "spread",
    {
        "cells": len(chosen),
        "orders": sum(cell.kind in ("run", "order") for cell in chosen),
        "judged": len(verdicts),
        "same": {"count": int(stable.sum()), "claims": listed(stable.index[stable])},
        "moved": {"count": int((~stable).sum()), "claims": listed(stable.index[~stable])},
        "cosine": {
            f"sft_{other.removeprefix('sft-')}": ends(by_pair.loc[f"sft {other}"])
            for other in ("rft", "dft", "offline_grpo", "dpo", "sft-order")
        },
        "pairs": {"count": len(losses), **ends(losses.mean(axis=1))},
        "range": {
            "cosine": {
                "median": float(ranges.median()),
                "most": float(ranges.max()),
                "pair": pair_names[ranges.idxmax()],
            },
            "accuracy": {
                "median": float(of_accuracy.median()),
                "most": float(of_accuracy.max()),
                "method": label(of_accuracy.idxmax()),
            },
        },
        "compared": len(compared),
        "kept": sum(alike_ for *_, alike_ in compared) / len(compared),
        "ranked": len(ranked),
        "ranks_kept": len(ranked) - len(moved),
        "ranks_moved": "; ".join(moved) or "none",
        "four": {
            "gap": float(four.max() - four.min()),
            "most": float(of_accuracy[four.index].max()),
            "moved": sum(not fixed for a, b, fixed in ranked if {a, b} <= {*four.index}),
        },
    },
)
