"""Copy the executed notebooks of a run beside their sources, without what differs between runs.

Removed: timestamps, random cell ids, papermill's and the kernel's bookkeeping, the cell with the
injected parameters, paths of this machine. What is left is the same for two runs of one seed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from jobs import JOBS, ROOT

from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.places import results_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile

MACHINE = ("papermill", "execution", "ExecuteTime")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def normalise(notebook: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook (as JSON) with only what a second run would give again."""
    cells = [
        cell
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    count = 0
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index:03d}"
        for key in MACHINE:
            cell["metadata"].pop(key, None)
        if cell["cell_type"] != "code":
            continue
        if cell["source"]:
            count += 1
            cell["execution_count"] = count
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = count
            for holder in (output, output.get("data", {})):
                for key in ("text", "text/plain", "text/html", "text/markdown", "image/svg+xml"):
                    if key in holder:
                        holder[key] = _portable(holder[key])
    metadata = {"kernelspec": notebook["metadata"]["kernelspec"]}
    if "jupytext" in notebook["metadata"]:
        metadata["jupytext"] = notebook["metadata"]["jupytext"]
    metadata["language_info"] = {"name": "python"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _portable(text: Any) -> Any:
    if isinstance(text, list):
        return [_portable(line) for line in text]
    return ADDRESS.sub("0x0", text.replace(f"{ROOT}/", "").replace(str(ROOT), "."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--run", default="")
    options = parser.parse_args()
    folder = results_root() / (options.run or load_profile(options.profile).name)
    for job in JOBS:
        executed = folder / "notebooks" / f"{job.name}.ipynb"
        if not executed.is_file():
            raise UserError(f"missing {executed.name}: {executed.parent}: run `make book` first")
        notebook = normalise(json.loads(executed.read_text(encoding="utf-8")))
        with atomic_write(job.source.with_suffix(".ipynb")) as file:
            json.dump(notebook, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")
    print(f"Copied {len(JOBS)} notebooks of {folder.name} to {ROOT / 'notebooks'}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
