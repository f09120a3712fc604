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
# (method-rift)=
# # RIFT: three definitions, one name
#
# **The answer.** RIFT, as printed, is SFT with right rollouts weighed less than wrong ones. In {number}`rift.steps` steps its delta has grown to a norm of {number}`rift.norm:.3g`, with a cosine of {number}`cosine.sft_rift:.2f` with SFT's; SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`.
#
# **What you will learn.** Why the name of a method does not settle what was run, and what each definition of RIFT does to a wrong rollout.
#
# ## The idea
#
# Reward-informed fine-tuning was proposed to learn from wrong rollouts too, by pushing away from them, gently {cite}`liu2026rift`. The paper that this book reproduces prints a different formula, in which wrong rollouts are pulled at *harder* than right ones, with a constant $\lambda$ that is not stated. Its authors' web page gives a third one, which at rewards of 0 and 1 is RFT. This notebook trains the printed formula; the published one is the variant `published`.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
name: str = ""  # adapter folder; empty: the method's name, with "-varied" if a value below is set
variant: str | None = None  # definition of the objective: paper, published; None: the profile's
learning_rate: float | None = None  # peak learning rate; None: the profile's value
steps: int | None = None  # optimiser steps; None: the profile's value
seed: int | None = None  # of the order of the rows; None: the profile's value
reward_lambda: float | None = None  # lambda of the printed formula; None: the profile's value
negative_reward: float | None = None  # r- of the published formula; None: the profile's value

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
method = "rift"
chosen = {
    "variant": variant,
    "learning_rate": learning_rate,
    "steps": steps,
    "seed": seed,
    "reward_lambda": reward_lambda,
    "negative_reward": negative_reward,
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
# \mathcal{L}_{\text{RIFT}} = -\frac{1}{N} \sum_{y} \big(1 - \lambda\, r(y)\big) \sum_{t} \log \pi_\theta(y_t \mid x, y_{<t})
# $$ (eq-rift)
#
# The gradient weight is $1 - \lambda$ in right rollouts and 1 in wrong ones. The value of $\lambda$ is {number}`profile.methods.rift.reward_lambda`: our choice, since the paper gives none. In the variant `published` the weight is 1 in right rollouts and $-0.2\,\pi_\theta$ in wrong ones: linear in the probability, hence bounded. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.rift))

# %% mystnb={"figure": {"name": "fig-rift-weight", "caption": "How hard does RIFT, as the paper prints it, pull at a token? Towards both kinds of rollout, and harder towards wrong ones than towards right ones. The figure shows the loss function, not the training."}, "image": {"alt": "Two flat lines: the gradient weight of RIFT in right rollouts lies below that in wrong rollouts."}} tags=["hide-input"]
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

# %% mystnb={"figure": {"name": "fig-rift-curves", "caption": "Does RIFT train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`rift.first_loss:.3g` the first, {number}`rift.final_loss:.3g` the last, after {number}`rift.steps` steps. A fall shows that the training runs, not how much is gained. {number}`rift.clipped:.0%` of the logged gradient norms lie above the clipping threshold. Right rollouts count less than wrong ones, which lowers the loss. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of RIFT and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-rift-norms", "caption": "Where does RIFT change the model? The whole delta has norm {number}`rift.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`rift.largest_layer`. The mean effective (entropy) rank of a module is {number}`rift.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the RIFT delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
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
# `variant`: with `published`, the weight in wrong rollouts turns negative. Does the delta leave the SFT direction? A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/rift.ipynb out.ipynb -p variant published
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-rift
#
# *Concept · ★ · 5 minutes*
#
# For which $\lambda$ is the printed RIFT the same as SFT? Is there one for which it is the same as RFT?
# ```
#
# ```{dropdown} Hint
# Compare the weights of right and wrong rollouts.
# ```
#
# ````{solution} ex-rift
# :label: sol-rift
# :class: dropdown
#
# With $\lambda = 0$ all weights are 1: SFT. RFT needs weight 0 on wrong rollouts, but the printed formula gives them weight 1 whatever $\lambda$ is: there is none.
# ````
#
# ## Take-away
#
# Before comparing methods, compare formulas. As printed, RIFT is a positively weighted SFT on the same rows, and a small angle between their first gradients can follow from these weights alone.
