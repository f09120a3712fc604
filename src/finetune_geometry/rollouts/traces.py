"""The source "traces": a public data set of verified generations, in seven steps.

1. The first K responses of a problem, in the order of the files.  Only the column that names the
   problem is read for that: nothing that says whether a response is right.
2. They are one group.  Where a data set gives several questions one name, all of them go: their
   responses are no group.
3. Whole problems go where a response was cut off.  Wrong ones are longer: to drop single rows would
   remove errors.  (So do groups too long for the student, in `pool.fitting`.)
4. So do problems with fewer than K responses.
5. Our verifier judges them again; where it disagrees with the data set, `facts` reports it.
6. Problems of the test sets and of the validation go, and repeated ones (`problems.cleaning`, as
   from every source).
7. The shares of all-right, mixed and all-wrong groups are those of `pool.describe`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune_geometry.problems.answer_check import RIGHT, UNVERIFIABLE, WRONG, extract_boxed
from finetune_geometry.problems.cleaning import clean
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import exam_problems
from finetune_geometry.rollouts.pool import POOL
from finetune_geometry.rollouts.sources import STOP, Rollout
from finetune_geometry.rollouts.trace_readers import Row, Trace, reader
from finetune_geometry.rollouts.trace_tables import rows
from finetune_geometry.runs.folders import project_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import fetched
from finetune_geometry.settings.trace_sets import needed_files, trace_set

VERSION = 1  # of the steps: another number makes other shards
DISAGREEMENTS = "rollouts/disagreements.parquet"
#: Why a problem was left out.
TOO_FEW, SEVERAL = "too_few", "several_questions"
UNFINISHED, NO_ANSWER = "unfinished", "no_answer"
FATES = (TOO_FEW, SEVERAL, UNFINISHED, NO_ANSWER)


def first_of_each(problems: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `k` rows of each problem, and the first row of each that has fewer.

    problems: (rows,) whole numbers, equal where the problem is the same.
    Returns (groups, k) row numbers, the group that is whole first coming first, and (others,).
    """
    order = np.argsort(problems, kind="stable")
    sizes = np.unique(problems, return_counts=True)[1]
    begins = np.cumsum(sizes) - sizes
    groups = order[begins[sizes >= k][:, None] + np.arange(k)]
    return groups[np.argsort(groups[:, -1])], order[begins[sizes < k]]


@dataclass(frozen=True)
class Selection:
    """Problems with the first K responses to each, and what became of those that were met."""

    problems: list[Problem]
    traces: dict[str, list[Trace]]  # by the problem's id
    counts: dict[str, int]


class TraceSource:
    """The data set of `rollouts.traces`, from the hub or a folder."""

    def __init__(self, run: Run) -> None:
        self.run, self.settings = run, run.profile.rollouts
        self.set = trace_set(self.settings.traces.dataset)
        self.reader = reader(self.set.name)
        self.files: list[Path] = []
        self.sizes: list[int] = []  # rows of each
        self.selection: Selection | None = None

    def problems(self) -> list[Problem]:
        """As many as are asked for, and those that will be left out before the last of them.

        Raises UserError if the files hold fewer.
        """
        return self._selected().problems

    def key(self, problems: Sequence[Problem], shard_prompts: int) -> str:
        """Of what was selected, to the letter: wherever the files lie and whatever their commit."""
        traces, digest = self._selected().traces, hashlib.sha256()
        for part in [
            [VERSION, self.set.name, self.settings.k, shard_prompts, len(problems)],
            *([p.id, p.question, p.answer, *(t.text for t in traces[p.id])] for p in problems),
        ]:
            digest.update(json.dumps(part).encode() + b"\n")
        return digest.hexdigest()[:12]

    def sample(self, problems: Sequence[Problem], first: int) -> list[list[Rollout]]:
        traces = self._selected().traces
        return [
            [Rollout(t.text, STOP, f"{self.set.name}: {t.writer}") for t in traces[problem.id]]
            for problem in problems
        ]

    def facts(self) -> dict[str, Any]:
        """The data set, what was selected of it, and where its verdicts and ours differ.

        Reads the run's pool, and writes DISAGREEMENTS.
        """
        selection = self._selected()
        writers = {trace.writer for traces in selection.traces.values() for trace in traces}
        return {
            "teacher": ", ".join(sorted(writers)),
            "temperature": self.set.temperature,
            "data_set": self.set.name,
            "licence": self.set.licence,
            "revision": self._revision(),
            "files": [path.name for path in self.files],
            "text": self.reader.text,
            "selection": selection.counts,
            "disagreement": self._disagreement(selection.traces),
        }

    def _selected(self) -> Selection:
        if self.selection is None:
            self.files = self._found()
            self.selection = self._select()
        return self.selection

    def _revision(self) -> str:
        traces = self.settings.traces
        return "" if traces.folder else traces.revision or self.set.revision

    def _found(self) -> list[Path]:
        """The files that are read, in their order."""
        patterns, folder = needed_files(self.run.profile), self.settings.traces.folder
        if folder:
            place = project_root() / folder  # an absolute path stays as it is
        else:
            place = fetched(
                self.set.name, self._revision(), "dataset", self.run.profile.name, patterns
            )
        found = [path for pattern in patterns for path in sorted(place.glob(pattern))]
        if not found:
            raise UserError(
                f"no file {patterns[0]}: {place}: put the files of {self.set.name} there"
            )
        return found

    def _select(self) -> Selection:
        settings, exams = self.settings, exam_problems(self.run.profile)
        wanted = settings.prompts + settings.heldout_prompts
        groups, fewer = self._groups()
        fates = [(int(row), TOO_FEW) for row in fewer]  # where in the files, and why left out
        traces: dict[str, list[Trace]] = {}
        ends: dict[str, int] = {}
        problems: list[Problem] = []
        kept: list[Problem] = []
        left_out: dict[str, int] = {}
        met = 0
        while met < len(groups) and len(kept) < wanted:
            # A few more than are missing, as some will be left out.
            part = groups[met : met + int(1.2 * (wanted - len(kept))) + 64]
            met += len(part)
            for numbers, found in zip(part.tolist(), self._read(part), strict=True):
                fate = _fate(found, settings.k)
                fates.append((numbers[-1], fate))
                if not fate:
                    name = f"{self.set.name}/{numbers[0]}"
                    problems.append(Problem(name, found[0].question, "", found[0].answer, 0))
                    traces[name], ends[name] = found[: settings.k], numbers[-1]
            kept, left_out = clean(problems, exams, by_words=True)
        if len(kept) < wanted:
            left_out = left_out | Counter(fate for _, fate in fates if fate)
            reasons = ", ".join(f"{name} {number}" for name, number in left_out.items())
            more = ", or raise rollouts.traces.files and prefetch again"
            raise UserError(
                f"{wanted} prompts asked for, {len(kept)} problems at hand: {self.set.name} (left "
                f"out: {reasons or 'none'}): lower rollouts.prompts or rollouts.k"
                f"{more if len(self.files) < self.set.parts else ''}"
            )
        end = ends[kept[wanted - 1].id]  # what comes after the last that is needed was not met
        problems = [problem for problem in problems if ends[problem.id] <= end]
        counts = Counter(fate for row, fate in fates if row <= end)
        return Selection(
            problems,
            {problem.id: traces[problem.id] for problem in problems},
            {"problems": counts.total()} | {n: counts[n] for n in FATES},
        )

    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        """(groups, rows of each) whose responses are read together; rows of too short groups.

        Rows are counted through all files.
        """
        column, numbers = self.reader.problem, dict[Any, int]()
        self.sizes, parts = [], []
        for path in self.files:
            part = [numbers.setdefault(row[column], len(numbers)) for row in rows(path, [column])]
            self.sizes.append(len(part))
            parts.append(np.asarray(part, dtype=np.int64))
        found = np.concatenate(parts)
        if self.reader.whole:  # how many responses a row has is seen when it is read
            return np.arange(len(found))[:, None], found[:0]
        return first_of_each(found, self.settings.k)

    def _read(self, groups: np.ndarray) -> Iterator[list[Trace]]:
        """The traces of each group, in their order."""
        found: dict[int, list[Trace]] = {}
        begin = 0
        for path, size in zip(self.files, self.sizes, strict=True):
            chosen = np.sort(groups[(groups >= begin) & (groups < begin + size)]) - begin
            if len(chosen):
                read = rows(path, self.reader.columns, self.reader.optional, chosen)
                for number, row in zip(chosen.tolist(), read, strict=True):
                    found[begin + number] = self._traces(row, path, number)
            begin += size
        for numbers in groups.tolist():
            yield [trace for number in numbers for trace in found[number]]

    def _traces(self, row: Row, path: Path, number: int) -> list[Trace]:
        try:
            return self.reader.traces(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"row {number + 1} is not one of {self.set.name}: {path}: set "
                f"rollouts.traces.revision to an older commit ({type(error).__name__}: {error})"
            ) from error

    def _disagreement(self, traces: dict[str, list[Trace]]) -> dict[str, int]:
        """How often the data set's verdict is ours, and in which direction it is not."""
        pool = self.run.read_table(POOL)
        said = [
            traces[prompt][sample].right
            for prompt, sample in zip(pool["prompt"], pool["sample"], strict=True)
        ]
        pool["data_set"] = [{True: RIGHT, False: WRONG}.get(right, "") for right in said]
        pool["found"] = pool["text"].map(extract_boxed)
        judged = pool["data_set"] != ""
        differs = pool[judged & (pool["data_set"] != pool["verdict"])]
        columns = "prompt sample split source data_set verdict found answer question text".split()
        self.run.write_table(DISAGREEMENTS, differs[columns].reset_index(drop=True))
        return {
            "judged": int(judged.sum()),
            "right_there_only": int((differs["data_set"] == RIGHT).sum()),
            "right_here_only": int((differs["verdict"] == RIGHT).sum()),
            "undecided_here": int((differs["verdict"] == UNVERIFIABLE).sum()),
        }


def _fate(traces: Sequence[Trace], k: int) -> str:
    """Why a problem is left out, by its first `k` responses; empty: it is not."""
    if len(traces) < k:
        return TOO_FEW
    if len({trace.question for trace in traces[:k]}) > 1:
        return SEVERAL
    if not all(trace.finished for trace in traces[:k]):
        return UNFINISHED
    return "" if traces[0].answer.strip() else NO_ANSWER
