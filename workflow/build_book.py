"""Assemble and render the book of the run in the current directory: build_book.py LOG.

The checkout's prose, the executed notebooks, numbers.json and what the interactive figures show are
put side by side in book_source/, with what is known of their making (page_facts.py) and a reference
of the package (api_pages.py). There Jupyter Book renders them, strictly: every warning is an error.
Only a book that was rendered whole replaces html/. What the build says goes to LOG; its warnings
are shown when it fails.

This module needs Jupyter Book and nothing of the package: `make read` has no more
(read_reference.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml
from api_pages import write_pages
from page_facts import VERSIONS, add_facts, versions_here
from repository_links import with_links
from shipped import EXPLORABLES, ROOT, shown_from_reference, with_note

# Pages with functions for the reader to write: shown as they are, never executed, no jobs.
EXERCISES = "exercises/"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
VERDICT = "evaluation/verdict"


def chapters() -> list[str]:
    """The notebooks among the chapters, in their order, as in "geometry/cosine"."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [name.removeprefix("notebooks/") for name in files if name.startswith("notebooks/")]


def notebooks() -> list[str]:
    """Those of the chapters that are executed."""
    return [name for name in chapters() if not name.startswith(EXERCISES)]


def exercises() -> list[str]:
    """Those that are not."""
    return [name for name in chapters() if name.startswith(EXERCISES)]


def assemble(source: Path, executed: Path, numbers: Path, claims: Path) -> None:
    """Fill `source` with all that Jupyter Book reads; `executed` holds the notebooks.

    What is said of the making of the pages, and the data of the interactive figures, come from the
    folder in which `numbers` lies. Raises ValueError, "what: where: fix", for a wrong address of
    the repository.
    """
    config = with_links(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")))
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / "_toc.yml", source)
    unread = shutil.ignore_patterns("__pycache__", "reference")
    shutil.copytree(ROOT / "book", source / "book", ignore=unread)
    for folder, names in ((executed, notebooks()), (ROOT / "notebooks", exercises())):
        for name in names:
            page = source / "notebooks" / f"{name}.ipynb"
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"{name}.ipynb", page)
    keys = source / "tests" / "exercises"  # the folded solutions are included from there
    keys.mkdir(parents=True)
    for path in (ROOT / "tests" / "exercises").glob("key_*.py"):
        shutil.copy(path, keys)
    shutil.copy(numbers, source / "numbers.json")
    shutil.copy(claims, source / "claims.csv")
    for name in EXPLORABLES:
        if (path := numbers.parent / "explorables" / f"{name}.json").is_file():
            (source / "explorables").mkdir(exist_ok=True)
            shutil.copy(path, source / "explorables")
    write_pages(source / "book" / "api")
    add_facts(source, notebooks(), numbers.parent, shown_from_reference(numbers.parent))


def render(source: Path, html: Path, log: Path) -> int:
    """Render `source` to `html`; the exit status of the build, with its faults on stderr."""
    program = str(Path(sys.executable).with_name("jupyter-book"))
    build = subprocess.run(
        [program, "build", str(source), "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = COLOURS.sub("", build.stdout)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said, encoding="utf-8")
    built = source / "_build" / "html"
    if build.returncode == 0 and not (built / "index.html").is_file():
        print("the build left no index.html: is this jupyter-book 1.0.4.post1?", file=sys.stderr)
        return 1
    if build.returncode == 0:
        shutil.rmtree(html, ignore_errors=True)
        built.rename(html)
    else:
        faults = [line for line in said.splitlines() if re.search("WARNING|ERROR|Error", line)]
        print("\n".join(faults or said.splitlines()[-20:]), file=sys.stderr)
    return build.returncode


def main(log: str) -> int:
    started = time.time()
    source = Path("book_source")
    # Those of the environment that executes the notebooks, too.
    versions = json.dumps(versions_here(), indent=2)
    Path(VERSIONS).write_text(versions + "\n", encoding="utf-8")
    try:
        assemble(source, Path("notebooks"), Path("numbers.json"), Path("claims.csv"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if shown := shown_from_reference(Path.cwd()):
        pages = ", ".join(f"[](../{name})" for name in shown)
        page = source / "notebooks" / f"{VERDICT}.ipynb"
        notebook = json.loads(page.read_text(encoding="utf-8"))
        note = (
            f"The numbers and tables of {pages} are those of the reference run, so what is judged "
            "by them here is judged by that run. `make controls` executes them for this one."
        )
        page.write_text(json.dumps(with_note(notebook, note)), encoding="utf-8")
    status = render(source, Path("html"), Path(log))
    if status == 0:
        seconds = {"started": started, "seconds": time.time() - started}
        Path("timing").mkdir(exist_ok=True)
        Path("timing", "book.json").write_text(json.dumps(seconds) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
