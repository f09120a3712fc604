"""Snakemake's log as one line: what runs, what is done, and the minutes to go.

On a terminal the line stays in its place; elsewhere, as in a file, each step gets a line when it
starts. A step that fails is told in one line that names its log. Snakemake finds this package by
its name, on PYTHONPATH (run.py); what is dropped here is in the run's .snakemake/log/.
"""

from __future__ import annotations

import json
import os
import sys
import time
from logging import ERROR, LogRecord
from pathlib import Path

from progress import Progress, read_timings
from rich.console import Console
from rich.live import Live
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# What follows a step that failed and says no more than that; the rest of an error is shown.
REPEATED = ("CalledProcessError", "Exiting because", "At least one job")


def reason(log: Path) -> str:
    """The error in the log of a step: a notebook as far as it came, or text."""
    try:
        said = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "it ended before it wrote a log"
    if log.suffix == ".ipynb":
        try:
            cells = json.loads(said)["cells"]
        except json.JSONDecodeError:  # stopped while it wrote
            cells = []
        outputs = [o for cell in cells for o in cell.get("outputs", [])]
        errors = [o for o in outputs if o["output_type"] == "error"]
        words = f"{errors[0]['ename']}: {errors[0]['evalue']}" if errors else ""
    else:
        faults = [line for line in said.splitlines() if "WARNING" in line or "ERROR" in line]
        words = next(iter(faults or said.strip().splitlines()[-1:]), "")
    return " ".join(words.split()) or "no error in its log, so it was stopped from outside"


class LogHandler(LogHandlerBase):
    def __post_init__(self) -> None:
        own = os.environ.get("FINETUNE_GEOMETRY_OWN_TIMINGS") == "1"
        timings = os.environ.get("FINETUNE_GEOMETRY_TIMINGS", "")
        self.progress = Progress(read_timings(Path(timings)), own)
        self.console = Console(soft_wrap=True, highlight=False)
        self.live: Live | None = None

    def emit(self, record: LogRecord) -> None:
        try:
            self.take(record)
        except Exception:  # as every handler of `logging` does: a log must not end a run
            self.handleError(record)

    def take(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        said = record.getMessage() if record.msg else ""
        now = time.monotonic()
        if event == LogEvent.RESOURCES_INFO:
            if getattr(record, "cores", None):
                self.progress.cores = record.cores
            # Nearly all time of such a run goes into steps that need one each.
            if "gpu" in (getattr(record, "provided_resources", None) or {}):
                self.progress.cores = record.provided_resources["gpu"].value
        elif event == LogEvent.RUN_INFO:
            rules = {k: n for k, n in record.stats.items() if k != "total"}
            self.progress.plan({rule: int(count) for rule, count in rules.items()})
            if not rules and not self.common_settings.dryrun:
                self.say("Nothing to do: everything is up to date.")
        elif event == LogEvent.JOB_INFO:
            # Told when a step starts; JOB_STARTED comes before its step has a name.
            what = record.rule_msg or record.rule_name
            if self.common_settings.dryrun:
                self.say(what)
            else:
                self.progress.start(record.jobid, record.rule_name, what, now)
                self.show(what, now)
        elif event == LogEvent.JOB_FINISHED:
            self.progress.finish(record.job_id, now)
        elif event == LogEvent.JOB_ERROR:
            log = Path(next(iter(record.log), "log")).resolve()
            what = self.progress.running.get(record.jobid, ("", record.rule_name, now))[1]
            self.say(f"error: {what.removeprefix('execute ')}: {reason(log)}: {log}")
        elif "Nothing to be done" in said:
            self.say("Nothing to do: everything is up to date.")
        elif record.levelno >= ERROR and not any(words in said for words in REPEATED):
            # How Snakemake came to it is in its own log.
            self.say(said.partition("Traceback (most recent call last)")[0].strip())

    def show(self, what: str, now: float) -> None:
        """A step has started."""
        if not self.console.is_terminal:
            self.say(f"{time.strftime('%H:%M:%S')} {what} ({self.progress.line(now)})")
        elif self.live is None:
            self.live = Live(
                get_renderable=self.line,
                console=self.console,
                refresh_per_second=1,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()
            self.console.show_cursor(True)  # a killed process could not give it back

    def say(self, words: str) -> None:
        """A line that stays, above the one that moves."""
        self.console.print(Text(words), soft_wrap=True)
        self.console.file.flush()

    def line(self) -> Text:
        now = time.monotonic()
        running = ", ".join(
            what.removeprefix("execute notebooks/") for _, what, _ in self.progress.running.values()
        )
        words = f"{self.progress.line(now)} | {running or 'planning'}"
        return Text(words, no_wrap=True, overflow="ellipsis")

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
        sys.stdout.flush()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
