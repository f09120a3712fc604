"""The page on coverage names every claim of the ledger and every chapter of the book."""

from __future__ import annotations

import re

import yaml
from build_book import notebooks
from conftest import ROOT

from finetune_geometry.evaluation.claims import load_ledger

PAGE = (ROOT / "book" / "coverage.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]


def test_every_claim_is_there_beside_the_chapter_that_the_ledger_names() -> None:
    claims = load_ledger(None).claims
    assert len(claims) == 17
    for name, claim in claims.items():
        rows = [row for row in ROWS if len(row) > 3 and name in re.findall(r"C\d+", row[3])]
        assert rows, name
        assert any(f"notebooks/{claim.notebook})" in row[2] for row in rows), name


def test_no_claim_is_named_that_the_ledger_lacks() -> None:
    assert {name for row in ROWS for name in re.findall(r"\bC\d+\b", " ".join(row))} == set(
        load_ledger(None).claims
    )


def test_every_notebook_of_the_book_is_there() -> None:
    linked = set(re.findall(r"\]\(\.\./notebooks/([\w/]+)\)", PAGE))
    assert linked == set(notebooks())


def test_it_stands_in_the_book() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert "book/coverage" in [c["file"] for part in toc["parts"] for c in part["chapters"]]
