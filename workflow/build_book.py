"""Assemble and render the book of the run in the current directory: build_book.py LOG.

The checkout's prose, the executed notebooks and numbers.json are put side by side in book_source/,
where Jupyter Book renders them, strictly: every warning is an error. Only a book that was rendered
whole replaces html/. What the build says goes to LOG; its warnings are shown when it fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from jobs import JOBS, ROOT

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main(log: str) -> int:
    source = Path("book_source")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for job in JOBS:
        notebook = Path("notebooks", f"{job.name}.ipynb")
        (source / notebook).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook, source / notebook)
    for name in ("numbers.json", "claims.csv"):
        shutil.copy(name, source)
    program = str(Path(sys.executable).with_name("jupyter-book"))
    build = subprocess.run(
        [program, "build", str(source), "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = COLOURS.sub("", build.stdout)
    Path(log).write_text(said, encoding="utf-8")
    built = source / "_build" / "html"
    if build.returncode == 0 and not (built / "index.html").is_file():
        print("the build left no index.html: is this jupyter-book 1.0.4.post1?", file=sys.stderr)
        return 1
    if build.returncode == 0:
        shutil.rmtree("html", ignore_errors=True)
        built.rename("html")
    else:
        faults = [line for line in said.splitlines() if re.search("WARNING|ERROR|Error", line)]
        print("\n".join(faults or said.splitlines()[-20:]), file=sys.stderr)
    return build.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
