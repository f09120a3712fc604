"""Write what the pages say of their inputs: `python workflow/job_table.py`.

`make read` has no package and cannot import jobs.py, so what a page tells of it lies in
book/jobs.json. A test compares that file with the table.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from jobs import JOBS
from shipped import ROOT

TABLE = ROOT / "book" / "jobs.json"


def table() -> dict[str, dict[str, Any]]:
    """By notebook: the files of a run it reads, by the notebook that makes them; what else it asks.

    All files of one adapter are told as its folder.
    """
    makers = {file: job.name for job in JOBS for file in job.writes}
    found = {}
    for job in JOBS:
        reads: dict[str, list[str]] = {}
        for file in job.reads:
            folder, _, _ = file.rpartition("/")
            told = f"{folder}/" if folder.startswith("adapters/") else file
            if told not in (known := reads.setdefault(makers[file], [])):
                known.append(told)
        found[job.name] = {
            "reads": reads,
            "files": list(job.files),
            "repeats": job.repeats,
            "shipped": job.shipped,
            "loads_model": job.loads_model,
        }
    return found


def text() -> str:
    """The table as the file holds it."""
    return json.dumps(table(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    TABLE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
