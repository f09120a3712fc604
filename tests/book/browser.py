"""Visits a page of a rendered book in the system's Chromium, once, and keeps what is wrong.

A page is loaded once: narrow and dark, as on a phone at night; then wide and light, by a change of
the window and of the attributes that the theme's switch sets. What is wrong is found in the page
itself (measure_page.js), with all that is folded away unfolded. Nothing asks a network: neither the
pages, which lie in a folder, nor this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MEASURES = (Path(__file__).parent / "measure_page.js").read_text(encoding="utf-8")
HEIGHT = 900
WIDE, NARROW = 1280, 390
#: Width and theme. A colour does not depend on the width, so two of the four see everything.
TWO = ((NARROW, "dark"), (WIDE, "light"))
ALL = (*TWO, (WIDE, "dark"), (NARROW, "light"))
#: A change of colours that takes time would be judged half-way.
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
TYPESET = "() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)"


@dataclass
class Visit:
    """What one page showed: faults in words, by check, and what other pages are asked about.

    links: addresses, as the browser resolves them. ids: what a link may point at. files: addresses
    of the page's pictures.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


@contextmanager
def chromium() -> Iterator[Any]:
    """A page of the system's Chromium; skips the test where there is none, and says what to do."""
    reason = "playwright is not installed: `make setup` installs it"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    from chromium import find  # needs playwright

    try:
        found = find()
    except ValueError as error:
        pytest.skip(str(error))
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found)
        except playwright.Error as error:  # a stub that only says how to install it, say
            pytest.skip(f"{found} does not start: {error.message.splitlines()[0]}")
        page = browser.new_page(viewport={"width": NARROW, "height": HEIGHT})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def axe_script() -> str:
    """axe-core, as its package brings it."""
    reason = "axe-playwright-python is not installed: `make setup` installs it"
    package = pytest.importorskip("axe_playwright_python", reason=reason)
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def open_page(page: Any, path: Path, width: int) -> None:
    """Load a page into a window of this width, and wait until its formulas are drawn."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.goto(path.as_uri())
    page.add_style_tag(content=STILL)
    page.evaluate(TYPESET)
    page.evaluate(MEASURES)


def set_state(page: Any, width: int, theme: str) -> None:
    """Another window and other colours, by what the theme's switch changes."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.evaluate(
        "(t) => Object.assign(document.documentElement.dataset, {theme: t, mode: t})", theme
    )


def visit(page: Any, path: Path, axe: str | None, states: Sequence[tuple[int, str]] = TWO) -> Visit:
    """Load and measure one page in these states; each width is measured once.

    axe: axe-core's script; None leaves it out, for a page made as another one is.
    """
    seen = Visit()

    def ask(check: str, call: str, where: str = "") -> None:
        found = page.evaluate(f"measurePage.{call}")
        seen.faults.setdefault(check, []).extend(f"{where}{fault}" for fault in found)

    said = seen.faults["said"] = []
    seen.faults["axe"] = []
    listeners = {
        "console": lambda m: said.append(m.text) if m.type == "error" else None,
        "pageerror": lambda error: said.append(str(error)),
        "request": lambda r: said.append(f"asks {r.url}") if r.url.startswith("http") else None,
        "requestfailed": lambda r: said.append(f"{r.failure}: {r.url}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    open_page(page, path, states[0][0])
    page.keyboard.press("Tab")
    ask("first", "firstTab()")
    page.evaluate("measurePage.unfold()")
    ask("headings", "headings()")
    if axe:
        page.evaluate(axe)
    measured = set()
    for width, theme in states:
        set_state(page, width, theme)
        where = f"{width} px, {theme}: "
        if axe:
            ask("axe", "axeFinds(true)", where)
        if width in measured:
            continue
        measured.add(width)
        if axe and (width == NARROW or len(states) > len(TWO)):  # it reads the same on both
            ask("axe", "axeFinds(false)", where)
        ask("sideways", "sideways()", where)
        ask("formulas", "formulas()", where)
        ask("images", f"images({str(width == NARROW).lower()})", where)
        if width == WIDE:  # with the side bars
            ask("focus", "focus()", where)
    places = page.evaluate("measurePage.places()")
    seen.links, seen.ids, seen.files = places["links"], set(places["ids"]), set(places["files"])
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    return seen
