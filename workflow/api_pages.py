"""The reference of the package: one page a room, its public functions and classes.

Read off the sources as text (`ast`), for `make read` has no torch and imports nothing of the
package. Names that begin with an underscore are nobody's business and are left out.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from shipped import ROOT

PACKAGE = ROOT / "src" / "finetune_geometry"
WIDTH = 66  # of a line of a signature
CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
MARKUP = re.compile(r"([\\*_\[\]<>{}$#|~^])")
SECTION = re.compile(r"[A-Z]\w+:")  # "Args:", "Attributes:"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def rooms() -> list[str]:
    """The folders of the package, in alphabetical order."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def write_pages(folder: Path) -> None:
    """Write a page for each room, <room>.md, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in rooms():
        (folder / f"{room}.md").write_text(page(PACKAGE / room), encoding="utf-8")


def page(room: Path) -> str:
    """The page of one room as MyST."""
    lines = [f"# {plain(room.name)}", ""]
    lines += prose(ast.get_docstring(_parsed(room / "__init__.py")) or "")
    for path in sorted(room.glob("*.py")):
        if path.name.startswith("_"):
            continue
        tree = _parsed(path)
        lines += [
            f"## {plain(f'{room.name}.{path.stem}')}",
            "",
            *prose(ast.get_docstring(tree) or ""),
        ]
        source = path.read_text(encoding="utf-8").splitlines()
        for node in tree.body:
            if isinstance(node, Function) and _public(node.name):
                lines += [f"### {plain(node.name)}", "", *entry(node)]
            elif isinstance(node, ast.ClassDef) and _public(node.name):
                lines += [f"### {plain(node.name)}", "", *class_entry(node, source)]
    return "\n".join(lines)


def entry(node: Function) -> list[str]:
    """The signature of a function and its docstring."""
    return [*_code(signature(node)), *prose(ast.get_docstring(node) or "")]


def class_entry(node: ast.ClassDef, source: list[str]) -> list[str]:
    """A class: its fields as they are written, its docstring, its public methods.

    source: the lines of its module.
    """
    bases = ", ".join(map(ast.unparse, node.bases))
    head = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    fields = [
        line
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and _public(part.target.id)
        for line in source[part.lineno - 1 : part.end_lineno]
    ]
    lines = [*_code("\n".join([head, *(fields or ["    ..."])]))]
    lines += prose(ast.get_docstring(node) or "")
    for part in node.body:
        if isinstance(part, Function) and _public(part.name):
            lines += [f"**`{node.name}.{part.name}`**", "", *entry(part)]
    return lines


def signature(node: Function) -> str:
    """`def name(...) -> result: ...`, one argument a line where one line is too short."""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    marks = [f"@{text}\n" for d in node.decorator_list if (text := ast.unparse(d)) in DECORATORS]
    given = _arguments(ast.unparse(node.args))
    line = f"{kind} {node.name}({', '.join(given)}){result}: ..."
    if len(line) > WIDTH:
        parts = "".join(f"    {part},\n" for part in given)
        line = f"{kind} {node.name}(\n{parts}){result}: ..."
    return "".join(marks) + line


DECORATORS = ("property", "classmethod", "staticmethod", "contextlib.contextmanager")


def prose(docstring: str) -> list[str]:
    """A docstring as MyST: paragraphs, lists, sections such as "Args:", and code set apart."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        if block.strip():
            lines += [*_block(block.splitlines()), ""]
    return lines


def _block(block: list[str]) -> Iterator[str]:
    first, *rest = block
    if first.startswith("    "):
        yield from _code("\n".join(line[4:] for line in block), "text")[:-1]
    elif SECTION.fullmatch(first):
        yield f"**{first[:-1]}**"
        yield ""
        for item in _items(rest):
            name, colon, text = item.partition(": ")
            yield f"- `{name}`: {plain(text)}" if colon else f"- {plain(item)}"
    elif first.startswith("- "):
        for item in _items(block):
            yield f"- {plain(item.removeprefix('- '))}"
    else:
        told = [line for line in block if not line.startswith("    ")]
        text = plain(" ".join(told))
        yield re.sub(r"^([+=-])", r"\\\1", text)
        if len(told) < len(block):  # a small table below its heading
            yield ""
            shown = [line for line in block if line.startswith("    ")]
            yield from _code(inspect.cleandoc("\n" + "\n".join(shown)), "text")[:-1]


def _items(lines: list[str]) -> list[str]:
    """Items that begin at the least indentation; deeper lines go on."""
    if not lines:
        return []
    least = min(len(line) - len(line.lstrip()) for line in lines)
    found: list[str] = []
    for line in lines:
        if found and len(line) - len(line.lstrip()) > least:
            found[-1] += " " + line.strip()
        else:
            found.append(line.strip())
    return found


def plain(text: str) -> str:
    """Text in which nothing but code between backticks is markup."""
    parts: list[str] = []
    at = 0
    for code in CODE.finditer(text):
        parts += [MARKUP.sub(r"\\\1", text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, MARKUP.sub(r"\\\1", text[at:])])


def _code(text: str, language: str = "python") -> list[str]:
    return [f"```{language}", text, "```", ""]


def _arguments(given: str) -> list[str]:
    """The arguments of a signature, apart by the commas that stand in no bracket or text."""
    found, depth, quote = [""], 0, ""
    for sign in given:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += sign
    # `ast` writes `a: int=1`, people `a: int = 1`.
    typed = re.compile(r"(\*{0,2}\w+: [^=]+)=")
    return [typed.sub(r"\1 = ", part.strip(), count=1) for part in found]


def _public(name: str) -> bool:
    return not name.startswith("_")


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
