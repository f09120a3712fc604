"""The notebooks as jobs: what each reads, writes, and takes from the profile.

`JOBS` is the one table to edit when a notebook is added. The Snakefile turns each row into a rule.
The source modules that a notebook depends on are not listed by hand: they are read off its imports.
This module must stay light (no torch, no pandas): it is imported each time the workflow plans.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shipped import ROOT
from trainings import ADAPTER_FILES, ROLLOUTS, covered

from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.repetitions import CHAPTERS, MEASUREMENTS

PACKAGE = ROOT / "src" / "finetune_geometry"


@dataclass(frozen=True)
class Job:
    """One notebook, notebooks/<name>.py. Paths are relative to the run's folder."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    # Sections or values of the profile; a change re-runs the notebook.  A test compares them with
    # what the notebook reads in the smoke run.
    settings: tuple[str, ...]
    files: tuple[str, ...] = ()  # globs of tracked files that it reads, relative to the checkout
    priority: int = 0  # what takes longest starts first
    # Reads what was measured of repetitions of the trainings (settings/repetitions.py).
    repeats: bool = False
    # Need not be new in every run: shown from the reference run while its settings are those.
    shipped: bool = False
    loads_model: bool = False  # on a GPU, where the profile needs one

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
        found = [ROOT.glob(pattern) for pattern in self.files]
        if "model" in self.settings:  # a hub id matches no file
            found += [
                (ROOT / name).glob("*") for name in (profile.model.base, profile.model.teacher)
            ]
        for paths in found:
            files += sorted(path for path in paths if path.is_file())
        measured: list[str] = []
        if self.repeats:
            measurement = MEASUREMENTS[self.stem]
            for cell in measurement.cells(profile):
                measured += measurement.outputs(cell.name)
        return [*map(str, files), *self.reads, *measured]

    def parameters(self, profile: Profile) -> str:
        """The part of the profile that this notebook depends on, as text."""
        return settings_text(self.settings, profile)


def settings_text(sections: Sequence[str], profile: Profile) -> str:
    """These sections or values of the profile, as text."""
    return json.dumps(covered(sections, profile), sort_keys=True)


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
    """Modules of this package that one file imports, and the packages that they lie in."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [node.module] if node.module else []
            if node.level:  # one dot is the folder that the file lies in
                folder = source.parents[node.level - 1]
                parts = [*folder.relative_to(PACKAGE.parent).parts, *parts]
            names += [".".join([*parts, alias.name]) for alias in node.names]
    paths: set[Path] = set()
    for name in names:
        first, *inside = name.split(".")
        if first == PACKAGE.name:
            for n in range(len(inside) + 1):  # importing a.b.c runs a and a.b, too
                module = PACKAGE.joinpath(*inside[:n])
                paths |= {module.with_name(f"{module.name}.py"), module / "__init__.py"}
    return frozenset(path for path in paths if path.is_file())


SECTIONS = (
    *("model", "prompt", "problems", "rollouts"),
    *("lora", "training", "methods", "evaluation", "geometry", "released", "spread"),
)
ADAPTERS = tuple(f"adapters/{name}/{file}" for name in METHODS for file in ADAPTER_FILES)
# SFT once more, its rows reshuffled: in every figure that is about direction.
RESHUFFLED = tuple(f"adapters/sft-order/{file}" for file in ADAPTER_FILES)
PREDICTED = ("geometry/predicted_cosine.csv",)
PREDICTIONS = (
    "evaluation/predictions.parquet",
    "evaluation/accuracy.csv",
    "evaluation/mcnemar.csv",
)
RELEASED = tuple(f"released/{name}.csv" for name in ("claims", "conditions", "printed", "pairs"))
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
        settings=(
            *("model", "prompt", "problems"),
            *("evaluation.max_new_tokens", "evaluation.batch_size", "rollouts.source"),
        ),
        shipped=True,
        loads_model=True,
    ),
    Job(
        "ingredients/rollouts",
        reads=(),
        writes=ROLLOUTS,
        # Also a table of how each objective weights and how often it sees the pool. No learning
        # rate in it: changing one must not sample again.
        settings=(
            *("model", "prompt", "problems", "rollouts", "training.steps", "training.batch_size"),
            *(f"methods.{method}.{key}" for method in METHODS for key in ("steps", "batch_size")),
            *("methods.rift.reward_lambda", "methods.offline_grpo.bias"),
            # Which groups a training meets whole.
            *("training.seed", "methods.offline_grpo.seed", "methods.sft.variant"),
        ),
        priority=100,
        loads_model=True,  # unless the rollouts come from elsewhere (demands.py)
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
            settings=("model", "prompt", "lora", "training", f"methods.{method}"),
            # DPO runs two models on two completions; the others take equally long.
            priority=90 if method == "dpo" else 50,
            loads_model=True,
        )
        for method in METHODS
    ),
    Job(
        "ingredients/learning_rate",
        reads=(*ROLLOUTS, *(f"adapters/sft/{file}" for file in ADAPTER_FILES)),
        writes=(),
        settings=("model", "prompt", "problems", "lora", "training", "methods.sft", "evaluation"),
        priority=45,
        shipped=True,
        loads_model=True,
    ),
    *(
        Job(
            f"geometry/{analysis}",
            reads=(*ADAPTERS, *RESHUFFLED, *reads),
            writes=(f"geometry/{analysis}.csv", *writes),
            settings=("geometry", *chance),
            priority=10,
        )
        for analysis, reads, writes, chance in (
            (
                *("cosine", ROLLOUTS, PREDICTED),
                ("model", "prompt", "lora.r", "lora.seed", "evaluation.confidence"),
            ),
            ("principal_angles", (), (), ("model.base", "lora.r", "evaluation.confidence")),
            ("orthogonal_fraction", PREDICTED, (), ("model.base",)),
        )
    ),
    *(
        Job(
            f"geometry/{analysis}",
            reads=(*ROLLOUTS, *ADAPTERS),
            writes=(f"geometry/{analysis}.csv",),
            settings=("model", "prompt", "geometry", "training.threads", *answers),
            priority=60 if analysis == "mode_connectivity" else 20,
            loads_model=True,
        )
        for analysis, answers in (
            ("mode_connectivity", ("problems", "evaluation")),
            ("cka", ("evaluation.confidence", "evaluation.batch_size")),
        )
    ),
    Job(
        "evaluation/accuracy",
        reads=ADAPTERS,
        writes=PREDICTIONS,
        settings=(
            *("model", "prompt", "problems", "evaluation", "training.threads"),
            "rollouts.source",  # the teacher is asked where it is a model
        ),
        files=("book/reference/answers/*",),  # of the models that ship
        priority=40,
        loads_model=True,
    ),
    Job(
        "controls/reshuffled",
        reads=ROLLOUTS,
        writes=RESHUFFLED,
        settings=("model", "prompt", "lora", "training", "methods.sft"),
        priority=50,
        loads_model=True,
    ),
    *(
        Job(
            f"controls/{control}",
            reads=(*ROLLOUTS, *ADAPTERS, *(RESHUFFLED if control == "second_seed" else ())),
            writes=tuple(f"controls/{control}_{table}.csv" for table in tables),
            settings=(
                *("model", "prompt", "problems", "lora", "training"),
                *("methods.sft", "evaluation", "geometry"),
                *(("methods.dpo",) if control == "matched_rate" else ()),
            ),
            files=("book/predictions.yaml",) if control == "matched_rate" else (),
            priority=45 if control == "second_seed" else 35,
            shipped=True,
            loads_model=True,
        )
        for control, tables in CONTROLS.items()
    ),
    *(
        Job(
            f"controls/{stem}",
            reads=("controls/ray.csv",) if stem == "annealed" else (),
            writes=tuple(f"controls/{table}.csv" for table in tables),
            # The notebook lays tables side by side; what decides them is told by MEASUREMENTS.
            settings=("spread", "problems.source", *settings),
            files=("book/predictions.yaml", *files),
            priority=4,
            repeats=True,
            shipped=True,
        )
        for stem, tables, settings, files in (
            (
                *("path", ("path", "path_lengths")),
                ("training", "methods.sft"),
                (),
            ),
            (
                *("ray", ("ray", "ray_accuracy", "ray_mcnemar")),
                ("problems.validation", "geometry.lmc_rows", "geometry.ray_factors"),
                (),
            ),
            ("annealed", ("annealed_ray", "annealed_cosine"), (), ()),
            (
                *("spread", ("spread", "spread_claims")),
                *(("evaluation.confidence",), ("book/claims.yaml",)),
            ),
            ("causes", ("causes",), ("problems.validation",), ()),
            (
                *("behaviour", ("behaviour", "behaviour_correlations")),
                ("evaluation.confidence",),
                (),
            ),
        )
        if stem in CHAPTERS
    ),
    Job(
        "evaluation/released_weights",
        reads=(),
        # Neither the weights nor the table of folders, which a person may edit: `make released`.
        writes=RELEASED,
        settings=("released",),
        files=("book/claims.yaml", "book/released.yaml"),
        priority=30,
    ),
    Job(
        "evaluation/verdict",
        reads=(
            *(*ROLLOUTS, *ADAPTERS, *RESHUFFLED, *PREDICTIONS),
            *(f"geometry/{analysis}.csv" for analysis in GEOMETRY),
            *(
                f"controls/{name}_{table}.csv"
                for name, tables in CONTROLS.items()
                for table in tables
            ),
            RELEASED[0],
        ),
        writes=(
            *("claims.csv", "evaluation/claims_rules.csv", "evaluation/claims_conditions.csv"),
        ),
        settings=SECTIONS,
        files=("book/claims.yaml", "book/reference/claims/*.csv"),
    ),
    Job(
        "controls/another_base",
        reads=(
            *ADAPTERS,
            *RESHUFFLED,
            *PREDICTED,
            *("claims.csv", "evaluation/claims_conditions.csv"),
            "controls/matched_rate_cosine.csv",
        ),
        writes=(),
        settings=("model.base", "evaluation.confidence", "geometry.seed"),
        files=("book/predictions.yaml", "models/smollm2-*/**/*"),
    ),
    Job(
        "your_adapters",
        reads=(),
        writes=(),
        settings=("geometry.null_draws", "geometry.seed"),
        files=("book/compare_cost.csv", "models/smollm2-135m/adapters/*/*"),
    ),
]
