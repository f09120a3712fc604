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
# (method-rft)=
# # RFT: imitate what was right
#
# **The answer.** RFT is SFT with the wrong rollouts switched off. In {number}`rft.steps` steps its delta has grown to a norm of {number}`rft.norm:.3g`, with a cosine of {number}`cosine.sft_rft:.2f` with SFT's; SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`.
#
# **What you will learn.** What changes when wrong rollouts are thrown away, and why they still ride along in the batch here.
#
# ## The idea
#
# Rejection-sampling fine-tuning keeps the rollouts whose answer was verified as right and trains on them as SFT does {cite}`yuan2023scaling`. On a pool in which nearly all rollouts are right, it trains on nearly the same tokens as SFT. That alone can bring the first gradients of the two close ({prf:ref}`prop-angle`), whatever one thinks of the value of verification.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
name: str = ""  # adapter folder; empty: the method's name, with "-varied" if a value below is set
variant: str | None = None  # definition of the objective: paper, distinct; None: the profile's
learning_rate: float | None = None  # peak learning rate; None: the profile's value
steps: int | None = None  # optimiser steps; None: the profile's value
seed: int | None = None  # of the order of the rows; None: the profile's value

# %% tags=["hide-input"]
import torch

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.deltas.depth import kind_of, layer_of
from finetune_geometry.figures.method_plots import adapter_norms, gradient_weights, training_curves
from finetune_geometry.figures.palette import set_style
from finetune_geometry.geometry.subspaces import entropy_rank
from finetune_geometry.methods import losses
from finetune_geometry.methods.trainers import token_loss
from finetune_geometry.methods.training import summarise, train
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
method = "rft"
chosen = {
    "variant": variant,
    "learning_rate": learning_rate,
    "steps": steps,
    "seed": seed,
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
# \mathcal{L}_{\text{RFT}} = -\frac{1}{N} \sum_{y} r(y) \sum_{t} \log \pi_\theta(y_t \mid x, y_{<t})
# $$ (eq-rft)
#
# The gradient weight of a token is the reward $r \in \{0, 1\}$ of its rollout. Wrong rollouts stay in the batch with weight 0, so that row order and step count are those of SFT: what differs is the loss and nothing else. The variant `distinct` is closer to the primary source: a repeated text of the same prompt counts once. That source goes further. It compares lists of equations, not texts, and trains on the original solutions, too; the pool here has none. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.rft))

# %% mystnb={"figure": {"name": "fig-rft-weight", "caption": "How hard does RFT pull at a token? With weight 1 in right rollouts and not at all in wrong ones, whatever the token's probability is. The figure shows the loss function, not the training."}, "image": {"alt": "Two flat lines, at one for right rollouts and at zero for wrong ones, against the token's probability."}} tags=["hide-input"]
probability = torch.linspace(0.01, 0.99, 99)
kinds = {"right rollout": 1.0, "wrong rollout": 0.0}
curves = {}
for text, weight in kinds.items():
    log_probs = probability.log()[None].requires_grad_()
    mask = torch.ones_like(log_probs)
    loss = token_loss(method, settings)(log_probs, mask, torch.tensor([weight]), log_probs.detach)
    loss.sum().backward()
    curves[text] = -log_probs.grad[0]
gradient_weights(method, curves, probability, "probability of the token", "gradient weight")
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

# %% mystnb={"figure": {"name": "fig-rft-curves", "caption": "Does RFT train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`rft.first_loss:.3g` the first, {number}`rft.final_loss:.3g` the last, after {number}`rft.steps` steps. A fall shows that the training runs, not how much is gained. {number}`rft.clipped:.0%` of the logged gradient norms lie above the clipping threshold. Wrong rollouts count as 0 here, which lowers the loss. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of RFT and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-rft-norms", "caption": "Where does RFT change the model? The whole delta has norm {number}`rft.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`rft.largest_layer`. The mean effective (entropy) rank of a module is {number}`rft.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the RFT delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
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
# `variant`: `distinct` drops repeated rollouts. In this pool {number}`rollouts.repeated:.0%` of the rollouts repeat an earlier one of their group. A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/rft.ipynb out.ipynb -p variant distinct
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-rft
#
# *Derivation · ★★ · 10 minutes*
#
# In the pool of this run, {number}`rollouts.mean_reward:.1%` of the rollouts are right. If the gradients of right and wrong rollouts were independent random directions of equal length, what would the cosine between the summed gradients of SFT and RFT be?
# ```
#
# ```{dropdown} Hint
# With $n$ independent unit vectors, the length of their sum grows like $\sqrt{n}$.
# ```
#
# ````{solution} ex-rft
# :label: sol-rft
# :class: dropdown
#
# Let $p$ be the share of right rollouts. The sum over all has length $\sqrt{n}$, the sum over the right ones $\sqrt{pn}$, and their inner product is $pn$. The cosine is $pn / (\sqrt{n}\sqrt{pn}) = \sqrt{p}$. With this pool's $p$ that is $\sqrt{p}$ = {number}`rollouts.root_mean_reward:.3f`, and the trained deltas have {number}`cosine.sft_rft:.3f`. Where the two are close, the trained cosine is no more than sharing rows gives, with no likeness between the gradients of different rollouts. Where the trained one is clearly below, as a long training with large steps can make it, shared rows did not keep the two together. Gradients at one point may well share a part, which lifts *their* cosine above $\sqrt{p}$; a trained delta is the outcome of many steps, and need not follow.
# ````
#
# ## Take-away
#
# RFT is SFT with the wrong rollouts switched off. The fewer wrong rollouts, the more the two trainings share, and the less their cosine says about verification.
