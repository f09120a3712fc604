"""The reference run's pages in a real browser: legible, reachable, whole, on a wide and a small
screen, light and dark. Every page is loaded once (browser.py says how and what is asked where)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from browser import ALL, NARROW, TWO, WIDE, Visit, axe_script, chromium, open_page, visit

#: Pages unlike each other, whose colours are judged in both themes on both screens.
UNLIKE = {
    *("book/objectives", "book/quizzes", "book/bibliography", "book/api/exercises"),
    *("notebooks/geometry/cosine", "notebooks/evaluation/verdict", "notebooks/exercises/losses"),
}
#: What is asked of every page, and what a page that fails has.
CHECKS = {
    "said": "an error in the console, or a request that failed or went to a network",
    "first": "a first Tab that leads elsewhere than to a link that shows and skips to the text",
    "focus": "a control that looks the same with the focus and without",
    "headings": "headings that skip a level, or not one of the first level",
    "sideways": "to be scrolled sideways as a whole",
    "formulas": "a formula that is cut off, lies under its number, or was not drawn",
    "images": "a picture that is broken, blown up, cut off, too small, or without words",
    "axe": "a finding of axe-core of impact serious or critical",
}
LARGEST = 2_000_000  # bytes of a page and its pictures, beyond what all pages share


@pytest.fixture(scope="module")
def visits(reference_book: Path) -> dict[str, Visit]:
    """Every page by its name, as in "book/index"; the first page of all only leads there."""
    axe = axe_script()
    made = {}
    with chromium() as page:
        for path in sorted(reference_book.rglob("*.html")):
            name = path.relative_to(reference_book).with_suffix("").as_posix()
            if name == "index" or name.startswith("_static/"):
                continue
            alike = name.startswith("book/api/") and name not in UNLIKE  # one function makes them
            states = ALL if name in UNLIKE else TWO
            made[name] = visit(page, path, None if alike else axe, states)
    return made


@pytest.mark.parametrize("check", CHECKS)
def test_no_page_has(visits: dict[str, Visit], check: str) -> None:
    faults = [f"{name}: {fault}" for name, seen in visits.items() for fault in seen.faults[check]]
    assert not faults, f"{CHECKS[check]}:\n" + "\n".join(faults[:40])


def test_the_unlike_pages_are_among_them(visits: dict[str, Visit]) -> None:
    assert set(visits) >= UNLIKE


def local(address: str) -> Path:
    return Path(unquote(urlsplit(address).path))


def test_every_link_inside_the_book_leads_to_what_is_there(
    visits: dict[str, Visit], reference_book: Path
) -> None:
    ids = {reference_book / f"{name}.html": seen.ids for name, seen in visits.items()}
    dead = []
    for name, seen in visits.items():
        for link in seen.links:
            address, fragment = urldefrag(link)
            path = local(address)
            if not address.startswith("file:"):
                continue
            if not path.is_file() or (fragment and unquote(fragment) not in ids.get(path, set())):
                dead.append(f"{name}: {link}")
    assert not dead, "\n".join(dead)


def test_a_page_is_small(visits: dict[str, Visit], reference_book: Path) -> None:
    shared = (reference_book / "_static").as_uri()
    for name, seen in visits.items():
        own = [local(url) for url in seen.files if url.startswith("file:") and shared not in url]
        sizes = [path.stat().st_size for path in (*own, reference_book / f"{name}.html")]
        assert sum(sizes) <= LARGEST, name


# What moves.


def shows(figure: Any) -> str:
    """What a figure to play with shows: its drawing, its values, its sentence."""
    parts = figure.locator(".explorable-figure, .explorable-values, .explorable-words")
    return "".join(parts.evaluate_all("parts => parts.map((part) => part.innerHTML)"))


def play_by_keys(page: Any, control: Any) -> None:
    """As a person without a mouse: Tab from what stands before, then a key."""
    control.evaluate("(c) => c.focus()")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert control.evaluate("(c) => c === document.activeElement")
    kind = control.evaluate("(c) => c.type")
    if kind == "select-one":
        last = control.evaluate("(c) => c.selectedIndex === c.options.length - 1")
        page.keyboard.press("ArrowUp" if last else "ArrowDown")
    elif kind == "range":
        last = control.evaluate("(c) => c.value === c.max")
        page.keyboard.press("ArrowLeft" if last else "ArrowRight")
    else:
        page.keyboard.press("Space" if kind == "checkbox" else "Enter")


def play_by_mouse(page: Any, control: Any) -> None:
    """By a click. The list of a menu is the system's: a choice in it is told to the menu."""
    kind = control.evaluate("(c) => c.type")
    if kind == "select-one":
        control.select_option(index=control.evaluate("(c) => c.selectedIndex ? 0 : 1"))
    elif kind == "range":
        at = control.evaluate("(c) => (c.value - c.min) / (c.max - c.min)")
        box = control.bounding_box()
        control.click(position={"x": box["width"] * (0.9 if at < 0.5 else 0.1), "y": 5})
    else:
        control.click()


def test_figures_to_play_with_answer_to_keys_and_to_the_mouse(reference_book: Path) -> None:
    pages = [
        path
        for path in sorted(reference_book.rglob("*.html"))
        if "data-explorable=" in path.read_text(encoding="utf-8")
    ]
    assert len(pages) >= 4
    with chromium() as page:
        for path in pages:
            open_page(page, path, WIDE)
            figure = page.locator(".explorable")
            controls = figure.locator(".explorable-controls").locator("input, select, button")
            assert controls.count() >= 2
            compared = figure.locator("select").first.locator("option:checked").inner_text()
            for i in range(controls.count()):
                label = controls.nth(i).evaluate("(c) => c.labels[0]?.textContent")
                if label == compared:
                    continue  # what others are compared with is not drawn once more
                for play in (play_by_keys, play_by_mouse):
                    before = shows(figure)
                    play(page, controls.nth(i))
                    assert shows(figure) != before, (path.stem, play.__name__, i)


def test_the_switch_of_colours_and_the_search_work_from_a_folder(reference_book: Path) -> None:
    with chromium() as page:
        open_page(page, reference_book / "book" / "index.html", WIDE)
        theme = "document.documentElement.dataset.theme"
        seen = {page.evaluate(theme)}
        for _ in range(2):
            page.locator(".theme-switch-button:visible").first.click()
            seen.add(page.evaluate(theme))
        assert seen == {"light", "dark"}
        page.goto((reference_book / "search.html").as_uri() + "?q=cosine")
        found = page.locator("#search-results li a")
        found.first.wait_for()
        assert any("cosine" in found.nth(i).get_attribute("href") for i in range(found.count()))


# The measures themselves.

FAULTY = """<!DOCTYPE html><html lang="en"><head><title>Faulty</title><style>
  .math { display: block; width: 9rem; position: relative; }
  .eqno { position: absolute; right: 0; }
  mjx-container { display: block; overflow: hidden; }
  mjx-math { display: inline-block; width: 30rem; }
  a:focus { outline: none; }
</style></head><body><a href="faulty.html">First</a><main><article class="bd-article">
  <h1>One</h1><h3>Three</h3>
  <p style="color: #bbb">Hard to read, <a href="faulty.html">and a link</a>.</p>
  <div style="width: 3000px">Wide.</div>
  <div class="math" id="cosine"><span class="eqno">(1)</span>
    <mjx-container display="true"><mjx-math>cos</mjx-math></mjx-container></div>
  <div class="math">not drawn</div><img src="nowhere.png"><button></button>
  <script>console.error("said so"); fetch("http://127.0.0.1:8/");</script>
</article></main></body></html>"""


def test_every_check_sees_what_it_is_there_for(tmp_path: Path) -> None:
    path = tmp_path / "faulty.html"
    path.write_text(FAULTY, encoding="utf-8")
    with chromium() as page:
        seen = visit(page, path, axe_script())
    for check, sign in {
        "said": ["said so", "asks http://127.0.0.1:8/", "nowhere.png"],
        "first": ["the first Tab leads to a in"],
        "focus": ["and a link"],
        "headings": ["h3 after h1"],
        "sideways": [f"3008 px wide on a screen of {NARROW}"],
        "formulas": ["runs out of its box", "lies under its number", "not drawn"],
        "images": ["broken", "no alternative text"],
        "axe": [f"{WIDE} px, light: color-contrast", f"{NARROW} px, dark: button-name"],
    }.items():
        for words in sign:
            assert any(words in fault for fault in seen.faults[check]), (check, words, seen.faults)
