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
# (control-reshuffled)=
# # SFT once more, its rows reshuffled
#
# **The answer.** SFT and SFT on reshuffled rows have a cosine of {number}`cosine.sft_reshuffled:.2f`, where two random deltas have {number}`cosine.chance_low:.2f` to {number}`cosine.chance_high:.2f`. The cosines of two losses are to be read beside the first.
#
# **What you will learn.** What a delta owes to the rows that a training happened to see, and why no two losses should be called "collinear" or "orthogonal" before you know how far one loss lies from itself.
#
# ## The question
#
# The next part compares the six deltas. Which of them point the same way? And the same way as compared with what? Random arrows are a poor measure: they share nothing, while all six trainings share the base, the initial $A$ and the pool of rollouts. The fair measure is one loss, trained twice.
#
# So here SFT is trained once more. The loss, the pool, the initial $A$, the learning rate and the number of steps are those of [SFT](../methods/sft). The only change is the seed that shuffles the rows: which rows form a batch, and when they come. The book calls this control **SFT (reshuffled)**. It is in every figure of the geometry chapters that is about direction, with a hollow mark.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
seed: int = 123  # of the other order of the rows; SFT's own is the profile's

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd

from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.geometry.prediction import visits
from finetune_geometry.methods.rows import row_lengths, row_order, unpaired_rows
from finetune_geometry.methods.training import trained
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
control, reshuffled = "sft-order", Run.open(profile, run, {"methods.sft.seed": seed})
orders = {
    "sft": this_run.profile.training_of("sft"),
    control: reshuffled.profile.training_of("sft"),
}
if seed == orders["sft"].seed:
    raise UserError(f"seed = {seed}: parameter: it is SFT's own, so give another one")

# %% [markdown]
# ## Train

# %% tags=["hide-output"]
card = trained(reshuffled, "sft", control)

# %% [markdown]
# ## How many rows did both see?
#
# A training of {number}`reshuffled.steps` steps of {number}`reshuffled.batch` rows makes {number}`reshuffled.epochs:.2f` passes over the {number}`reshuffled.rows:,` rows of the pool. Below one pass it does not come to all of them, so another order also means *other rows*.

# %%
rows = unpaired_rows(load_rollouts(this_run), "sft", this_run.profile.methods["sft"])
lengths = row_lengths(rows).max(1)
counts = {
    name: visits(row_order(lengths, training), len(rows)) for name, training in orders.items()
}
one, two = counts.values()
seen = pd.DataFrame(
    [
        *((label(name), int((count > 0).sum())) for name, count in counts.items()),
        ("both", int(((one > 0) & (two > 0)).sum())),
        ("neither", int(((one == 0) & (two == 0)).sum())),
    ],
    columns=["seen by", "rows"],
)
show_table(seen, {"rows": "{:,}"})

# %% [markdown]
# Of the rows that SFT (reshuffled) saw, SFT had seen {number}`reshuffled.shared:.0%`. The rest is new to it, though from the same teacher and the same kind of problems. If every row had a gradient of its own, at a right angle to all others, this overlap alone would decide the cosine of the two deltas: it would be {number}`reshuffled.overlap:.2f`. [The cosine chapter](../geometry/cosine) shows what it is.
#
# ## How to use the yardstick, and how not to
#
# - **A pair as far apart as these two has not been told apart by its losses.** When a method has the cosine with SFT that SFT (reshuffled) has, its loss may have moved the weights elsewhere, or just as far as other rows would have. The geometry cannot tell.
# - **A pair that is closer has not been shown to be special.** RFT and RIFT see SFT's own rows in SFT's own order. Shared rows can make deltas alike, whatever the loss: [](../geometry/cosine) works out how alike.
# - **It holds for one initial $A$ only.** If $A$ is drawn anew as well, SFT has a cosine of {number}`second_seed.cosine.seed:.2f` with itself: [](../controls/second_seed).
# - **It is one example.** One more order shows what chance can do, not how often. For another, give this notebook another `seed` and a `run` of its own.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-reshuffled
#
# *Derivation · ★★ · 15 minutes*
#
# A training makes $e < 1$ passes over a pool, without repeating a row. A second training draws its rows anew. (a) Which share of its rows has the first one seen? (b) Suppose that each row adds one arrow to the delta, all of equal length and at right angles to each other. What is the cosine of the two deltas? (c) And if both make exactly one pass?
# ```
#
# ```{dropdown} Hint
# For (b) write each delta as a vector with one entry for each row of the pool: how often it was seen.
# ```
#
# ````{solution} ex-reshuffled
# :label: sol-reshuffled
# :class: dropdown
#
# (a) A row drawn by the second is one of the first's with probability $e$. (b) The vectors hold ones and zeros. With $n$ rows in the pool each has $e\,n$ ones, and $e^2 n$ of them in common on average. So the cosine is $e^2 n / (e\,n) = e$. (c) Then both vectors are all ones and the cosine is 1: in this picture the order does not matter at all, only the counts. A real training also forgets, saturates and changes its step size, so for it the order can matter.
# ````
#
# ## Take-away
#
# One loss, two orders, two deltas. Their distance is the unit in which the distances between losses should be read.

# %% tags=["remove-cell"]
this_run.record(
    "reshuffled",
    {
        "seed": seed,
        "rows": len(rows),
        "steps": card["steps"],
        "batch": orders[control].batch_size,
        "epochs": card["epochs"],
        "shared": float(((one > 0) & (two > 0)).sum() / (two > 0).sum()),
        "overlap": float(one @ two / np.sqrt(float(one @ one) * float(two @ two))),
    },
)
