"""Ship what a run on another base found: its adapters in half precision, its tables, its ledger.

models/<profile>/ becomes a run in small: adapters/ in PEFT's format with cards, the tables that the
book shows of it, and claims.csv, which goes into book/reference/claims/ as well and is a column of
the ledger from then on. Nobody needs the base model to look at any of it.

Of a run that was trained and not examined its adapters can ship alone (--only adapters), or what
their weights say without them (--only geometry), which is a few kilobytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from origins import sha256_of
from safetensors.numpy import load_file, save_file
from shipped import REFERENCE, ROOT

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.evaluation.written_sums import sums_by_model
from finetune_geometry.geometry.similarity import cosine_table
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.bases import likeness_of, norms_of
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.files import atomic_directory, atomic_write, write_csv
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.packages import PACKAGES, origin
from finetune_geometry.settings.profiles import parse_overrides

LIMIT_MB = 20.0  # of all adapters together
#: Beside the six methods, where the run has them; those of a sweep and of repetitions stay behind.
CONTROLS = ("sft-order", "sft-seed", "sft-lr", "dpo-lr")
#: Tables that go as they are; of the others the rows of single modules stay behind: they can be
#: computed from the adapters.
WHOLE = (
    *("claims.csv", "timing.csv", "revisions.json", "rollouts/card.json"),
    *("geometry/mode_connectivity.csv", "geometry/cka.csv", "geometry/predicted_cosine.csv"),
    *("evaluation/accuracy.csv", "evaluation/mcnemar.csv", "evaluation/claims_conditions.csv"),
    *("controls/second_seed_cosine.csv", "controls/second_seed_angles.csv"),
    *("controls/second_seed_connectivity.csv", "controls/matched_rate_cosine.csv"),
    *("controls/ray.csv", "controls/ray_accuracy.csv", "controls/ray_mcnemar.csv"),
)
AVERAGED = tuple(
    f"geometry/{name}.csv" for name in ("cosine", "principal_angles", "orthogonal_fraction")
)


def halved(weights: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The factors in fp16. Raises UserError where one does not fit into its range."""
    for key, value in weights.items():
        if not np.abs(value).max(initial=0) <= np.finfo(np.float16).max:
            raise UserError(f"{key} of {name} is too large for fp16: ship it in fp32")
    return {key: value.astype(np.float16) for key, value in weights.items()}


def ship_adapter(run: Run, name: str, folder: Path) -> None:
    """One adapter: weights, PEFT's settings with the base by its public name, cards."""
    source, base = run.adapter_dir(name), run.profile.model
    folder.mkdir(parents=True)
    weights = halved(load_file(source / "adapter_model.safetensors"), name)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base.base
    settings["target_modules"] = sorted(settings["target_modules"])
    _write_json(folder / "adapter_config.json", settings)
    card = json.loads((source / "card.json").read_text(encoding="utf-8"))
    # By it a second run is compared with this one to the byte, though fp16 alone is kept.
    # An adapter that had shipped before keeps what it was before it was halved.
    whole = sha256_of(source / "adapter_model.safetensors")
    _write_json(folder / "card.json", {"fp32_sha256": whole, **card})
    text = f"""---
base_model: {base.base}
library_name: peft
license: {PACKAGES[base.base].licence.lower() if base.base in PACKAGES else "other"}
---

# {name}: {METHODS[card["objective"]]}, variant "{card["variant"]}"

A LoRA adapter of the book "The Geometry of Fine-Tuning Losses", made to be compared with the others
beside it; of little use as a model.

| | |
|---|---|
| base | {origin(base.base, base.base_revision)} |
| rollouts | {card["rows"]:,} {"pairs" if card["objective"] == "dpo" else "rows"} to draw from |
| steps | {card["steps"]}, peak learning rate {card["learning_rate"]:.1e} |
| seeds | initial A {card["lora_seed"]}, order of the rows {card["seed"]} |
| saved as | fp16, trained in fp32 |
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def tables(run: Run, folder: Path) -> None:
    """What the book shows of the run, as far as it is there."""
    for name in WHOLE:
        if (run.dir / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run.dir / name, folder / name)
    for name in AVERAGED:
        write_csv(folder / name, _averaged(run.read_table(name)))
    answers = run.read_table("evaluation/predictions.parquet")
    write_csv(folder / "evaluation" / "sums.csv", sums_by_model(answers))
    steps = {problem.id: problem.steps for problem in load_problems(run.profile, "test")}
    by_steps = answers.assign(steps=answers["problem"].map(steps), problems=1)
    by_steps = by_steps.groupby(["model", "steps"], sort=False, as_index=False)
    counts = by_steps.agg(right=("correct", "sum"), problems=("problems", "sum"))
    counts["model"] = pd.Categorical(counts["model"], list(dict.fromkeys(counts["model"])))
    counts = counts.sort_values(["model", "steps"], ignore_index=True)
    write_csv(folder / "evaluation" / "by_steps.csv", counts)


def geometry(run: Run, names: list[str], folder: Path) -> None:
    """What the weights say without them: likenesses of all pairs, lengths, and the pool's card."""
    adapters = [load_adapter(run.adapter_dir(name), name) for name in names]
    settings = run.profile.geometry
    found = likeness_of(
        adapters, settings.k, confidence=run.profile.evaluation.confidence, seed=settings.seed
    )
    write_csv(folder / "geometry" / "likeness.csv", found)
    norms = norms_of(adapters).rename_axis("adapter").rename("norm").reset_index()
    write_csv(folder / "geometry" / "norms.csv", norms)
    card = json.loads((run.dir / "rollouts" / "card.json").read_text(encoding="utf-8"))
    (folder / "rollouts").mkdir()
    _write_json(folder / "rollouts" / "card.json", card)


def _averaged(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["level"] != "module"].reset_index(drop=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--run", default="")
    parser.add_argument("--set", default="")
    parser.add_argument(
        "--only",
        choices=("all", "adapters", "geometry"),
        default="all",
        help="of a run that is not examined",
    )
    options = parser.parse_args()
    run = Run.open(options.profile, options.run, parse_overrides(options.set))
    if options.only == "all":
        run.read_table("claims.csv")  # told in one line where the run is not finished
    names = [name for name in run.adapter_names() if name in {*METHODS, *CONTROLS}]
    target = ROOT / "models" / run.profile.name
    with atomic_directory(target) as folder:
        if options.only == "geometry":
            geometry(run, names, folder)
            names = []
        for name in names:
            ship_adapter(run, name, folder / "adapters" / name)
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6
        if size > LIMIT_MB:
            limit = f"at most {LIMIT_MB:.0f}"
            raise UserError(f"{size:.1f} MB of adapters, {limit}: {run.dir}: ship fewer")
        if options.only == "adapters":
            write_csv(folder / "geometry" / "cosine.csv", _averaged(cosine_table(load_run(run))))
        elif options.only == "all":
            tables(run, folder)
    if options.only == "all":
        column = REFERENCE / "claims" / f"{run.profile.name}.csv"
        with atomic_write(column) as file:
            file.write((target / "claims.csv").read_text(encoding="utf-8"))
    print(f"{len(names)} adapters, {size:.1f} MB: {target}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
