"""`make book`: run the workflow for one profile, then say where the book is and what it took.

Guards what Snakemake does not: two runs in one folder (a lock of the operating system, gone with
the process that held it). What is shown meanwhile is the business of the logger plugin beside this.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
from executors import Place, jobs_left, place
from jobs import JOBS
from repository_links import checked
from settings_unchanged import settings_of
from shipped import EXECUTE, REFERENCE, asked_for

from finetune_geometry.estimates.verdict import refuse_what_cannot_fit
from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.packages import PACKAGES
from finetune_geometry.settings.profiles import Profile, parse_overrides
from finetune_geometry.settings.repetitions import MEASUREMENTS
from finetune_geometry.settings.revisions import check_fetched, needed

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny", help="name or path of a profile")
    parser.add_argument("--run", default="", help="folder under results/ (default: the profile)")
    parser.add_argument("--set", default="", help="key=value overrides of the profile")
    parser.add_argument(
        "--executor",
        default="",
        help="folder in workflow/profiles (default: gpu where the profile needs one, else local)",
    )
    parser.add_argument(
        "--execute",
        default="",
        help="what to execute instead of showing the reference run: all, "
        "or names apart by a space, such as second_seed",
    )
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


def ask_for(words: str, folder: Path, profile: Profile) -> None:
    """Note in the run's folder what shipped it executes or repeats, in addition to before."""
    shipped = [job.stem for job in JOBS if job.shipped]
    repeated = [measurement.cells(profile) for measurement in MEASUREMENTS.values()]
    known = [*shipped, *dict.fromkeys(cell.name for found in repeated for cell in found)]
    wanted = shipped if words.split() == ["all"] else words.split()
    for name in wanted:
        if name not in known:
            advice = closest(name, known)
            raise UserError(f"{name!r} is not shown from the reference run: ONLY: {advice}")
    if wanted:
        with atomic_write(folder / EXECUTE) as file:
            file.write("\n".join(sorted(asked_for(folder) | set(wanted))) + "\n")


def environment(run: Run, where: Place) -> dict[str, str]:
    """Where Snakemake finds its plugins, and the one that logs finds the times to expect."""
    path = REFERENCE / "settings.json"
    shipped = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    own = shipped.get("profile") == settings_of(run.profile)["profile"]
    paths = [str(HERE), str(where.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "PYTHONPATH": os.pathsep.join(paths),
        "FINETUNE_GEOMETRY_TIMINGS": str(REFERENCE / "timing.csv"),
        "FINETUNE_GEOMETRY_OWN_TIMINGS": str(int(own)),
    }
    return os.environ | variables | where.environment


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
    """A signal to terminate, or a terminal that closes, is taken like Ctrl-C."""
    raise KeyboardInterrupt


def timing(folder: Path) -> list[dict[str, float | str]]:
    """Merge timing/*.json into timing.csv, in the order of the jobs, the book last.

    What is shown from the reference run took nothing: its file is empty, and it has no row.
    """
    rows: list[dict[str, float | str]] = []
    for name, stem in [*((job.name, job.stem) for job in JOBS), ("book", "book")]:
        path = folder / "timing" / f"{stem}.json"
        if path.is_file() and (taken := json.loads(path.read_text(encoding="utf-8"))):
            rows.append({"notebook": name, **taken})
    with atomic_write(folder / "timing.csv") as file:
        columns = ["notebook", "started", "seconds", "cpu_seconds", "peak_mib"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def show(rows: list[dict[str, float | str]]) -> None:
    print(f"\n{'notebook':<34}{'seconds':>9}{'peak MiB':>10}")
    for row in rows:
        print(f"{row['notebook']:<34}{row['seconds']:>9.1f}{row.get('peak_mib', 0):>10.0f}")
    print(f"{'sum':<34}{sum(float(row['seconds']) for row in rows):>9.1f}")


def opened(options: argparse.Namespace) -> Run:
    """The run, with all there that it reads from elsewhere.

    A model that a package of the registry holds is small and open, so it is fetched without being
    asked for; whatever else is missing is an error that says what to type.
    """
    words = (options.profile, options.run, options.set)
    run = Run.open(*words[:2], parse_overrides(options.set))
    try:
        check_fetched(run.profile)
    except UserError:
        if not all(item.repo in PACKAGES for item in needed(run.profile)):
            raise
        command = [sys.executable, "-m", "finetune_geometry", "prefetch"]
        for option, word in zip(("--profile", "--run", "--set"), words, strict=True):
            command += [option, word]
        if code := subprocess.run(command, check=False).returncode:
            sys.exit(code)
        run = Run.open(*words[:2], parse_overrides(options.set))
    return run


def main() -> int:
    options = arguments()
    # A fault is told before anything starts.
    try:
        checked()
    except ValueError as error:
        raise UserError(str(error)) from None
    run = opened(options)
    where = place(options.executor, run.profile)
    if not where.remote:  # of a cluster's nodes nothing is known here
        refuse_what_cannot_fit(run.profile, run.name)
    folder = run.dir
    chosen = options.profile
    if chosen.endswith((".yaml", ".yml")):
        chosen = str(Path(chosen).resolve())
    held = lock(folder)
    if where.executor == "slurm" and (left := jobs_left(folder)):
        raise UserError(
            f"jobs of this run are still in the queue: {folder}: wait for them, "
            f"or type: scancel {' '.join(left)}"
        )
    ask_for(options.execute, folder, run.profile)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    if where.remote:  # a shell has its background jobs ignore it, and Snakemake would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.set_inheritable(held.fileno(), True)
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile")),
        *("--profile", str(HERE / "common"), "--workflow-profile", str(where.folder)),
        *("--config", f"profile={chosen}", f"set={options.set}"),  # takes all up to an option
        *("--directory", str(folder), "--logger", "oneline"),
        *where.arguments,
        *(["--until", options.until] if options.until else []),
        *options.snakemake,
    ]
    before = [row["started"] for row in timing(folder)]
    sys.stdout.flush()
    with subprocess.Popen(
        command,
        env=environment(run, where),
        pass_fds=[held.fileno()],
        process_group=0,  # Ctrl-C comes here alone, and no notebook answers it with a traceback
    ) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            if where.remote:  # Snakemake takes its jobs back from the cluster
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                    process.wait(timeout=120)
            end(process.pid)
            print(f"\nStopped. The same command goes on where it was: {folder}", file=sys.stderr)
            return 130
    if process.returncode != 0:
        print(f"The run stopped. What was finished is kept: {folder}", file=sys.stderr)
        return process.returncode
    rows = timing(folder)
    if [row["started"] for row in rows] != before:
        show(rows)
    if not options.until:
        print(f"The book: {folder / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
