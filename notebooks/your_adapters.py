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
# (your-adapters)=
# # Your own adapters
#
# **The answer.** One command compares any LoRA adapters of one base by their weights alone, without the base and without a GPU; below, {number}`your_adapters.adapters` adapters with {number}`your_adapters.modules` modules each.
#
# **What you will learn.** How to put the short version of this book's geometry on LoRA adapters of your own, and how to read what comes out.
#
# ## The question
#
# You have fine-tuned one model twice or more: two losses, two data sets, two seeds. How alike are the results? Give each adapter a name and say where it is, a folder or a hub id, and run this notebook:
#
# ```
# papermill notebooks/your_adapters.ipynb out.ipynb -p adapters "mine=path/to/mine theirs=owner/repository/folder"
# ```
#
# With nothing given it takes seven adapters that ship with the book: six losses and one of them twice, on SmolLM2-135M (`models/smollm2-135m/`). So what you see below is a real model's, and anybody can make it again without that model. The command line does the same and writes a page to share: `finetune-geometry compare mine=... theirs=... --out report`. With `--series` it takes the adapters for checkpoints of one training, in the order given, and follows the path.
#
# The adapters that the paper released lie in folders of one hub repository {cite}`capabilityvectors2026`. The first command below fetches nothing and answers with the names of these folders; put two of them into the second:
#
# ```
# finetune-geometry compare a=AlexWortega/capabilityvectors-qwen3-4b b=AlexWortega/capabilityvectors-qwen3-4b
# finetune-geometry compare sft=AlexWortega/capabilityvectors-qwen3-4b/FOLDER dpo=AlexWortega/capabilityvectors-qwen3-4b/FOLDER --out report
# ```
#
# What they say about the paper's claims: [](evaluation/released_weights). No number of this book comes from these adapters: no hub was within reach of the reference run.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
adapters: str = ""  # names and sources, as in the text above; empty: seven that ship
reference: str = ""  # the adapter that others are compared with; empty: the first
k: int | None = None  # dimension of the subspaces; None: half of the rank, at most 10
intersection: bool = False  # compare the modules that all adapters have
any_base: bool = False  # the adapters' base models have different names, but are one and the same

# %% tags=["hide-input"]
from finetune_geometry.figures.palette import set_style
from finetune_geometry.report.bases import shipped_adapters
from finetune_geometry.report.compare import compare, load_named
from finetune_geometry.report.findings import LIMITS, base_text, words
from finetune_geometry.report.page import figures
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
if adapters:
    chosen = load_named(adapters.split())
else:
    shown = [*METHODS, "sft-order"]
    chosen = [adapter for adapter in shipped_adapters("smollm2-135m") if adapter.name in shown]
for adapter in chosen:
    base = base_text(adapter.base_model) or "an unnamed base"
    print(f"{adapter.name}: {len(adapter)} modules of {base}")

# %% [markdown]
# ## What is accepted, and what is not
#
# Any adapter whose change of the weights is $s\,BA$: LoRA and rsLoRA, with rank and alpha patterns, on any linear layers or embeddings, of different ranks, in fp64, fp32, fp16 or bf16, in one file or in shards. Refused by name: methods of another form (DoRA, IA3, VeRA, prompt tuning and others), starts that alter the base (PiSSA, OLoRA), pickles, broken files, and adapters whose modules or shapes do not fit together. The base model itself is not needed and not loaded.
#
# ## In short
#
# Up to four adapters, one sentence a pair; of more, how many pairs are more alike than chance gives, which adapters are the same weights, which form groups (average linkage on $1-$cosine, cut where the silhouette is best), and the two ends. Then: where the weights changed, how much rank that took, what would become of the adapters if they were merged, and what is saved whole beside them. LoRA starts from a random $A$ and from $B = 0$, and as long as training has not turned $A$ too far, the factors as saved tell whether two adapters started from one $A$; where they leave it open, both chance levels are given. The sentences say so, because the chance level hangs on it: adapters that share $A$ read from the same few input directions, and their cosines scatter far more. A cosine counts as more than chance only if it still does when all pairs are looked at together (Holm's correction). The smallest left angle follows with its own chance level. It does not depend on where $A$ started.

# %%
settings = this_run.profile.geometry
result = compare(
    chosen,
    k=k,
    reference=reference or None,
    draws=settings.null_draws,
    seed=settings.seed,
    intersection=intersection,
    any_base=any_base,
)
print("\n".join(words(result)))

# %% [markdown]
# ## The figures
#
# The chapters on [cosine](geometry/cosine), [principal angles](geometry/principal_angles) and [orthogonal fraction](geometry/orthogonal_fraction) explain each of them at length.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

drawn = {name: figure for name, figure, _, _ in figures(result)}
plt.close("all")  # shown one by one below; without a direction to measure from, some are missing

# %% mystnb={"figure": {"name": "fig-yours-cosine", "caption": "Do the adapters move the weights in the same direction? Global cosine of every pair: 1 is the same direction, 0 a right angle. Neighbours are alike; the tree above joins them at their mean distance, 1 - cosine. Length plays no part."}, "image": {"alt": "Matrix of global cosines between the adapters."}} tags=["hide-input"]
drawn.get("cosine")

# %% mystnb={"figure": {"name": "fig-yours-distance", "caption": "How far apart did they end, and how far from the base? Frobenius norm of the difference; the base's column is the length of each change."}, "image": {"alt": "Matrix of distances between the base and the adapters."}} tags=["hide-input"]
drawn["distance"]

# %% mystnb={"figure": {"name": "fig-yours-energy", "caption": "Where did each adapter change the weights? Shares of its energy, the squared Frobenius norm, by kind of module and by layer. A large share is no better or worse than a small one; it says where to look first."}, "image": {"alt": "Shares of the energy of each adapter by kind of module and by layer."}} tags=["hide-input"]
drawn.get("energy")

# %% mystnb={"figure": {"name": "fig-yours-depth", "caption": "In which layers do they part from the reference? Cosine with the reference by layer; grey: chance for one layer, at the layer and the pair where it is widest."}, "image": {"alt": "Cosine with the reference by layer, one line an adapter."}} tags=["hide-input"]
drawn.get("depth")

# %% mystnb={"figure": {"name": "fig-yours-angles", "caption": "Do they use the same directions as the reference? Smallest, median and largest principal angle, left and right, median over modules; grey: chance. On the right, chance supposes one A if the reference shares its A with any of them; the left side does not depend on that."}, "image": {"alt": "Smallest, median and largest angle with the reference, left and right."}} tags=["hide-input"]
drawn.get("angles")

# %% mystnb={"figure": {"name": "fig-yours-orthogonal", "caption": "How much of each change does the reference not explain? The orthogonal fraction, as share of the norm (markers) and of the energy (strokes), to its direction and to its output subspace; dashed: chance."}, "image": {"alt": "Share of each change outside the reference's direction and subspace."}} tags=["hide-input"]
drawn.get("orthogonal_fraction")

# %% [markdown]
# ## What the numbers do not say

# %%
print("\n".join(f"- {limit}" for limit in LIMITS))

# %% [markdown]
# ## What it costs
#
# One comparison as a command with its report, on two cores: adapters of Qwen3-4B's attention projections, r = 32, fp16, on disk. Measured by `tests/benchmarks/test_compare_speed.py`. Time grows with modules, width and adapters; memory with adapters, and with the rows of the tables.

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.folders import project_root

costs = pd.read_csv(project_root() / "book" / "compare_cost.csv")
show_table(costs, {"seconds": "{:.1f}"})

# %% [markdown]
# ## Exercise
#
# ```{exercise} Is it the loss or the seed?
# :label: ex-yours
#
# *Concept · ★★ · 10 minutes*
#
# You trained loss X and loss Y once each, with different seeds and thus different initial $A$, and find a global cosine of 0.02. A colleague concludes that the losses teach different things. Which two numbers of this notebook do you look at, and which one further training do you ask for?
# ```
#
# ```{dropdown} Hint
# Which cosine would one and the same gradient give from two different initial $A$? And on which side of a delta does $A$ play no part?
# ```
#
# ````{solution} ex-yours
# :class: dropdown
#
# With different initial $A$ even the first step by one and the same gradient gives a cosine of about $r/d$, so a cosine as small as 0.02 says nothing about the losses. (A large one would mean something.) Look at the *left* angles with their chance level, and at the lengths. Ask for loss X with the seed of Y: it differs from the first X in the seed alone and from Y in the loss alone.
# ````
#
# ## Take-away
#
# One command compares anybody's LoRA adapters. Read lengths first, then whether $A$ was shared, then cosines and left angles, each beside its chance level. A small cosine says little if each adapter had an $A$ of its own.

# %% tags=["remove-cell"]
this_run.record("your_adapters", {"adapters": len(chosen), "modules": len(result.shapes)})
