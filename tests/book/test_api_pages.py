"""The pages about the package: every public name is there, and a docstring is no markup."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import api_pages
import pytest
import yaml
from conftest import ROOT
from test_rooms import MODULES, ROOMS, room_of

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.report.compare import compare
from finetune_geometry.report.findings import words
from finetune_geometry.report.summary import summary


def test_every_room_has_a_page_in_the_table_of_contents() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    api = next(chapter for chapter in chapters if chapter["file"] == "book/api")
    named = [section["file"].removeprefix("book/api/") for section in api["sections"]]
    assert named == list(ROOMS)
    assert sorted(named) == api_pages.rooms()
    listed = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert [listed.index(f"](api/{room}.md)") for room in ROOMS] == sorted(
        listed.index(f"](api/{room}.md)") for room in ROOMS
    )


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_on_its_page(room: str) -> None:
    text = api_pages.page(api_pages.PACKAGE / room)
    for module in (path for path in MODULES if room_of(path) == room):
        title = api_pages.plain(f"{room}.{module.stem}")
        assert f"## {title}\n" in text or module.stem.startswith("_")
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                public = not node.name.startswith("_")
                assert public == (f"### {api_pages.plain(node.name)}\n" in text) or not public


def test_a_docstring_becomes_prose() -> None:
    lines = api_pages.prose(
        """What it does to `a_b` in a {number} of $x_1$.

        - one *thing*
          and more
        - two

            x = 1

        Args:
            first: an (n, d) array
                of numbers.
            second: |cosine|.

        testable when:
            a   b
        """
    )
    assert "\n".join(lines) == textwrap.dedent(
        r"""        What it does to `a_b` in a \{number\} of \$x\_1\$.

        - one \*thing\* and more
        - two

        ```text
        x = 1
        ```

        **Args**

        - `first`: an (n, d) array of numbers.
        - `second`: \|cosine\|.

        testable when:

        ```text
        a   b
        ```
        """
    )


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("def f(a: int, *, b: str = 'x, y') -> int: ...", ""),
        ("@property\ndef f(self) -> int: ...", ""),
        ("@functools.cache\ndef f() -> int: pass", "def f() -> int: ..."),
        (
            f"def f({'a' * 40}: dict[str, int], {'b' * 40}: tuple[int, ...] = (1, 2)): pass",
            f"def f(\n    {'a' * 40}: dict[str, int],\n"
            f"    {'b' * 40}: tuple[int, ...] = (1, 2),\n): ...",
        ),
    ],
)
def test_a_signature_is_code(source: str, shown: str) -> None:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert api_pages.signature(node) == (shown or source)
    ast.parse(api_pages.signature(node))


def test_what_is_private_is_left_out(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text('"""A room."""')
    (room / "module.py").write_text(
        textwrap.dedent('''
            """A module."""
            def shown(): "Shown."
            def _hidden(): "Hidden."
            class Shown:
                """A class."""
                field: int = 1  # why
                _own: int = 2
                def method(self): "Shown, too."
                def _hidden(self): "Hidden."
            ''')
    )
    text = api_pages.page(room)
    assert "idden" not in text
    assert "_own" not in text
    assert "    field: int = 1  # why" in text
    assert "**`Shown.method`**" in text
    assert text.startswith("# room\n\nA room.")


def test_the_pages_need_nothing_of_the_package(tmp_path: Path) -> None:
    api_pages.write_pages(tmp_path / "api")
    assert sorted(path.stem for path in (tmp_path / "api").iterdir()) == api_pages.rooms()
    imported = re.findall(r"^(?:from|import) (\S+)", Path(api_pages.__file__).read_text(), re.M)
    assert not [name for name in imported if name.startswith("finetune")]


def test_the_example_runs() -> None:
    """That of book/api.md."""
    code = (ROOT / "book" / "api.md").read_text(encoding="utf-8").split("```")[1]
    assert code.startswith("python\nfrom ")
    two = [load_adapter(ROOT / f"models/smollm2-135m/adapters/{n}", n) for n in ("sft", "dpo")]
    result = compare(two, draws=5)
    assert words(result, summary(result))
