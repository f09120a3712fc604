"""The adapters of a run, as deltas."""

from __future__ import annotations

from finetune_geometry.deltas.adapters import Adapter, load_adapter, zero_adapter
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS


def load_run(run: Run, others: str = "") -> list[Adapter]:
    """The base (every delta 0), those of the six methods that the run has, and `others`.

    others: names of further adapters, apart by commas, as in the notebooks' parameter.

    Adapters that a reader trained on the side stay out unless they are named, so that a figure of
    the run does not change with them.
    """
    wanted = [*METHODS, *(name.strip() for name in others.split(",") if name.strip())]
    names = [name for name in run.adapter_names() if name in wanted]
    if not names:
        raise UserError(
            f"no adapters: {run.dir / 'adapters'}: run the notebooks under notebooks/methods for "
            "this run first, or `make book`"
        )
    adapters = [load_adapter(run.adapter_dir(name), name) for name in names]
    for adapter in adapters:  # where the checkout lay when it was trained does not matter
        if adapter.base_model.endswith(f"/{run.profile.model.base}"):
            adapter.base_model = run.profile.model.base
    return [zero_adapter(adapters[0]), *adapters]
