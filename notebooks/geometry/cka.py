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
# (geometry-cka)=
# # CKA: do the models represent the same text in the same way?
#
# **The answer.** The least like the base in the last layer is {number}`cka.furthest_label`, with a CKA of {number}`cka.furthest:.2f`; SFT and DPO have {number}`cka.last.sft_dpo:.2f` there, SFT and RFT {number}`cka.last.sft_rft:.2f`. Unrelated features would have {number}`cka.chance.debiased:.3f`.
#
# **What you will learn.** How to compare the hidden states of two models that read the same tokens, why the usual estimator calls unrelated features similar, and how far into the network the methods agree.
#
# ## The question
#
# Weights are a means. What they do is turn a text into hidden states, layer after layer. Two models may have quite different weight changes and still do the same, or small changes may add up to a different late layer. The paper reports the second for DPO: similar early, very different from layer 25 of 36 on.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
rows: int | None = None  # held-out rollouts that are read; None: the profile's value
tokens: int | None = None  # completion tokens that are compared; None: the profile's value

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.evaluation.answers import check_adapters
from finetune_geometry.evaluation.claims import load_ledger, look_up
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.plots import by_depth, toy
from finetune_geometry.figures.result_plots import estimators
from finetune_geometry.geometry.cka import cka_table, linear_cka
from finetune_geometry.geometry.hidden_states import all_hidden_states, sample_tokens
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.table_layout import versus
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.keys import models_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"geometry.cka_rows": rows, "geometry.cka_tokens": tokens})
settings = this_run.profile.geometry
torch.set_num_threads(this_run.profile.training.threads)
adapters = [*METHODS, *(name.strip() for name in others.split(",") if name.strip())]
check_adapters(this_run, adapters)

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Debiased linear CKA
# :label: def-cka
#
# Two models read the same $n$ tokens. At one layer their hidden states are the rows of $X \in \mathbb{R}^{n \times d}$ and $Y \in \mathbb{R}^{n \times d'}$. Write $\tilde K$ for $X X^\top$ and $\tilde M$ for $Y Y^\top$, both with the diagonal set to 0. An unbiased estimate of their dependence {cite}`song2012feature` is
#
# $$
# \begin{aligned}
# \mathrm{HSIC}_1 = \frac{1}{n(n-3)} \Big[ & \operatorname{tr}(\tilde K \tilde M) + \frac{\mathbf 1^\top \tilde K \mathbf 1 \; \mathbf 1^\top \tilde M \mathbf 1}{(n-1)(n-2)} \\
# & - \frac{2}{n-2}\, \mathbf 1^\top \tilde K \tilde M \mathbf 1 \Big],
# \end{aligned}
# $$ (eq-hsic)
#
# and debiased CKA {cite}`nguyen2021wide` is
#
# $$
# \frac{\mathrm{HSIC}_1(X, Y)}{\sqrt{\mathrm{HSIC}_1(X, X)\, \mathrm{HSIC}_1(Y, Y)}} .
# $$
#
# Plain, biased CKA {cite}`kornblith2019similarity` keeps the diagonal and subtracts row and column means instead.
# ```
#
# CKA compares inner products *between tokens*. It does not change when a model's hidden space is rotated, shifted or scaled as a whole.
#
# Here all models read the same rollouts of the teacher (teacher forcing). Only **completion tokens** of prompts that no method was trained on are compared, drawn at random once, and the very first token of a sequence never: in many language models its hidden state holds activations larger than the rest by orders of magnitude {cite}`sun2024massive`, and a few such rows alone push CKA towards 1, as the toy below shows.
#
# ## A toy with a known answer
#
# Two tables of independent Gaussian numbers have nothing to do with each other. For $n$ tokens and $d$ dimensions the biased estimator gives about $d / (d + n)$ all the same. It is near 1 as soon as there are many more dimensions than tokens. The debiased one gives 0. Neither is safe from outliers: if the same ten of the 200 tokens are far from all others in both models, CKA sees little else. And drawing the 200 tokens anew *with replacement*, as a bootstrap does, brings the whole bias back: a token that is drawn twice meets its own copy, and these are the inner products that the debiased estimator leaves out.

# %% mystnb={"figure": {"name": "fig-cka-toy", "caption": "Which estimator sees that there is nothing to see? CKA of independent Gaussian features with 200 tokens, against the number of dimensions. Dots: measured; lines: theory. At 2,560 dimensions, the width of the paper's model, the biased estimator reports {number}`cka.toy.biased:.2f` and the debiased one {number}`cka.toy.debiased:.2f`. With the same ten tokens far out in both tables even the debiased one reports {number}`cka.toy.outliers:.3f`, and with the tokens drawn anew with replacement {number}`cka.toy.resampled:.2f`. Random numbers, no model."}, "image": {"alt": "CKA of independent features against dimension: the biased estimator climbs to above 0.9, the debiased one stays at zero; with ten shared outliers it is near one, with tokens drawn twice it follows the biased one."}} tags=["hide-input"]
rng = np.random.default_rng(settings.seed)
n, widths = 200, [10, 40, 160, 640, 2560]
features = [(rng.normal(size=(n, d)), rng.normal(size=(n, d))) for d in widths]
far_out = 50.0 * (np.arange(n) < 10)[:, None]
drawn = rng.integers(0, n, n)
measured = {
    "biased": [linear_cka(x, y, debiased=False) for x, y in features],
    "debiased": [linear_cka(x, y) for x, y in features],
    "debiased, ten shared outliers": [linear_cka(x + far_out, y - far_out) for x, y in features],
    "debiased, drawn anew": [linear_cka(x[drawn], y[drawn]) for x, y in features],
}
fine = np.geomspace(widths[0], widths[-1], 60)
toy(
    {"biased": (fine, fine / (fine + n)), "debiased": (fine, np.zeros_like(fine))},
    {name: (widths, values) for name, values in measured.items()},
    xlabel="dimensions",
    ylabel="CKA",
    logx=True,
)
# %% [markdown]
# ## The six methods and the base
#
# Each value has an interval that says how much it hangs on these prompts. The tokens of one prompt may resemble one another, so whole prompts are dealt into about ten groups, with all rollouts of a prompt in one group, and CKA is measured without each group in turn: a delete-a-group jackknife {cite}`kott2001jackknife`. It draws no token twice, and so leaves the debiased estimator unbiased.

# %%
model, tokenizer = load_model(this_run.profile)
names = [BASE, *adapters]
heldout = spread_rows(load_rollouts(this_run, "heldout"), settings.cka_rows)
texts = list(zip(heldout["prompt_ids"], heldout["completion_ids"], strict=True))
places = sample_tokens(texts, settings.cka_tokens, settings.seed)
loaded = {name: load_adapter(this_run.adapter_dir(name), name) for name in adapters}
decided_by = models_key(this_run.profile, [str(this_run.adapter_dir(n)) for n in adapters])
parts = Parts(this_run, "cka", decided_by)  # a killed measurement goes on where it was
with Mixture(model, loaded) as mixture:
    size = this_run.profile.evaluation.batch_size
    states = all_hidden_states(mixture, names, texts, places, size, parts)
table = cka_table(
    states,
    heldout["prompt"].to_numpy()[[i for i, _ in places]],
    confidence=this_run.profile.evaluation.confidence,
    draws=min(settings.null_draws, 50),
    seed=settings.seed,
)
this_run.write_table("geometry/cka.csv", table)
parts.clear()
print(f"{len(places)} tokens of {len(texts)} rollouts, {len(states[BASE])} layers")


# %% mystnb={"figure": {"name": "fig-cka-sft", "caption": "How deep does the agreement with SFT go? Debiased CKA with SFT's hidden states at each layer, for the base and the other methods; bands: {number}`profile.evaluation.confidence:.0%` jackknife over prompts. In the last layer: RIFT {number}`cka.last.sft_rift:.3f`, Offline GRPO {number}`cka.last.sft_offline_grpo:.3f`, DPO {number}`cka.last.sft_dpo:.3f`, base {number}`cka.last.base_sft:.3f`. In the first: Offline GRPO {number}`cka.first.sft_offline_grpo:.3f`, DPO {number}`cka.first.sft_dpo:.3f`, base {number}`cka.first.base_sft:.3f`. The axis does not begin at 0; chance (tokens shuffled) lies at most at {number}`cka.chance.debiased:.3f`. All models start from one base and share its frozen weights, so a high CKA is what one expects of any of them; read how far a line falls, and whether DPO falls further than the base."}, "image": {"alt": "Debiased CKA with SFT by layer, one line for the base and for each other method."}} tags=["hide-input"]
debiased = table[table["quantity"] == "debiased_cka"]


def draw(rows: pd.DataFrame, ylabel: str) -> Figure:
    """Values by depth with their intervals: the value is the middle one of low, value and high."""
    sides = [rows.assign(value=rows[side]) for side in ("low", "value", "high")]
    return by_depth(pd.concat(sides), name="other", ylabel=ylabel, spread=True)


draw(versus(debiased, "sft", among=names), "debiased CKA with SFT")
# %% mystnb={"figure": {"name": "fig-cka-base", "caption": "How far has each method moved from the base, layer by layer? Debiased CKA with the base's hidden states; bands: {number}`profile.evaluation.confidence:.0%` jackknife over prompts. Lowest in the last layer: {number}`cka.furthest_label` with {number}`cka.furthest:.3f`; lowest of all: {number}`cka.lowest_label` with {number}`cka.lowest:.3f` in layer {number}`cka.lowest_layer`. The axis does not begin at 0. A method that hardly trained stays at 1; being close to the base is neither a merit nor a fault."}, "image": {"alt": "Debiased CKA with the base by layer, one line a method."}} tags=["hide-input"]
with_base = versus(debiased, BASE, among=names)
draw(with_base, "debiased CKA with the base")
# %% [markdown]
# ## The chance level and controls
#
# Shuffle the tokens of one model, and nothing is left to agree on. What an estimator still reports is its chance level.

# %% mystnb={"figure": {"name": "fig-cka-estimators", "caption": "How much of CKA would chance give? SFT against DPO by both estimators with their {number}`profile.evaluation.confidence:.0%` intervals (blue), and the central 95 % of the same estimator with shuffled tokens (grey). Debiased, chance lies at most at {number}`cka.chance.debiased:.3f`; biased, it reaches {number}`cka.chance.biased:.3f`. With {number}`cka.tokens:,` tokens in {number}`cka.width` dimensions the bias depends on how many directions the hidden states really use, and is what the grey band shows; with few tokens in a wide model it is most of the number."}, "image": {"alt": "Two panels by layer: debiased and biased CKA of SFT and DPO with their chance levels as grey bands and the intervals in blue."}} tags=["hide-input"]
pair = table[(table["a"] == "sft") & (table["b"] == "dpo")]
estimators(pair, ["debiased_cka", "biased_cka"])
# %% tags=["remove-cell"]


def by_pair(rows: pd.DataFrame, column: str) -> dict[str, float]:
    pairs = zip(rows["a"], rows["b"], rows[column], strict=True)
    return {f"{a}_{b}": float(value) for a, b, value in pairs}


first, last = (debiased[debiased["layer"] == end] for end in (0, debiased["layer"].max()))
lowest = with_base.loc[with_base["value"].idxmin()]
furthest = with_base[with_base["layer"] == with_base["layer"].max()].set_index("other")["value"]
least = debiased.groupby(["a", "b"], as_index=False, sort=False)["value"].min()
c9 = load_ledger().claims["C9"].measures
c9 = {name: look_up(measure, {"cka": table}, {}) for name, measure in c9.items()}
this_run.record(
    "cka",
    {
        "c9": {when: c9[f"SFT-DPO, {when} layers"].value for when in ("late", "early")},
        "tokens": len(places),
        "rows": len(texts),
        "layers": len(states[BASE]),
        "width": int(states[BASE].shape[-1]),
        "toy": {
            "biased": measured["biased"][-1],
            "debiased": measured["debiased"][-1],
            "outliers": measured["debiased, ten shared outliers"][-1],
            "resampled": measured["debiased, drawn anew"][-1],
        },
        "first": by_pair(first, "value"),
        "last": by_pair(last, "value"),
        "last_low": by_pair(last, "low"),
        "last_high": by_pair(last, "high"),
        "least": by_pair(least, "value"),
        "lowest": float(lowest["value"]),
        "lowest_label": label(str(lowest["other"])),
        "lowest_layer": int(lowest["layer"]),
        "furthest": float(furthest.min()),
        "furthest_label": label(str(furthest.idxmin())),
        "chance": {
            name: float(table.loc[table["quantity"] == f"{name}_cka", "chance_high"].max())
            for name in ("debiased", "biased")
        },
    },
)

# %% [markdown]
# ## How to read the figures, and how not to
#
# - **1 is the starting point, not the prize.** The models share all weights but a small change. SFT and RIFT are at least {number}`cka.least.sft_rift:.3f` similar in every layer; the base itself is {number}`cka.last.base_sft:.3f` similar to SFT in the last.
# - **Compare DPO with the base.** Where DPO hardly moved, SFT against DPO is SFT against the base: then it is SFT that moved, and the number says nothing about DPO. In the last layer SFT has {number}`cka.last.sft_dpo:.3f` ({number}`cka.last_low.sft_dpo:.3f` to {number}`cka.last_high.sft_dpo:.3f`) with DPO and {number}`cka.last.base_sft:.3f` ({number}`cka.last_low.base_sft:.3f` to {number}`cka.last_high.base_sft:.3f`) with the base; DPO itself has {number}`cka.last.base_dpo:.3f` with the base.
# - **Late is not always lowest.** Claim C9 compares late layers (the last 30 % of the depth) with early ones (the first third), {number}`cka.c9.late:.3f` with {number}`cka.c9.early:.3f` for SFT and DPO here. A gap smaller than the intervals, or than the spread between neighbouring layers, decides nothing.
# - **The intervals are about these prompts.** They say how much a value would change with other prompts, not with another training. All models read the same tokens, so a difference between two lines may be known better than either line.
# - **CKA is dominated by large directions.** Two models can differ in a small direction that decides the answer and have a CKA near 1 {cite}`ding2021grounding`. And the last layer's states come after the final norm, which rescales them.
# - **Tokens are no independent sample.** Where neighbours resemble one another, the chance level from shuffling is too narrow.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-cka
#
# *Derivation · ★★★ · 20 minutes*
#
# Show that for $n$ tokens of independent Gaussian features with $d$ dimensions each, biased CKA is about $d/(d+n)$ when both are large.
# ```
#
# ```{dropdown} Hint
# CKA is $\lVert Y^\top X \rVert^2 / (\lVert X^\top X \rVert\, \lVert Y^\top Y \rVert)$. What is the expected size of one entry of $Y^\top X$, and of the diagonal and the other entries of $X^\top X$?
# ```
#
# ````{solution} ex-cka
# :label: sol-cka
# :class: dropdown
#
# Each of the $d^2$ entries of $Y^\top X$ is a sum of $n$ products of independent numbers: its square is $n$ on average, together $n d^2$. In $X^\top X$ the $d$ diagonal entries are about $n$, with squares $n^2$; the other $d^2 - d$ have squares of about $n$. Together $d n^2 + d^2 n = nd(n + d)$. The ratio is $n d^2 / (nd(n + d)) = d/(n + d)$.
# ````
#
# ## Take-away
#
# Compare hidden states on the same completion tokens with the debiased estimator, leave the first token out, show the chance level, and ask whether a model differs from the others or merely from those that moved.
