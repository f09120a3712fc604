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
# (control-dials)=
# # Which loss do you mean? Definitions, the bias, and the share of mixed prompts
#
# **The answer.** From the least bias to the largest the cosine of SFT and Offline GRPO goes from {number}`dials.bias.least:.2f` to {number}`dials.bias.most:.2f`, where the weights alone predict {number}`dials.bias.least_predicted:.2f` and {number}`dials.bias.most_predicted:.2f`. RIFT as printed and RIFT as published have {number}`dials.rift:.2f` with each other.
#
# **What you will learn.** Whether "nearly collinear" is about a loss or about one formula of it, and whether two numbers that nobody looks at, the bias of Offline GRPO and the share of mixed prompts, set the angle, as simple arithmetic says they should.
#
# ## The question
#
# Three names of the paper stand for more than one loss. RIFT as printed and RIFT as published differ in what they do with wrong rollouts; published RFT leaves out repeated solutions; KRAFTON's Offline GRPO has another advantage ([](../../book/objectives)). And two numbers enter an angle without being part of any loss's idea:
#
# - the **bias** $b$ that is added to the advantages of Offline GRPO, so that groups without a contrast still teach something;
# - the **share of mixed prompts**, which the teacher and the problems decide. In groups that are all right or all wrong every loss of the five is SFT with a number in front.
#
# For both there is an arithmetic prediction, {eq}`eq-prediction`, from the weights alone. Here the dials are turned, and the prediction is drawn in.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.spread_plots import dials
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.prediction import rollout_weights
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.methods.rows import rows_of_card
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.dials import BIASES, SHARES, other_variants
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.variations import kind_of, variations

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
further = [
    variation.name
    for variation in variations(this_run.profile).values()
    if kind_of(variation) in ("variant", "bias", "share")
]
names = [*METHODS, *further]
adapters = [load_adapter(this_run.adapter_dir(name), name) for name in names]
gram = sum(part.inner for part in map_modules(inner_products, adapters))
between = pd.DataFrame(cosine(gram), names, names)
pool = load_rollouts(this_run)
mixed = pool.groupby("group")["reward"].agg(lambda rewards: rewards.max() > rewards.min())


def weights_of(name: str) -> np.ndarray | None:
    """The signed weights with which an adapter's training met the rollouts of the whole pool."""
    card = this_run.read_json(f"adapters/{name}/card.json")
    loss, left, rows, order = rows_of_card(card, pool)
    seen = rollout_weights(card["objective"], loss, left, rows, order)
    if seen is None:
        return None
    return pd.Series(seen, left.index).reindex(pool.index, fill_value=0.0).to_numpy()


def predicted(a: str, b: str) -> float:
    one, two = weights_of(a), weights_of(b)
    if one is None or two is None:
        return float("nan")
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


# %% [markdown]
# ## Three names, six losses

# %%
rows = []
for method in METHODS:
    for number, variant in enumerate(other_variants(method), 1):
        name = f"{method}-variant{number}"
        rows.append(
            (label(method), variant, float(between.loc[name, method]),
             float(between.loc[method, "sft"]), float(between.loc[name, "sft"]))
        )  # fmt: skip
variants = pd.DataFrame(rows, columns=["loss", "other definition", "with itself", "sft", "other"])
show_table(
    variants.rename(
        columns={
            "with itself": "cosine of the two",
            "sft": "the paper's with SFT",
            "other": "the other with SFT",
        }
    ),
    dict.fromkeys(["cosine of the two", "the paper's with SFT", "the other with SFT"], "{:.3f}"),
)

# %% [markdown]
# ## The bias

# %%
own = this_run.profile.methods["offline_grpo"].constants["bias"]
points = {own: "offline_grpo"}
points |= {bias: f"offline_grpo-bias{number}" for number, bias in enumerate(BIASES, 1)}
bias = pd.DataFrame(
    [
        (value, "SFT, Offline GRPO", float(between.loc["sft", name]), predicted("sft", name))
        for value, name in sorted(points.items())
    ],
    columns=["x", "pair", "trained", "predicted"],
)

# %% mystnb={"figure": {"name": "fig-dials-bias", "caption": "Does the bias set the angle of Offline GRPO? Cosine with SFT by the bias; filled: trained, hollow: predicted from the weights. At $b = 0$ it is {number}`dials.bias.least:.2f` trained and {number}`dials.bias.least_predicted:.2f` predicted, at $b = 1$ {number}`dials.bias.most:.2f` and {number}`dials.bias.most_predicted:.2f`. With a large bias every rollout is imitated alike and the loss is SFT; without one, only the contrast within mixed groups is left. One training of each."}, "image": {"alt": "Cosine of SFT and Offline GRPO over the bias, trained and predicted."}} tags=["hide-input"]
dials(bias, xlabel="bias b")
# %% [markdown]
# ## The share of mixed prompts
#
# Prompts are dropped from the pool, drawn once, until the share is as asked. All methods read what is left.

# %%
shares = {float(mixed.mean()): ""}
shares |= {share: f"-share{number}" for number, share in enumerate(SHARES, 1)}
pairs = [("sft", "rft"), ("sft", "offline_grpo"), ("sft", "dpo")]
share = pd.DataFrame(
    [
        (value, f"{label(a)}, {label(b)}", float(between.loc[a + tail, b + tail]),
         predicted(a + tail, b + tail))
        for value, tail in sorted(shares.items())
        for a, b in pairs
    ],
    columns=["x", "pair", "trained", "predicted"],
)  # fmt: skip
this_run.write_table(
    "controls/dials.csv", pd.concat([bias.assign(dial="bias"), share.assign(dial="share")])
)

# %% mystnb={"figure": {"name": "fig-dials-share", "caption": "Does the share of mixed prompts set the angles? Filled: trained, hollow: predicted from the weights. From the smallest share to the largest SFT and RFT go from {number}`dials.share.sft_rft.first:.2f` to {number}`dials.share.sft_rft.last:.2f`, SFT and Offline GRPO from {number}`dials.share.sft_offline_grpo.first:.2f` to {number}`dials.share.sft_offline_grpo.last:.2f`, SFT and DPO from {number}`dials.share.sft_dpo.first:.2f` to {number}`dials.share.sft_dpo.last:.2f`. The pool's own share is {number}`dials.own:.0%`, the paper's about 10 %. Fewer prompts also mean more passes over those that are left."}, "image": {"alt": "Cosines of SFT with RFT, Offline GRPO and DPO over the share of mixed prompts, trained and predicted."}} tags=["hide-input"]
dials(share, xlabel="share of mixed prompts", percent=True)
# %% [markdown]
# ## What was expected
#
# Written down before any of these trainings (`book/predictions.yaml`). For another profile, of which nothing was expected, the numbers stand alone.

# %%
by_bias = bias.set_index("x")["trained"]
of_grpo = share[share["pair"] == f"{label('sft')}, {label('offline_grpo')}"]
show_expected(
    this_run.profile.name,
    "dials",
    {
        "cosine_of_sft_and_offline_grpo_at_bias_1": by_bias[1.0],
        "cosine_of_sft_and_offline_grpo_at_bias_0": by_bias[0.0],
        "trained_above_predicted_with_share": (of_grpo["trained"] - of_grpo["predicted"]).mean(),
        "cosine_of_sft_and_rift_as_published": float(between.loc["sft", "rift-variant1"]),
    },
)

# %% [markdown]
# ## What it means
#
# - **A sentence about a loss needs its formula beside it.** Published RIFT has a cosine of {number}`dials.rift:.2f` with RIFT as the paper prints it.
# - **A cosine with Offline GRPO is a reading of two dials.** Whoever reports one should report $b$ and the share of mixed prompts.
# - **The arithmetic is off by {number}`dials.miss:.2f` on average** over all points of both figures. It has the direction of each dial before anybody trains.
#
# ## How to read this, and how not to
#
# - **One training a point.** The spread over orders is in [](spread).
# - **Dropped prompts are not another teacher.** A pool with more mixed prompts by nature has harder problems, too.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-dials
#
# *Derivation · ★★ · 15 minutes*
#
# A share $m$ of the groups is mixed. In the others every rollout has weight $b$, in the mixed ones $b + a$ with $\mathrm{mean}(a) = 0$ and $\mathrm{mean}(a^2) = v$. Show that the predicted cosine of SFT and Offline GRPO is $b / \sqrt{b^2 + m v}$ when each rollout is seen once. Which $m$ gives 0.74 for $b = 0.1$ and $v = 0.75$?
# ```
#
# ```{dropdown} Hint
# Compute $\sum w w'$, $\sum w^2$ and $\sum w'^2$ over all rollouts, with $w = 1$ for SFT. Which terms vanish because $\mathrm{mean}(a) = 0$?
# ```
#
# ````{solution} ex-dials
# :label: sol-dials
# :class: dropdown
#
# With $n$ rollouts $\sum w w' = n b$, $\sum w^2 = n$ and $\sum w'^2 = n (b^2 + m v)$, for the cross terms $2 b a$ sum to zero. The quotient is $b / \sqrt{b^2 + m v}$. From $0.74^2 = 0.01 / (0.01 + 0.75\, m)$ follows $m = 0.011$: with a tenth of the groups mixed the arithmetic alone would put Offline GRPO much further away than the paper's 0.74.
# ````
#
# ## Take-away
#
# Before an angle is put down to a loss, turn the dials that the loss's name does not mention.

# %% tags=["remove-cell"]


def ends(pair: str) -> dict[str, float]:
    rows = share[share["pair"] == pair].sort_values("x")
    return {"first": float(rows["trained"].iloc[0]), "last": float(rows["trained"].iloc[-1])}


every = pd.concat([bias, share])
this_run.record(
    "dials",
    {
        "own": float(mixed.mean()),
        "bias": {
            "least": float(bias["trained"].iloc[0]),
            "least_predicted": float(bias["predicted"].iloc[0]),
            "most": float(bias["trained"].iloc[-1]),
            "most_predicted": float(bias["predicted"].iloc[-1]),
        },
        "share": {f"{a}_{b}": ends(f"{label(a)}, {label(b)}") for a, b in pairs},
        "rift": float(between.loc["rift", "rift-variant1"]),
        "miss": float((every["trained"] - every["predicted"]).abs().mean()),
    },
)
