"""How far a run is, how long the rest takes, and how it is told."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from progress import Progress, read_timings
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_oneline import LogHandler, reason

SHIPPED = {"methods_sft": 100.0, "methods_dpo": 200.0, "evaluation_verdict": 6.0}


def planned(own: bool = True, cores: int = 2) -> Progress:
    progress = Progress(SHIPPED, own)
    progress.cores = cores
    progress.plan({"methods_sft": 1, "methods_dpo": 1, "evaluation_verdict": 1, "numbers": 1})
    return progress


def test_time_left_before_anything_has_run_is_that_of_the_reference() -> None:
    assert planned().seconds_left(0.0) == 153.0
    assert planned(cores=1).seconds_left(0.0) == 306.0
    assert planned().line(0.0) == "0 of 4 done, about 3 min left"


def test_of_other_settings_nothing_is_said_before_a_step_has_ended() -> None:
    progress = planned(own=False)
    assert progress.seconds_left(0.0) is None
    assert progress.line(0.0) == "0 of 4 done"
    progress.start(1, "methods_sft", "execute methods/sft", 0.0)
    progress.finish(1, 10.0)  # ten times as fast as the reference
    assert progress.seconds_left(10.0) == pytest.approx((20 + 0.6) / 2)
    assert progress.line(10.0) == "1 of 4 done, less than a minute left"


def test_a_slower_machine_scales_what_is_to_come() -> None:
    progress = planned()
    progress.start(1, "methods_sft", "execute methods/sft", 0.0)
    progress.start(2, "methods_dpo", "execute methods/dpo", 0.0)
    # The longest step that runs counts, not its share.
    assert progress.seconds_left(50.0) == 150.0
    progress.finish(1, 150.0)
    assert progress.seconds_left(150.0) == pytest.approx(1.5 * 200 - 150)
    assert progress.seconds_left(1000.0) == pytest.approx(1.5 * 6 / 2)  # overdue, but not negative


def test_steps_without_a_time_take_none_and_the_end_has_no_minutes() -> None:
    progress = planned()
    for job, rule in enumerate([*SHIPPED, "numbers"]):
        progress.start(job, rule, rule, 0.0)
        assert progress.finish(job, 1.0) == rule
    assert progress.line(1.0) == "4 of 4 done"
    assert Progress({}, True).seconds_left(0.0) is None


def test_timings_are_those_of_a_runs_table(tmp_path: Path) -> None:
    path = tmp_path / "timing.csv"
    assert read_timings(path) == {}
    path.write_text("notebook,started,seconds\nmethods/sft,1.0,2.5\nbook,3.0,4.0\n")
    assert read_timings(path) == {"methods_sft": 2.5, "book": 4.0}


def record(event: LogEvent | None, message: str = "", level: int = logging.INFO, **values: object):
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(made).update(event=event, **values)
    return made


def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: bool) -> LogHandler:
    timings = tmp_path / "timing.csv"
    timings.write_text("notebook,seconds\nmethods/sft,600\nmethods/dpo,600\n", encoding="utf-8")
    monkeypatch.setenv("FINETUNE_GEOMETRY_TIMINGS", str(timings))
    monkeypatch.setenv("FINETUNE_GEOMETRY_OWN_TIMINGS", "1")
    monkeypatch.setenv("TERM", "dumb")
    return LogHandler(SimpleNamespace(dryrun=False, **settings), None)


def test_each_step_is_one_line_with_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = handler(tmp_path, monkeypatch)
    shown.emit(record(None, "Building DAG of jobs..."))
    shown.emit(record(LogEvent.RESOURCES_INFO, cores=2))
    stats = {"methods_sft": 1, "methods_dpo": 1, "total": 2}
    shown.emit(record(LogEvent.RUN_INFO, "Job stats", stats=stats))
    for job, name in enumerate(("sft", "dpo")):
        shown.emit(
            record(
                LogEvent.JOB_INFO,
                jobid=job,
                rule_name=f"methods_{name}",
                rule_msg=f"execute notebooks/methods/{name}",
            )
        )
    shown.emit(record(LogEvent.JOB_FINISHED, job_id=0))
    shown.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("execute notebooks/methods/sft (0 of 2 done, about 10 min left)")
    assert second.endswith("execute notebooks/methods/dpo (0 of 2 done, about 10 min left)")
    assert shown.progress.done == 1
    assert shown.line().plain.endswith("| methods/dpo")


def test_a_failed_step_is_one_line_with_its_reason_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "sft.ipynb"
    error = {"output_type": "error", "ename": "UserError", "evalue": "no pool: here:\n run it"}
    log.write_text(json.dumps({"cells": [{}, {"outputs": [error]}]}), encoding="utf-8")
    shown = handler(tmp_path, monkeypatch)
    started = {"jobid": 1, "rule_name": "methods_sft", "rule_msg": "execute notebooks/methods/sft"}
    shown.emit(record(LogEvent.JOB_INFO, **started))
    shown.emit(
        record(LogEvent.JOB_ERROR, "Error in rule", logging.ERROR, log=[str(log)], **started)
    )
    shown.emit(record(LogEvent.ERROR, "CalledProcessError in file ...", logging.ERROR))
    shown.emit(record(None, "Exiting because a job execution failed.", logging.ERROR))
    shown.emit(record(None, "MissingInputException: no rows.csv", logging.ERROR))
    _, said, other = capsys.readouterr().out.splitlines()
    assert said == f"error: notebooks/methods/sft: UserError: no pool: here: run it: {log}"
    assert other == "MissingInputException: no rows.csv"


def test_of_an_exception_what_it_says_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = handler(tmp_path, monkeypatch)
    said = "SLURM sbatch failed: no such node\nTraceback (most recent call last):\n  File ..."
    shown.emit(record(None, said, logging.ERROR))
    assert capsys.readouterr().out == "SLURM sbatch failed: no such node\n"


def test_time_is_shared_among_gpus_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = handler(tmp_path, monkeypatch)
    shown.emit(record(LogEvent.RESOURCES_INFO, cores=64))
    assert shown.progress.cores == 64
    provided = {"gpu": SimpleNamespace(value=2)}
    shown.emit(record(LogEvent.RESOURCES_INFO, provided_resources=provided))
    assert shown.progress.cores == 2


def test_a_step_that_left_no_error_is_told_apart(tmp_path: Path) -> None:
    assert "before it wrote a log" in reason(tmp_path / "none.ipynb")
    log = tmp_path / "killed.ipynb"
    log.write_text('{"cells": [{"outputs": []}]}', encoding="utf-8")
    assert "stopped from outside" in reason(log)
    log.write_text('{"cells": [{"outp', encoding="utf-8")  # in the midst of writing
    assert "stopped from outside" in reason(log)
    book = tmp_path / "book.log"
    book.write_text("reading\na.md:3: WARNING: no such label\nfinished\n", encoding="utf-8")
    assert reason(book) == "a.md:3: WARNING: no such label"


def test_nothing_to_do_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = handler(tmp_path, monkeypatch)
    shown.emit(record(LogEvent.RUN_INFO, "Job stats", stats={"total": 0}))
    assert capsys.readouterr().out == "Nothing to do: everything is up to date.\n"
