"""`make released`: say on the terminal what came of it: show_released.py RUN."""

from __future__ import annotations

import sys
from pathlib import Path

from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.folders import results_root


def main(run: str) -> int:
    """run: its name, or the profile that it is named after."""
    # A profile may be a file, and its run has the file's name; a run's own name may have a dot.
    name = Path(run).stem if run.endswith((".yaml", ".yml")) else run
    folder = results_root() / name
    claims, printed = (read_csv(folder / "released" / f"{n}.csv") for n in ("claims", "printed"))
    print(f"\n{'claim':<7}{'verdict':<30}title")
    for row in claims.to_dict("records"):
        print(f"{row['claim']:<7}{row['verdict']:<30}{row['title']}")
    agree = printed["agrees"].value_counts()
    print(f"\nPrinted numbers met to the digit: {agree.get('yes', 0)}, not: {agree.get('no', 0)}")
    print(f"What each folder was taken for: {folder / 'released' / 'folders.csv'}")
    print("Correct it and type the same command again; `make book` puts the page into the book.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
