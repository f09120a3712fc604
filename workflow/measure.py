"""Run a command and write its time and peak memory: measure.py TIMING.json GPU LOG COMMAND ...

GPU says which GPU the command may see, in the words of gpus.py; waiting for one is not measured.
LOG is the file that what the command says goes to, line by line as it says it; "-": to none.
Standard input goes to the command; the exit status is the command's. When it fails, the last lines
of what it said are shown, unless a cell failed: then its traceback is in the notebook that the step
leaves as its log, and the logger plugin tells it from there.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpus import environment

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main(timing: str, gpu: str, log: str, *command: str) -> int:
    with (
        environment(gpu) as (variables, inherited),
        tempfile.TemporaryFile() if log == "-" else open(log, "wb+") as output,
    ):
        started = time.time()
        done = subprocess.run(
            command,
            env=variables | {"PYTHONUNBUFFERED": "1"},
            pass_fds=inherited,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        seconds = time.time() - started
        output.seek(0)
        # Whatever a notebook prints, its traceback must be shown.
        said = COLOURS.sub("", output.read().decode("utf-8", errors="replace"))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        if "Exception encountered at" not in said:
            print("\n".join(said.strip().splitlines()[-25:]), file=sys.stderr)
        return done.returncode
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in KiB
    record = {
        "started": started,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # of the largest process below this one, the notebook's kernel
        "peak_mib": usage.ru_maxrss * unit / 2**20,
    }
    Path(timing).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
