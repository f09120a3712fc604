"""`make read`: render the reference run, from the executed notebooks and numbers that ship.

Nothing is executed and no tracked file is touched. Needs Jupyter Book and its extensions alone.
"""

from __future__ import annotations

import sys

import yaml
from build_book import assemble, notebooks, render
from shipped import REFERENCE, ROOT, results

NOTICE = (
    "The reference run, as it came with the project. <code>make book</code> makes one of your own."
)


def main() -> int:
    folder = results() / "read"
    numbers, claims = REFERENCE / "numbers.json", REFERENCE / "claims.csv"
    for path in (numbers, claims):
        if not path.is_file():
            print(f"error: no reference run: {path}: run `make reference`", file=sys.stderr)
            return 1
    for name in notebooks():
        page = ROOT / "notebooks" / f"{name}.ipynb"
        if not page.is_file():
            print(
                f"error: not executed in the reference run: {page}: run `make reference`, or read "
                "a run of your own (`make book`)",
                file=sys.stderr,
            )
            return 1
    source = folder / "book_source"
    try:
        assemble(source, ROOT / "notebooks", numbers, claims)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    # The theme's options are set as a whole, so html.announcement would be lost.
    config["sphinx"]["config"]["html_theme_options"]["announcement"] = NOTICE
    (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    log = folder / "book.log"
    status = render(source, folder / "html", log)
    if status == 0:
        print(f"The reference run: {folder / 'html' / 'index.html'}")
    else:
        print(f"error: the book could not be rendered: {log}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
