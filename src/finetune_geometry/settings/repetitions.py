"""What is measured of a repetition of the six trainings, and of which repetitions.

A repetition, or cell (`variations.cells`), is the six methods trained alike. A chapter on
repetitions reads a few small tables of each, and those tables can be kept where the adapters, which
take hours to train, cannot. So a measurement of one cell is the unit in which such a chapter is
made: by itself, on any day, on any machine.

Light: the workflow reads this list each time it plans.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.variation import Cell
from finetune_geometry.settings.variations import cells

#: Cells of a chapter that does not read every one: the run, another order, another A and order.
FEW = ("run", "order1", "draw1")
TWO = ("run", "order1")  # where measuring takes as long as training does
#: What decides the six adapters of a cell.
_TRAINED = (
    *("model", "prompt", "problems", "rollouts", "lora", "training", "methods"),
    "spread.student_problems",
)


@dataclass(frozen=True)
class Measurement:
    """What one chapter asks of every cell that it reads.

    Attributes:
        name: also the last part of the name of the chapter.
        maker: module and function of `repetitions/` that measure a cell, "rays.measure_ray".
        tables: names of the tables, which lie in `cells/<cell>/` of a run.
        settings: sections and values of the profile that the tables depend on; of those that only
            say when something is written (`sections.WRITING`) the ones that are named.
        files: tracked files that they depend on, relative to the checkout.
        which: names of the cells; none: all that the profile has.
        annealed: also needs the cell's six with the schedule run to its end.
        beside: adapters of the run that a cell on the run's base is held against.
    """

    name: str
    maker: str
    tables: tuple[str, ...]
    settings: tuple[str, ...]
    files: tuple[str, ...] = ()
    which: tuple[str, ...] = FEW
    annealed: bool = False
    beside: tuple[str, ...] = ()

    def cells(self, profile: Profile) -> list[Cell]:
        """The cells that it is made of, the run's own first."""
        return [cell for cell in cells(profile) if not self.which or cell.name in self.which]

    def adapters(self, cell: Cell) -> list[str]:
        """Names of the adapters that it reads of a cell."""
        found = [*cell.adapters.values(), *(() if cell.student else self.beside)]
        if self.annealed:
            found += [annealed_name(cell, method) for method in METHODS]
        return list(dict.fromkeys(found))

    def outputs(self, cell: str) -> list[str]:
        """The files that it leaves of a cell, by its name: tables, and what made them."""
        tables = [f"cells/{cell}/{table}.csv" for table in self.tables]
        return [*tables, f"cells/{cell}/{self.name}.json"]


def annealed_name(cell: Cell, method: str) -> str:
    """The adapter of a method of this cell with the schedule run to its end."""
    return f"{method}-annealed{cell.name.removeprefix('order') if cell.kind == 'order' else ''}"


#: The chapters that are in the book; the cells of the others are not all measured yet.
CHAPTERS: tuple[str, ...] = ("spread", "path", "ray", "annealed", "causes", "behaviour")
_RAY = ("geometry.lmc_rows", "geometry.ray_factors", "evaluation")
MEASUREMENTS = {
    one.name: one
    for one in (
        Measurement(
            *("ray", "rays.measure_ray"),
            ("ray", "ray_accuracy", "ray_mcnemar"),
            (*_TRAINED, *_RAY),
            which=TWO,
        ),
        Measurement(
            *("annealed", "rays.measure_annealed"),
            ("annealed_ray", "annealed_accuracy", "annealed_mcnemar", "annealed_cosine"),
            (*_TRAINED, *_RAY),
            which=TWO,
            annealed=True,
        ),
        Measurement(
            *("path", "paths.measure_path"),
            ("path", "path_lengths"),
            (*_TRAINED, "training.snapshots"),
        ),
        Measurement(
            *("spread", "ledger.measure_spread"),
            ("headlines", "measures"),
            (*_TRAINED, "evaluation", "geometry.k", "geometry.seed"),
            files=("book/claims.yaml",),
        ),
        Measurement(
            *("behaviour", "behaviour.measure_behaviour"),
            ("behaviour",),
            (*_TRAINED, "evaluation", "geometry.lmc_rows", "geometry.k"),
            beside=(*METHODS, "sft-order"),
        ),
        Measurement(
            *("causes", "causes.measure_causes"),
            ("causes", "causes_parts"),
            (*_TRAINED, "evaluation", "geometry.lmc_rows", "geometry.seed"),
            which=TWO,
        ),
    )
}
