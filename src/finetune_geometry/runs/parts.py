"""Results of a long measurement, part by part, so that a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.keys import part_key
from finetune_geometry.runs.records import Run


class Parts:
    """Arrays kept under `parts/<name>/` in a run's folder until the whole is written elsewhere.

    decided_by: what decides every part (`keys`), in JSON's types.
    """

    def __init__(self, run: Run, name: str, decided_by: Any) -> None:
        self.root, self.decided_by = run.dir / "parts", decided_by
        self.folder = self.root / name

    def of(self, part: Any, measure: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What `measure` gives for a part, measured now or earlier; read from its file as needed.

        part: what tells this part from others and decides it, in JSON's types.
        """
        path = self.folder / f"{part_key([self.decided_by, part])}.npy"
        if not path.is_file():
            found = measure()
            with atomic_write(path, "wb") as file:
                np.save(file, found, allow_pickle=False)
        # Mapped: hidden states of several large models need not be in memory together.
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))

    def clear(self) -> None:
        """The whole is written: forget the parts, this measurement's and those of earlier ones."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another measurement has parts there
            for folder in self.folder.relative_to(self.root.parent).parents[:-1]:
                (self.root.parent / folder).rmdir()
