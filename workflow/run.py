"""`make book`: run the workflow for one profile, then say where the book is and what it took.

Guards what Snakemake does not: two runs in one folder (a lock of the operating system, gone with
the process that held it), and a fault that a notebook reports, which is shown in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import IO

import psutil
from jobs import JOBS

from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import parse_overrides

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny", help="name or path of a profile")
    parser.add_argument("--run", default="", help="folder under results/ (default: the profile)")
    parser.add_argument("--set", default="", help="key=value overrides of the profile")
    parser.add_argument("--executor", default="local", help="folder in workflow/profiles")
    parser.add_argument("--until", default="", help="stop at this rule, such as methods_dpo")
    parser.add_argument("snakemake", nargs="*", help="further arguments of snakemake, after --")
    return parser.parse_args()


def lock(folder: Path) -> IO[str]:
    """Take the run's lock for as long as this process (or a child that inherits it) lives."""
    file = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  held until the end
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"this run is being made already (process {file.read().strip() or 'unknown'}): "
            f"{folder}: wait for it, or choose another name with RUN="
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


# What Snakemake says about its own bookkeeping; the rest tells how far the run is.
NOISE = re.compile(
    r"\s*$|Building DAG|Rules claiming|Select jobs|Execute \d+ jobs|\[\w{3} \w{3} |Finished jobid|"
    r"Using |Provided |Assuming|Complete log|Elapsed|WorkflowError|Shutting down|Exiting because|"
    r"At least one|RuleException|CalledProcessError|Command '|        |"
    r"    (message|jobid|input|output|shell):"
)
STARTED = re.compile(r"^Job \d+: ")


def follow(stream: IO[str]) -> int:
    """Show one line when a step starts and one when it ends; the number of steps started."""
    steps = 0
    counting = False  # inside the table of rules that Snakemake begins with
    for line in stream:
        counting = line.startswith("Job stats") or (counting and not line.startswith("total"))
        if counting or line.startswith("total ") or NOISE.match(line):
            continue
        steps += STARTED.match(line) is not None
        print(time.strftime("%H:%M:%S ") + STARTED.sub("", line), end="", flush=True)
    return steps


def end(pid: int) -> None:
    """Kill a process and all below it: Snakemake waits for ever if its jobs are stopped first."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def stop(*_: object) -> None:
    """A signal to terminate is taken like Ctrl-C."""
    raise KeyboardInterrupt


def timing(folder: Path) -> list[dict[str, float | str]]:
    """Merge timing/*.json into timing.csv, in the order of the jobs."""
    rows: list[dict[str, float | str]] = []
    for job in JOBS:
        path = folder / "timing" / f"{job.stem}.json"
        if path.is_file():
            rows.append({"notebook": job.name, **json.loads(path.read_text(encoding="utf-8"))})
    with atomic_write(folder / "timing.csv") as file:
        columns = ["notebook", "started", "seconds", "cpu_seconds", "peak_mib"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def show(rows: list[dict[str, float | str]]) -> None:
    print(f"\n{'notebook':<34}{'seconds':>9}{'peak MiB':>10}")
    for row in rows:
        print(f"{row['notebook']:<34}{row['seconds']:>9.1f}{row['peak_mib']:>10.0f}")
    print(f"{'sum':<34}{sum(float(row['seconds']) for row in rows):>9.1f}")


def main() -> int:
    options = arguments()
    # A fault is told before anything starts.
    folder = Run.open(options.profile, options.run, parse_overrides(options.set)).dir
    chosen = options.profile
    if chosen.endswith((".yaml", ".yml")):
        chosen = str(Path(chosen).resolve())
    held = lock(folder)
    signal.signal(signal.SIGTERM, stop)
    os.set_inheritable(held.fileno(), True)
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile")),
        *("--workflow-profile", str(HERE / "profiles" / options.executor)),
        *("--directory", str(folder)),
        *("--config", f"profile={chosen}", f"set={options.set}"),
        *(["--until", options.until] if options.until else []),
        *options.snakemake,
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[held.fileno()],
    ) as process:
        try:
            steps = follow(typing.cast(IO[str], process.stdout))
        except KeyboardInterrupt:
            end(process.pid)
            print(f"\nStopped. The same command goes on where it was: {folder}", file=sys.stderr)
            return 130
    if process.returncode != 0:
        print(f"\nThe run stopped. What was finished is kept: {folder}", file=sys.stderr)
        print("A notebook that failed lies in its logs/ with its traceback.", file=sys.stderr)
        return process.returncode
    rows = timing(folder)
    if steps:
        show(rows)
    else:
        print("Nothing to do: everything is up to date.")
    if not options.until:
        print(f"The book: {folder / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
