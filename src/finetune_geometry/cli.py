"""The command line. Exit codes: 0 done, 2 to be mended, 130 stopped.

Only what `--help` and a misspelt option need is imported here; a command imports the rest.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from finetune_geometry.settings.errors import UserError

if TYPE_CHECKING:
    from finetune_geometry.report.result import Comparison

PROGRAM = "finetune-geometry"
EXAMPLE = """Examples:

  finetune-geometry compare sft=adapters/sft dpo=adapters/dpo --out report

  finetune-geometry compare a=OWNER/REPOSITORY/FOLDER b=OWNER/REPOSITORY@REVISION/FOLDER --json

  finetune-geometry compare s100=run/checkpoint-100 s200=run/checkpoint-200 --series --out path

The paper's adapters are folders of one hub repository; this lists them, and fetches nothing:

  finetune-geometry compare a=AlexWortega/capabilityvectors-qwen3-4b b=.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def geometry() -> None:
    """Weight-delta geometry from the command line."""


@app.command(epilog=EXAMPLE)
def compare(
    adapters: Annotated[
        list[str], typer.Argument(metavar="NAME=SOURCE...", help="A name, and a folder or a hub id")
    ],
    base_model: Annotated[
        str | None,
        typer.Option(help="Where full fine-tunings among the sources started (folder, hub id)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report (made, or replaced)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the main numbers as JSON")] = False,
    reference: Annotated[
        str | None, typer.Option(help="Whose direction the others are split by [the first]")
    ] = None,
    k: Annotated[
        int | None, typer.Option(help="Dimension of the subspaces [half the rank, at most 10]")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of the chance levels")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the chance levels and of sampled signs")] = 0,
    series: Annotated[
        bool,
        typer.Option("--series", help="The adapters are checkpoints of one training, in order"),
    ] = False,
    intersection: Annotated[
        bool, typer.Option("--intersection", help="Compare the modules that all adapters have")
    ] = False,
    any_base: Annotated[
        bool, typer.Option("--any-base", help="The adapters' base models are one and the same")
    ] = False,
) -> None:
    """Compare the weight changes of two or more LoRA adapters."""
    if draws < 1:
        raise UserError(f"--draws {draws}: chance levels: use at least 1")
    # Slow imports, which `--help` and a misspelt option can do without.
    from finetune_geometry.report.compare import compare as measure
    from finetune_geometry.report.compare import load_named
    from finetune_geometry.report.findings import words
    from finetune_geometry.report.summary import summary

    loaded = load_named(adapters, base_model)
    if out is not None:
        _check_out(out, [text.partition("=")[2] for text in adapters])
    # The page's modules take a while to import, and measuring leaves Python's lock free.
    with ThreadPoolExecutor(1) as beside, _progress() as progress:
        write_report = None if out is None else beside.submit(_writer)
        result = measure(
            loaded,
            k=k,
            reference=reference,
            draws=draws,
            seed=seed,
            series=series,
            intersection=intersection,
            any_base=any_base,
            progress=progress,
        )
    facts = summary(result)
    if out is not None and write_report is not None:
        try:
            page = write_report.result()(result, out, facts)
        except OSError as error:
            raise UserError(f"cannot write the report: {out}: {error.strerror}") from None
        print(f"report: {page}", file=sys.stderr)
    if as_json:
        print(json.dumps(facts, indent=2, allow_nan=False))
    else:
        print("\n".join(words(result, facts)))


@app.command(name="prefetch")
def prefetch_command(
    profile: Annotated[str, typer.Option(help="Name or path of a profile")],
    run: Annotated[str, typer.Option(help="The run's folder below results/ [the profile]")] = "",
    changes: Annotated[
        str, typer.Option("--set", help="key=value overrides of the profile, as for `make book`")
    ] = "",
    released: Annotated[
        bool, typer.Option("--released", help="Fetch the released adapters instead, and no model")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched, and stop")
    ] = False,
) -> None:
    """Fetch all models and data sets of a profile, at fixed commits. Afterwards runs are offline.

    Says the sizes first, and goes on where it was. A gated repository asks for `hf auth login`.
    """
    from finetune_geometry.models.hub import Listed, in_words, prefetch
    from finetune_geometry.runs.records import Run
    from finetune_geometry.settings.profiles import parse_overrides
    from finetune_geometry.settings.revisions import needed

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what matters is told here
    opened = Run.open(profile, run, parse_overrides(changes))
    items = needed(opened.profile, released)
    if not items:
        print(f"{opened.profile.name}: nothing to fetch, all of it is here or is made here")
        return

    def told(listed: list[Listed]) -> None:
        for one in listed:
            size = "here" if one.here else f"{in_words(one.missing)} to fetch"
            print(
                f"{one.item.repo}  {one.item.kind}  {one.item.revision[:12]}  "
                f"{in_words(one.size)} in {one.files} file{'s' * (one.files != 1)}  {size}",
                flush=True,
            )
            if one.note:
                print(f"  {one.note}", flush=True)
        if dry_run:
            raise typer.Exit
        open_ones = [one.item for one, item in zip(listed, items, strict=True) if not item.revision]
        opened.fix_revisions({item.repo: item.revision for item in open_ones})

    with _progress("bytes") as progress:
        prefetch(items, progress, told)
    what = opened.profile.released.collection if released else opened.profile.name
    print(f"all of {what} is here: runs of it need no network")


def _check_out(out: Path, sources: Sequence[str]) -> None:
    """A report replaces its folder; refuse one that holds anything but a report."""
    if out.exists() and not out.is_dir():
        raise UserError(f"not a folder: {out}: choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "summary.json").is_file():
        raise UserError(f"not empty and no report: {out}: choose another --out, it is replaced")
    for source in sources:
        if out.resolve() in (Path(source).resolve(), *Path(source).resolve().parents):
            raise UserError(f"would replace the adapter {source}: {out}: choose another --out")


def _writer() -> Callable[[Comparison, Path, dict[str, Any]], Path]:
    import matplotlib as mpl

    mpl.use("agg")
    from finetune_geometry.report.page import write_report

    return write_report


@contextmanager
def _progress(what: str = "modules") -> Iterator[Callable[[int, int], None] | None]:
    """What is told (done, all) of `what`: a line with the time left, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    count = DownloadColumn() if what == "bytes" else MofNCompleteColumn()
    columns = (TextColumn(what), BarColumn(), count, TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


Profile = Annotated[str, typer.Option(metavar="NAME|FILE", help="Profile, by name or as a file")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A changed setting")
]


@app.command()
def estimate(
    profile: Profile = "tiny",
    changes: Changes = None,
    gpu: Annotated[
        str, typer.Option(help="Estimate for another device: h100, 4090, cpu, ... [what is here]")
    ] = "",
    run: Annotated[str, typer.Option(help="Run whose rollouts tell how long texts are")] = "",
    gpu_hour_price: Annotated[float, typer.Option(help="Price of an hour of the GPU")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON")] = False,
) -> None:
    """Hours, memory, disk, downloads and money of a profile by stage, before anything is run."""
    from finetune_geometry.estimates import estimate as estimates
    from finetune_geometry.estimates import shown
    from finetune_geometry.settings.profiles import load_profile, parse_overrides

    chosen = load_profile(profile, parse_overrides(" ".join(changes or [])))
    found = estimates.estimate(chosen, gpu, run, gpu_hour_price)
    if as_json:
        print(json.dumps(shown.as_json(found), indent=2, allow_nan=False))
    else:
        shown.show(found)


@app.command()
def calibrate(profile: Profile = "tiny", changes: Changes = None) -> None:
    """Measure this machine at a profile's shapes, in two minutes at most, for `estimate`."""
    from finetune_geometry.estimates.machines import keep_measured
    from finetune_geometry.settings.profiles import load_profile, parse_overrides

    chosen = load_profile(profile, parse_overrides(" ".join(changes or [])))
    try:
        from finetune_geometry.methods.calibration import calibrate as measure
    except ModuleNotFoundError as error:
        raise UserError(
            f"calibrate needs {error.name}: install the experiment: pip install '.[experiment]'"
        ) from None
    path = keep_measured(measure(chosen, lambda text: print(text, file=sys.stderr, flush=True)))
    print(f"kept for estimates: {path}")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A folder of results/, or a path")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one")],
    out: Annotated[Path | None, typer.Option(help="The page [RUN_A-and-RUN_B.html]")] = None,
) -> None:
    """What differs between two finished runs: settings, verdicts, numbers, adapters, figures."""
    from finetune_geometry.report.difference_page import write_difference

    path, lines = write_difference(first, second, out)
    print("\n".join([*lines, f"The differences: {path}"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; one line on standard error for whatever the person can mend."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        # Not the command's own `main`, which has exit codes and errors of its own.
        with command.make_context(PROGRAM, given) as context:
            command.invoke(context)
    except typer.Exit as done:  # after --help
        return done.exit_code
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except TyperException as error:  # a misspelt or missing argument
        said = " ".join(error.format_message().split()).rstrip(".")
        known = [name for name in ("prefetch", "diff") if name in given[:1]]
        command_name = known[0] if known else "compare"
        print(f"{PROGRAM}: {said}: see {PROGRAM} {command_name} --help", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
