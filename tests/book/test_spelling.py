"""The spelling of what is read: pages, notebooks, docstrings. A word that neither the dictionary
knows nor words.txt is a mistake, or a word of the project's own, which is then listed there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

WORDS = Path(__file__).parent / "words.txt"
#: What is no prose: fenced code, code, formulas, addresses, roles, targets of links, settings.
NO_PROSE = re.compile(
    r"^\s*```\{?(?:code|python|bash|console|bibtex|text)[^\n]*\n.*?^\s*```"
    r"|`[^`]*`|\$[^$]*\$|https?://\S+|\{[^}\n]*\}|\]\([^)\s]*\)|\(\w[\w-]*\)=",
    re.S | re.M,
)
WORD = re.compile(r"(?<![\w.\\/_-])[A-Za-z][a-z']{2,}(?![\w_(=])")


def words(text: str) -> set[str]:
    """The words of a text, in small letters and without a possessive s; acronyms are none."""
    prose = NO_PROSE.sub(" ", text.replace("’", "'"))
    return {found.lower().removesuffix("'s").strip("'") for found in WORD.findall(prose)}


def spoken(source: Path) -> str:
    """What a notebook in text form says: its prose, captions and comments, not its code."""
    lines = source.read_text(encoding="utf-8").splitlines()
    header = next((i for i, line in enumerate(lines) if line.startswith("# %%")), 0)
    return "\n".join(line.removeprefix("# ") for line in lines[header:] if line.startswith("#"))


def docstrings(source: Path) -> str:
    nodes = ast.walk(ast.parse(source.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds))


def texts() -> Iterator[tuple[Path, str]]:
    book = ROOT / "book"
    for path in (*ROOT.glob("*.md"), *book.glob("*.md"), *book.glob("*.yaml")):
        yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").rglob("*.py"):
        yield path, spoken(path)
    for path in (ROOT / "src").rglob("*.py"):
        yield path, docstrings(path)


@pytest.fixture(scope="module")
def unknown() -> dict[str, set[str]]:
    """Words that the dictionary does not know, each with the files that use it."""
    dictionary = pytest.importorskip("spellchecker", reason="`make setup` installs it")
    checker = dictionary.SpellChecker()
    where: dict[str, set[str]] = {}
    for path, text in texts():
        for word in words(text):
            where.setdefault(word, set()).add(path.relative_to(ROOT).as_posix())
    return {word: where[word] for word in checker.unknown(where)}


def test_every_word_is_known(unknown: dict[str, set[str]]) -> None:
    listed = set(WORDS.read_text(encoding="utf-8").split())
    faults = {word: sorted(where) for word, where in unknown.items() if word not in listed}
    assert not faults, "mend them, or list them in tests/book/words.txt"


def test_what_is_listed_is_used_and_in_order(unknown: dict[str, set[str]]) -> None:
    listed = WORDS.read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    assert set(listed) <= set(unknown), "not needed"


def test_words_are_read_out_of_the_markup() -> None:
    text = (
        "The teacher's `codde` of $\\alhpa$ [wrote](to_teh_page) {number}`a.bc:x` KL 3 times;\n"
        "```python\nimprot this\n```\n(labl)=\nAnd teh end."
    )
    assert words(text) == {"the", "teacher", "wrote", "times", "and", "teh", "end"}
