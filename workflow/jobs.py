"""The notebooks as jobs: what each reads, writes, and takes from the profile.

`JOBS` is the one table to edit when a notebook is added. The Snakefile turns each row into a rule.
The source modules that a notebook depends on are not listed by hand: they are read off its imports.
This module must stay light (no torch, no pandas): it is imported each time the workflow plans.
"""

from __future__ import annotations

import ast
import functools
import json
from dataclasses import dataclass
from pathlib import Path

from finetune_geometry.profiles import METHODS, Profile

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "finetune_geometry"


@dataclass(frozen=True)
class Job:
    """One notebook, notebooks/<name>.py. Paths are relative to the run's folder."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    settings: tuple[str, ...]  # sections or values of the profile; a change re-runs the notebook
    files: tuple[str, ...] = ()  # globs of tracked files that it reads, relative to the checkout
    priority: int = 0  # what takes longest starts first

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def source(self) -> Path:
        return ROOT / "notebooks" / f"{self.name}.py"

    @property
    def outputs(self) -> list[str]:
        return [f"notebooks/{self.name}.ipynb", f"numbers/{self.stem}.json", *self.writes]

    def inputs(self, profile: Profile) -> list[str]:
        """The notebook, the modules it uses, the models of the profile, the outputs of others."""
        files = [self.source, *modules_of(self.source)]
        patterns = list(self.files)
        if "model" in self.settings:
            patterns += [f"{profile.model.base}/*", f"{profile.model.teacher}/*"]
        for pattern in patterns:  # a hub id matches no file
            files += sorted(path for path in ROOT.glob(pattern) if path.is_file())
        return [*map(str, files), *self.reads]

    def parameters(self, profile: Profile) -> str:
        """The part of the profile that this notebook depends on, as text."""
        chosen = {
            key: value
            for key, value in profile.flat().items()
            if any(f"{key}.".startswith(f"{section}.") for section in self.settings)
        }
        return json.dumps(chosen, sort_keys=True)


def modules_of(source: Path) -> list[Path]:
    """Modules of this package that `source` imports, directly or through one another."""
    found = {PACKAGE / "__init__.py"}
    waiting = [source]
    while waiting:
        new = imports_of(waiting.pop()) - found
        found |= new
        waiting += new
    return sorted(found)


@functools.cache
def imports_of(source: Path) -> frozenset[Path]:
    """Modules of this package that one file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    inside = [name.partition(".")[2] for name in names if name.startswith(f"{PACKAGE.name}.")]
    paths = [PACKAGE / f"{name}.py" for name in inside]
    return frozenset(path for path in paths if path.is_file())


SECTIONS = (
    *("model", "problems", "rollouts", "lora", "training", "methods", "evaluation", "geometry"),
)
ROLLOUTS = ("rollouts/rollouts.parquet", "rollouts/card.json")
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "card.json")
ADAPTERS = tuple(f"adapters/{name}/{file}" for name in METHODS for file in ADAPTER_FILES)
PREDICTIONS = (
    "evaluation/predictions.parquet",
    "evaluation/accuracy.csv",
    "evaluation/mcnemar.csv",
)
GEOMETRY = ("cosine", "principal_angles", "orthogonal_fraction", "mode_connectivity", "cka")
CONTROLS = {
    "second_seed": ("cosine", "angles", "connectivity"),
    "matched_rate": ("cosine",),
}

JOBS = [
    Job(
        "ingredients/base_model",
        reads=(),
        writes=(),
        settings=("model", "problems"),
    ),
    Job(
        "ingredients/rollouts",
        reads=(),
        writes=ROLLOUTS,
        # Also a table of how each objective weights and how often it sees the pool. No learning
        # rate in it: changing one must not sample again.
        settings=(
            *("model", "problems", "rollouts", "training.steps", "training.batch_size"),
            *(f"methods.{method}.{key}" for method in METHODS for key in ("steps", "batch_size")),
            *("methods.rift.reward_lambda", "methods.offline_grpo.bias"),
        ),
        priority=100,
    ),
    Job(
        "ingredients/lora_delta",
        reads=(),
        writes=(),
        settings=("lora",),
    ),
    *(
        Job(
            f"methods/{method}",
            reads=ROLLOUTS,
            writes=tuple(f"adapters/{method}/{file}" for file in ADAPTER_FILES),
            settings=("model", "lora", "training", f"methods.{method}"),
            # DPO runs two models on two completions; the others take equally long.
            priority=90 if method == "dpo" else 50,
        )
        for method in METHODS
    ),
    Job(
        "ingredients/learning_rate",
        reads=(*ROLLOUTS, *(f"adapters/sft/{file}" for file in ADAPTER_FILES)),
        writes=(),
        settings=("model", "problems", "lora", "training", "methods.sft", "evaluation"),
        priority=45,
    ),
    *(
        Job(
            f"geometry/{analysis}",
            reads=ADAPTERS,
            writes=(f"geometry/{analysis}.csv",),
            settings=("geometry", "lora", "evaluation.confidence"),
            priority=10,
        )
        for analysis in ("cosine", "principal_angles", "orthogonal_fraction")
    ),
    *(
        Job(
            f"geometry/{analysis}",
            reads=(*ROLLOUTS, *ADAPTERS),
            writes=(f"geometry/{analysis}.csv",),
            settings=("model", "problems", "evaluation", "geometry", "training.threads"),
            priority=60 if analysis == "mode_connectivity" else 20,
        )
        for analysis in ("mode_connectivity", "cka")
    ),
    Job(
        "evaluation/accuracy",
        reads=ADAPTERS,
        writes=PREDICTIONS,
        settings=("model", "problems", "evaluation", "training.threads"),
        priority=40,
    ),
    *(
        Job(
            f"controls/{control}",
            reads=(*ROLLOUTS, *ADAPTERS),
            writes=tuple(f"controls/{control}_{table}.csv" for table in tables),
            settings=(
                *("model", "problems", "lora", "training", "methods.sft", "evaluation", "geometry"),
                # Its prose puts DPO's rate beside SFT's; a changed adapter is seen by its files.
                *(("methods.dpo.learning_rate",) if control == "matched_rate" else ()),
            ),
            priority=55 if control == "second_seed" else 35,  # two trainings, one
        )
        for control, tables in CONTROLS.items()
    ),
    Job(
        "evaluation/verdict",
        reads=(
            *(*ROLLOUTS, *ADAPTERS, *PREDICTIONS),
            *(f"geometry/{analysis}.csv" for analysis in GEOMETRY),
            *(
                f"controls/{name}_{table}.csv"
                for name, tables in CONTROLS.items()
                for table in tables
            ),
        ),
        writes=("claims.csv",),
        settings=SECTIONS,
        files=("book/claims.yaml",),
    ),
    Job(
        "your_adapters",
        reads=ADAPTERS,
        writes=(),
        settings=("geometry.null_draws", "geometry.seed"),
    ),
]
