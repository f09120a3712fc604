"""Weight-delta geometry from the command line. Exit codes: 0 done, 2 to be mended, 130 stopped."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune_geometry.settings.errors import UserError

EXAMPLE = """examples:
  finetune-geometry compare sft=results/tiny/adapters/sft dpo=results/tiny/adapters/dpo --out report
  finetune-geometry compare a=OWNER/REPOSITORY/FOLDER b=OWNER/REPOSITORY@REVISION/FOLDER --json
the paper's adapters are folders of one hub repository; this lists them, and fetches nothing:
  finetune-geometry compare a=AlexWortega/capabilityvectors-qwen3-4b b=.
"""


def parser() -> argparse.ArgumentParser:
    """The command line; each command sets `run`."""
    top = argparse.ArgumentParser(prog="finetune-geometry", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="compare the weight changes of two or more LoRA adapters",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=run_compare)
    compare.add_argument(
        "adapters", nargs="+", metavar="NAME=SOURCE", help="a name, and a folder or a hub id"
    )
    compare.add_argument(
        "--base-model",
        help="where full fine-tunings among the sources started (folder, hub id)",
    )
    compare.add_argument("--out", type=Path, help="folder of the report (made, or replaced)")
    compare.add_argument("--json", action="store_true", help="print the main numbers as JSON")
    compare.add_argument("--reference", help="whose direction the others are split by [the first]")
    compare.add_argument(
        "--k", type=int, help="dimension of the subspaces [half the rank, at most 10]"
    )
    compare.add_argument("--draws", type=int, default=200, help="of the chance levels [200]")
    compare.add_argument("--seed", type=int, default=0, help="of the chance levels [0]")
    compare.add_argument(
        "--intersection", action="store_true", help="compare the modules that all adapters have"
    )
    compare.add_argument(
        "--any-base", action="store_true", help="the adapters' base models are one and the same"
    )
    return top


def run_compare(args: argparse.Namespace) -> None:
    """`finetune-geometry compare`."""
    # Slow imports, which `--help` and a misspelt option can do without.
    import matplotlib as mpl

    mpl.use("agg")
    from finetune_geometry.report.compare import compare, load_named
    from finetune_geometry.report.findings import summary, words
    from finetune_geometry.report.page import write_report

    if args.draws < 1:
        raise UserError(f"--draws {args.draws}: chance levels: use at least 1")
    adapters = load_named(args.adapters, args.base_model)
    if args.out is not None:
        _check_out(args.out, [text.partition("=")[2] for text in args.adapters])
    result = compare(
        adapters,
        k=args.k,
        reference=args.reference,
        draws=args.draws,
        seed=args.seed,
        intersection=args.intersection,
        any_base=args.any_base,
        progress=_progress if sys.stderr.isatty() else None,
    )
    if args.out is not None:
        try:
            page = write_report(result, args.out)
        except OSError as error:
            raise UserError(f"cannot write the report: {args.out}: {error.strerror}") from None
        print(f"report: {page}", file=sys.stderr)
    if args.json:
        print(json.dumps(summary(result), indent=2, allow_nan=False))
    else:
        print("\n".join(words(result)))


def _check_out(out: Path, sources: Sequence[str]) -> None:
    """A report replaces its folder; refuse one that holds anything but a report."""
    if out.exists() and not out.is_dir():
        raise UserError(f"not a folder: {out}: choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "summary.json").is_file():
        raise UserError(f"not empty and no report: {out}: choose another --out, it is replaced")
    for source in sources:
        if out.resolve() in (Path(source).resolve(), *Path(source).resolve().parents):
            raise UserError(f"would replace the adapter {source}: {out}: choose another --out")


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rmodule {done} of {total}", end=end, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; one line on standard error for whatever the person can mend."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f"finetune-geometry: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
