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
# (released-weights)=
# # From the released weights: do the paper's own adapters say what the paper says?
#
# **The answer.** Weights alone can decide {number}`released_weights.claims` of the {number}`verdict.claims` claims; this run had {number}`released_weights.compared` of the released adapters to compare.
#
# **What you will learn.** Which of the paper's claims can be checked without a GPU, a base model or a single training, what such a check can find that a new run cannot, and what it can never tell.
#
# ## The question
#
# All other chapters train again. Where they differ from the paper, the model, the problems or the teacher may be the reason. Here nothing differs: the authors have released {cite}`capabilityvectors2026` 28 of their adapters, and cosines, angles, fractions, norms and ranks are functions of the weights alone. So the paper's numbers must come out again, to the printed digit, where the adapters are those that it measured and the measures are defined as it defines them. Ten of the seventeen claims need nothing but weights: C1, C2, C4, C5, C7 and C12 to C16. How long such a comparison takes on two processor cores is in [](../your_adapters).
#
# Two comparisons are made, and they ask different things:
#
# - **the ledger's rules** ([](../evaluation/verdict)) ask whether the claim holds of these adapters;
# - **the printed numbers** ask whether we measure the same thing on the same weights.
#
# Beside each claim stands a yardstick: how far *one* loss is from itself when only its seed, or only its learning rate, is another.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
collection: str | None = None  # hub id or folder, one folder an adapter; None: the profile's value
revision: str | None = None  # commit of the hub's repository; None: the profile's value
protocol: str | None = None  # profile that states seeds, rates, steps and k; None: "qwen3-4b"
blanks: str | None = None  # empty cells of the table of folders: unknown, or paper (as in protocol)

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.deltas.collection import UNREADABLE
from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.judging import VERDICTS
from finetune_geometry.evaluation.released import load_released, printed_ranges
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.released_plots import KINDS, likeness_by_kind, printed_and_measured
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.report.released import folder_table, here, hold_against, result_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.profiles import load_profile

check_parameters(globals())
set_style()
pd.set_option("display.max_colwidth", None)
given = {"collection": collection, "revision": revision, "protocol": protocol, "blanks": blanks}
this_run = Run.open(profile, run, {f"released.{key}": value for key, value in given.items()})
chosen = this_run.profile.released
stated = load_profile(chosen.protocol)
ledger = load_ledger()
released = load_released(ledger)

# %% [markdown]
# ## What was expected
#
# Written into `book/released.yaml` on the day that the file names, before anybody of this book had seen one of these weights. If the paper's numbers are right, they meet the rules; so each prediction follows from what is printed. The file also holds two rules for C5 and C14: the ledger's present ones ask for SFT trained on its rows in another order from the same $A$, which a collection need not have. Where it is missing they stand in, and the table says so.

# %% tags=["hide-input"]
expected = released.predictions.verdicts
show_table(
    pd.DataFrame(
        [(name, ledger.claims[name].title, p.verdict, p.why) for name, p in expected.items()],
        columns=["claim", "what it says", "expected", "because of the paper's numbers"],
    ),
    {},
)

# %% [markdown]
# ## Get the weights
#
# `make released` fetches the collection once, with its size and progress, notes the commit in `revisions.json` of the run, and executes this page; `make book` then renders it, and the ledger gets [its column](../evaluation/verdict). 28 adapters of this size take about 2.5 GB if they are saved in fp32. Without it this page stays as it is: what is expected, what is printed, and nothing measured. By hand:
#
# ```
# finetune-geometry prefetch --profile tiny --released
# papermill notebooks/evaluation/released_weights.ipynb out.ipynb
# ```

# %% tags=["hide-input", "remove-stderr"]
root, where = here(chosen, this_run.profile.name)
print(f"Measured: {where}." if root else f"Nothing is measured on this page. {where}.")

# %% [markdown]
# ## Which folder is what?
#
# The ledger speaks of SFT, of SFT with another seed, and so on; a repository has folders. The first time, their names and files are read for what they say *for certain*: "sft" or "dpo" as a word of its own, "seed42", "lr5e-6", "checkpoint-1000", a model card's line, the JSON of a trainer. "grpo" alone is not certain (online or offline?), nor is a name with two methods. What is left of a name goes into the column `variant`, and an adapter with a variant is not taken for the paper's.
#
# The result is a table that you can correct, `released/folders.csv` in the run's folder: write what you know, `no` under `use` for what should stay out, and run this page again. Nothing is overwritten. A part is played by the one folder that is known to be it; where a cell is empty or two folders would do, nobody plays it, and the list says what is missing. If every empty cell means "as in the paper", say so with `SET="released.blanks=paper"`, to `make released` and to `make book`.

# %% tags=["hide-input"]
found = hold_against(
    ledger,
    released,
    stated,
    root,
    this_run.path("released/folders.csv"),
    blanks=chosen.blanks,
)
show_table(folder_table(found), {})

# %%
if root:
    print(f"{len(found.cast.names)} adapters are compared, in {found.modules} modules.")
    print("\n".join(f"No {label(part)}: {why}." for part, why in found.cast.open.items()))
else:
    print("No folder is here to be read.")

# %% [markdown]
# ## The verdicts
#
# One row a claim: what the paper prints, what the released weights give, the verdict by the ledger's present rule (or by the one that stands in for it), what was expected, and the yardstick. The interval is over modules, as everywhere in this book. It shows how much a number hangs on a few of them; nothing was sampled here, so the number itself is exact.

# %% tags=["hide-input"]
this_run.write_table("released/claims.csv", found.table)
this_run.write_table("released/conditions.csv", found.conditions)
this_run.write_table("released/printed.csv", found.printed)
this_run.write_table("released/pairs.csv", found.pairs)
show_table(result_table(found, released), {})

# %% [markdown]
# Every version of the rules that decided, and every line that was drawn: `released/conditions.csv` of the run; the reasons are in `book/claims.yaml` and `book/released.yaml`.
#
# ## To the printed digit?
#
# A rule leaves room. On the same weights there is none: 0.977 stands for 0.9765 to 0.9775, and a cosine has one definition. Where a measured number rounds to the printed one, the authors' code and this book's agree on it. Where it does not, three things can be different: the adapters (another checkpoint, seed or rate than we took them for), the measure (an average over other modules, another $k$, the median instead of the mean), or the number in print. "About" marks numbers that the paper gives roughly, or whose measure it does not define; nothing is concluded from them.

# %% mystnb={"figure": {"name": "fig-released-printed", "caption": "Do the released weights give the printed cosines, fractions and agreements again? Bars: the paper's numbers. Dots: measured on the released weights, joined to the number that they should be. Without dots nothing was measured in this run. A dot beside its bar says that something differs; it does not say what, or who is right."}, "image": {"alt": "One row for each number that the paper prints between zero and one: a bar at the printed value and, where the adapters were measured, a dot at the measured one."}} tags=["hide-input"]
shares = found.printed[found.printed["printed_value"].between(0, 1)]
printed_and_measured(shares[shares["claim"] != "C12"], xlabel="cosine, fraction or agreement")
# %% mystnb={"figure": {"name": "fig-released-angles", "caption": "Do they give the printed angles again? Smallest and largest of the ten principal angles between the leading output directions of SFT and of each other method, median over the modules. Bars: the paper's. Dots: measured on the released weights; without dots nothing was measured in this run. Chance is 80 to 85 degrees for the smallest and above 89 for the largest of ten, so the last rows say little."}, "image": {"alt": "One row for each angle that the paper prints: a bar at the printed value in degrees and, where the adapters were measured, a dot at the measured one."}} tags=["hide-input"]
printed_and_measured(found.printed[found.printed["claim"] == "C2"], xlabel="degrees")
# %% [markdown]
# Norms, ratios and ranks live on scales of their own; here is everything, as a table.

# %% tags=["hide-input"]
columns = {
    "claim": "claim",
    "what": "what",
    "printed": "printed",
    "value": "measured",
    "agrees": "rounds to it",
}
show_table(
    found.printed[list(columns)].rename(columns=columns),
    {"measured": lambda value: "" if pd.isna(value) else f"{value:.4g}"},
)

# %% [markdown]
# ## The yardstick: how far is one loss from itself?
#
# A collection of 28 has what a table of six has not: the same loss at two seeds, and at rates a factor of ten apart. Each such pair shows how far a delta moves when the loss does *not* change.

# %% mystnb={"figure": {"name": "fig-released-yardstick", "caption": "Do two losses differ more than one loss does from itself? Global cosines of pairs of released adapters that differ in one thing. Grey bars beside the rows: the paper's least and largest number. Dots: measured, one a pair; without dots nothing was measured in this run. The wide grey level is where 95 % of unrelated adapters with such a start would lie. Compare rows only where the initial A is of one kind: two seeds may have an A each, which lowers a cosine whatever the loss does."}, "image": {"alt": "Strips of global cosines, one row for what sets a pair apart: two losses, two seeds, ten times the rate, two steps, online and offline."}} tags=["hide-input"]
alike = found.pairs[found.pairs["kind"].isin(list(KINDS))]
likeness_by_kind(alike, printed_ranges(released))

# %% [markdown]
# Whether two adapters started from one $A$ is in the saved factors, as long as training has turned $A$ little ([](../../book/how_to_read)). Counted here by what sets the two apart:

# %% tags=["hide-input"]
counted = alike.groupby(["kind", "start"], sort=False).agg(
    pairs=("cosine", "size"), least=("cosine", "min"), largest=("cosine", "max")
)
show_table(
    counted.reset_index().rename(columns={"kind": "apart in", "start": "initial A"}),
    {"apart in": KINDS.get, "least": "{:.3f}", "largest": "{:.3f}"},
)

# %% [markdown]
# ## How to read it, and how not to
#
# - **What weights cannot say.** Seven claims are about answers, losses on lines and hidden states (C3, C6, C8 to C11, C17). They need the base model, and C14's "no barrier" does, too. Nothing on this page says whether an adapter is any good.
# - **Agreement is not replication.** The same weights give the same cosines. That checks the arithmetic and the definitions, and that the released adapters are those of the paper. Whether another training would come out alike is what the rest of the book asks.
# - **One adapter of each kind.** The yardstick has a pair or a few. It shows that a difference between two losses is larger or smaller than one between two seeds of one loss, not how often.
# - **Scale.** A delta is $\tfrac{\alpha}{r} B A$, here with $\alpha / r = 2$. Who reads $B A$ alone finds every norm at half and every cosine, angle, rank and fraction as before.
# - **Checkpoints.** The paper analyses step 1,000 of 1,500. Two checkpoints of one training need have neither one length nor one direction; a folder without a step is therefore not taken for either.
# - **A part off the SFT direction needs SFT beside it.** If two seeds of SFT have unrelated $A$, SFT itself can be nearly all "off" SFT, and the yardstick of C5 is no yardstick. The right one is [SFT with its rows in another order](../controls/reshuffled), which only a training can give.
#
# ## One thing to vary
#
# Point the page at another collection. The adapters of your own run are one: `collection` = `results/tiny/adapters` with `protocol` = `tiny` judges them by what their cards and names say, and must find the verdicts of [](../evaluation/verdict). Any other hub repository with one folder an adapter will do as well.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-released
#
# *Concept · ★ · 10 minutes*
#
# A friend repeats this page with code of her own and gets every cosine and every angle to the digit, but SFT's norm as 1.42 instead of 2.84. (a) What did she forget? (b) Which of the ten verdicts change with it? (c) She then finds a folder whose `adapter_config.json` says $\alpha = 32$. May she compare its norm with the others'? Its cosines?
# ```
#
# ```{dropdown} Hint
# Which rules compare a norm with a fixed number?
# ```
#
# ````{solution} ex-released
# :label: sol-released
# :class: dropdown
#
# (a) The scale $\alpha / r = 64 / 32 = 2$. (b) None. Cosines, angles, fractions and ranks do not change when a delta is multiplied by a number, and C12, the claim about norms, compares norms with each other: all are halved. Only the printed norms tell. (c) Yes to both, if each delta is taken with its own scale, as PEFT applies it. Without it the norm of that one would be wrong by another factor than the rest, and C12 with it; its cosines would still be right.
# ````
#
# ## Take-away
#
# A released adapter is a result that can be checked. Weights alone can decide {number}`released_weights.claims` of the {number}`verdict.claims` claims. What they cannot decide is whether the models behave alike, and whether the training would do it again.

# %% tags=["remove-cell"]
counts = found.table["verdict"].value_counts()
this_run.record(
    "released_weights",
    {
        "measured": root is not None,
        "folders": len(found.folders),
        "unreadable": int(found.folders["note"].str.startswith(UNREADABLE).sum()),
        "compared": len(found.cast.names),
        "parts": len(found.cast.played),
        "claims": len(found.claims),
        "verdicts": {
            name.split(" in ")[0].replace(" ", "_"): int(counts.get(name, 0)) for name in VERDICTS
        },
        "agree": {
            key: int((found.printed["agrees"] == key).sum()) for key in ("yes", "no", "about")
        },
    },
)
