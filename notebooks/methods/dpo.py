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
# (method-dpo)=
# # DPO: prefer one to the other
#
# **The answer.** DPO raises the right rollout of a pair against the wrong one and fades once the two are told apart. In {number}`dpo.steps` steps its delta has grown to a norm of {number}`dpo.norm:.3g`, with a cosine of {number}`cosine.sft_dpo:.2f` with SFT's; SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`.
#
# **What you will learn.** How a loss on pairs differs from a weight on tokens, why its pull fades, and why the number of updates and the learning rate matter for every comparison with it.
#
# ## The idea
#
# Direct preference optimisation takes pairs: a right and a wrong rollout of the same prompt {cite}`rafailov2023dpo`. It raises the log-probability of the right one relative to the wrong one, both measured against the base model. Once a pair is told apart clearly, its pull fades. Only mixed groups give pairs. Here DPO passes {number}`dpo.epochs:.1f` times over {number}`dpo.rows` pairs, and, as in the paper, at a tenth of the others' learning rate. The learning rate can shorten its delta before any question of direction: at SFT's rate its norm is {number}`matched_rate.norm.raised:.3g` ([](../controls/matched_rate)). The many passes need not: a step of Adam is about as long as the learning rate says, whether its pairs are new or old, and how far many steps lead depends on how well they agree.
#
# That a small change can go a long way with this loss is known. On one model and one trait DPO was found to bypass what the base had learnt, not to remove it, by a small shift spread over the layers {cite}`lee2024mechanistic`. It is also known that the loss lowers the wrong rollout faster than it raises the right one {cite}`feng2024limitations`, and that the probability of the right one may fall as well {cite}`razin2025unintentional,ren2025dynamics`.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
name: str = ""  # adapter folder; empty: the method's name, with "-varied" if a value below is set
variant: str | None = None  # definition of the objective: paper; None: the profile's
learning_rate: float | None = None  # peak learning rate; None: the profile's value
steps: int | None = None  # optimiser steps; None: the profile's value
seed: int | None = None  # of the order of the rows; None: the profile's value
beta: float | None = None  # strength of the pull towards the base; None: the profile's value

# %% tags=["hide-input"]
import torch

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.deltas.depth import kind_of, layer_of
from finetune_geometry.figures.method_plots import adapter_norms, gradient_weights, training_curves
from finetune_geometry.figures.palette import set_style
from finetune_geometry.geometry.subspaces import entropy_rank
from finetune_geometry.methods import losses
from finetune_geometry.methods.training import summarise, train
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
method = "dpo"
chosen = {
    "variant": variant,
    "learning_rate": learning_rate,
    "steps": steps,
    "seed": seed,
    "beta": beta,
}
varied = any(value is not None for value in chosen.values())
name = name or (f"{method}-varied" if varied else method)
this_run = Run.open(
    profile, run, {f"methods.{method}.{key}": value for key, value in chosen.items()}
)
settings, training = this_run.profile.methods[method], this_run.profile.training_of(method)

# %% [markdown]
# ## The objective
#
# $$
# \mathcal{L}_{\text{DPO}} = -\log \sigma(h), \qquad h = \beta \Big[ \log \frac{\pi_\theta(y^+ \mid x)}{\pi_{\text{base}}(y^+ \mid x)} - \log \frac{\pi_\theta(y^- \mid x)}{\pi_{\text{base}}(y^- \mid x)} \Big]
# $$ (eq-dpo)
#
# $y^+$ is the right and $y^-$ the wrong rollout, and log-probabilities are summed over tokens; those of a beginning that both share cancel ({prf:ref}`prop-prefix`). The gradient weight is $+\beta\,\sigma(-h)$ on every token of $y^+$ and $-\beta\,\sigma(-h)$ on every token of $y^-$. This run has {number}`rollouts.pairs` pairs, and a batch holds {number}`dpo.distinct.least` different ones. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.dpo))

# %% mystnb={"figure": {"name": "fig-dpo-weight", "caption": "How hard does DPO pull at a token? With half of beta as long as the pair is undecided, and less and less as the right rollout pulls ahead (to the right). The two curves mirror each other. The figure shows the loss function, not the training."}, "image": {"alt": "Two mirrored curves that fade to zero on the right: gradient weights of DPO for the right and the wrong rollout against h over beta."}} tags=["hide-input"]
margin = torch.linspace(-60, 60, 99)
kinds = {"token of the right rollout": 0, "token of the wrong rollout": 1}
curves = {}
for text, position in kinds.items():
    log_probs = [margin.clone().requires_grad_(), torch.zeros_like(margin).requires_grad_()]
    zero = torch.zeros_like(margin)
    loss = losses.dpo(*log_probs, zero, zero, settings.beta)
    loss.sum().backward()
    curves[text] = -log_probs[position].grad
gradient_weights(method, curves, margin, r"$h / \beta$ (nats)", "gradient weight")
# %% [markdown]
# ## Train
#
# The adapter starts from the initialisation that all six share (`lora_A` is compared by its hash, `lora_B` is zero), on the pool of rollouts that all six share. What this run uses:

# %% tags=["hide-output"]
card = train(this_run, method, name)

# %%
summarise(card)

# %% [markdown]
# ## Curves

# %% mystnb={"figure": {"name": "fig-dpo-curves", "caption": "Does DPO train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`dpo.first_loss:.3g` the first, {number}`dpo.final_loss:.3g` the last, after {number}`dpo.steps` steps. A fall shows that the training runs, not how much is gained. {number}`dpo.clipped:.0%` of the logged gradient norms lie above the clipping threshold. The loss starts at log 2, where the two rollouts of a pair are not told apart. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of DPO and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-dpo-norms", "caption": "Where does DPO change the model? The whole delta has norm {number}`dpo.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`dpo.largest_layer`. The mean effective (entropy) rank of a module is {number}`dpo.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the DPO delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
import pandas as pd

adapter = load_adapter(this_run.adapter_dir(name))
norms = pd.DataFrame(
    [
        {
            "layer": layer_of(module),
            "kind": kind_of(module),
            "norm": adapter[module].norm(),
            "rank": entropy_rank(adapter[module].svd()[1]),
        }
        for module in adapter
    ]
)
adapter_norms(method, norms)
# %% tags=["remove-cell"]
norm = float((norms["norm"] ** 2).sum() ** 0.5)
by_layer = (norms["norm"] ** 2).groupby(norms["layer"]).sum()
clipped = [value > training.max_grad_norm for _, value in card["gradient_norms"]]
this_run.record(
    name,
    {
        "rows": card["rows"],
        "epochs": card["epochs"],
        "steps": card["steps"],
        "learning_rate": card["learning_rate"],
        "first_loss": card["losses"][0][1],
        "final_loss": card["final_loss"],
        "distinct": card["distinct_rows_per_batch"],
        "padding": card["padding"],
        "clipped": sum(clipped) / len(clipped),
        "seconds": card["seconds"],
        "norm": norm,
        "largest_layer": int(by_layer.idxmax()),
        "effective_rank": float(norms["rank"].mean()),
    },
)

# %% [markdown]
# ## One thing to vary
#
# `learning_rate`: the value of the other five methods, ten times the default. Is the delta still short? Is it still far from SFT's direction? A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/dpo.ipynb out.ipynb -p learning_rate 9e-3
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-dpo
#
# *Concept · ★ · 5 minutes*
#
# In this run DPO sees {number}`dpo.rows` pairs for {number}`dpo.epochs:.1f` epochs; SFT sees {number}`sft.rows:,` rows for {number}`sft.epochs:.2f`. Name two ways in which a comparison of their deltas is not a comparison of their losses.
# ```
#
# ```{dropdown} Hint
# Think of what else differs between the two trainings.
# ```
#
# ````{solution} ex-dpo
# :label: sol-dpo
# :class: dropdown
#
# The learning rates differ by a factor of ten, so the norms would differ for that reason alone. And "the same data" is the same pool, not the same rows: DPO sees few prompts, chosen for being neither easy nor hard, many times over. Trainings with equal learning rates, on equal rows, would separate these: see the projects in [](../../book/exercises).
# ````
#
# ## Take-away
#
# DPO pulls at differences between rollouts, on few prompts, at a low learning rate. How long its delta is and where it points may be the doing of the loss or of the protocol; [the matched rate](../controls/matched_rate) takes one part of the protocol away.
