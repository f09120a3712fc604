"""Time and memory of a step, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import measure
import pytest

SAYS = "print('step 1', flush=True); import sys; "


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_step_leaves_its_time_and_memory(tmp_path: Path) -> None:
    timing = tmp_path / "timing.json"
    assert measure.main(str(timing), "-", "-", *python("x = bytearray(2**27)")) == 0
    record = json.loads(timing.read_text(encoding="utf-8"))
    assert 0 < record["seconds"] < 60
    assert record["peak_mib"] > 128


def test_what_a_step_says_is_in_its_log_while_it_goes_on(tmp_path: Path) -> None:
    log, go_on = tmp_path / "step.log", tmp_path / "go on"
    code = SAYS + f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    script = [sys.executable, measure.__file__, str(tmp_path / "t.json"), "-", str(log)]
    step = subprocess.Popen([*script, *python(code)])
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.is_file() and log.read_text()):
        time.sleep(0.02)
    assert log.read_text(encoding="utf-8") == "step 1\n"
    go_on.touch()
    assert step.wait() == 0


@pytest.mark.parametrize("kept", [True, False])
def test_the_last_lines_of_a_step_that_fails_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bool
) -> None:
    log = tmp_path / "step.log"
    code = SAYS + "print('\\x1b[31mred\\x1b[0m', file=sys.stderr); sys.exit(3)"
    timing = tmp_path / "timing.json"
    assert measure.main(str(timing), "-", str(log) if kept else "-", *python(code)) == 3
    assert capsys.readouterr().err == "step 1\nred\n"
    assert not timing.exists()
    assert log.exists() is kept
