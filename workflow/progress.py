"""How far a run is and how long the rest will take, from the reference run's timings.

Snakemake's logger plugin (snakemake_logger_plugin_oneline) tells `Progress` what it sees and
shows what it answers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

LONG_ENOUGH = 5.0  # seconds: what ends sooner says little about the speed of the machine


def rule_of(notebook: str) -> str:
    """Name of the notebook's rule in the Snakefile."""
    return notebook.replace("/", "_")


def read_timings(path: Path) -> dict[str, float]:
    """Rule -> seconds, from the timing.csv of a run; empty where there is none."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {rule_of(row["notebook"]): float(row["seconds"]) for row in csv.DictReader(file)}


class Progress:
    """The state of one run. Times are seconds of any clock that only goes forward.

    Args:
        shipped: seconds that each rule took in the reference run; others count nothing.
        own: whether the shipped times are those of the same settings. If not, nothing is said about
            the time left before a step has ended and shown how this run compares.
    """

    def __init__(self, shipped: Mapping[str, float], own: bool) -> None:
        self.shipped = shipped
        self.own = own
        self.cores = 1
        self.total = 0
        self.done = 0
        self.waiting: list[str] = []
        self.running: dict[int, tuple[str, str, float]] = {}
        self._expected = self._measured = 0.0

    def plan(self, rules: Mapping[str, int]) -> None:
        """The steps that this run will take: rule -> how often."""
        self.waiting = [rule for rule, count in rules.items() for _ in range(count)]
        self.total = len(self.waiting)

    def start(self, job: int, rule: str, what: str, now: float) -> None:
        self.running[job] = (rule, what, now)
        if rule in self.waiting:
            self.waiting.remove(rule)

    def finish(self, job: int, now: float) -> str:
        """What has ended."""
        rule, what, began = self.running.pop(job, ("", "", now))
        self.done += 1
        if self.shipped.get(rule, 0.0) >= LONG_ENOUGH:
            self._expected += self.shipped[rule]
            self._measured += now - began
        return what

    def seconds_left(self, now: float) -> float | None:
        """An estimate; None as long as there is nothing to estimate from.

        Every step takes what it took in the reference run, times how much slower this machine was
        in the steps that have ended. The rest is shared among the cores, and cannot end before the
        longest step that is running.
        """
        if not self._expected and not self.own:
            return None
        slower = self._measured / self._expected if self._expected else 1.0
        rests = [
            max(0.0, slower * self.shipped.get(rule, 0.0) - (now - began))
            for rule, _, began in self.running.values()
        ]
        to_come = sum(slower * self.shipped.get(rule, 0.0) for rule in self.waiting)
        if not rests and not to_come:
            return None
        return max((sum(rests) + to_come) / self.cores, *rests, 0.0)

    def line(self, now: float) -> str:
        """What is done and how long the rest takes, in words."""
        words = f"{self.done} of {self.total} done"
        left = self.seconds_left(now)
        if left is None or self.done == self.total:
            return words
        minutes = round(left / 60)
        return f"{words}, " + (
            f"about {minutes} min left" if minutes else "less than a minute left"
        )
