"""The Chromium of the system, driven by Playwright: it prints a page for `make pdf`.

Its command line could only wait for a while; here the page is asked whether it is ready. Only a
file of this machine is opened, and nothing is asked of a network.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, sync_playwright

VARIABLE = "CHROMIUM"
PROGRAMS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
INSTALL = (
    "install one (Debian: apt install chromium; macOS: brew install --cask google-chrome), or name "
    f"its program, {VARIABLE}=/path/to/chromium"
)
FIRST = 131  # prints what stands in the margin of a page, such as its number
PATIENCE = 900_000.0  # milliseconds for one answer; a slow machine typesets for minutes


def find() -> str:
    """The program. Raises ValueError, "what: where: fix", if there is none."""
    named = os.environ.get(VARIABLE, "")
    for program in [named] if named else PROGRAMS:
        if path := shutil.which(program):
            return path
    raise ValueError(f"no Chromium: {named or 'PATH'}: {INSTALL}")


def check_version(version: str, program: str) -> None:
    """Raises ValueError, "what: where: fix", for one that prints no page numbers, such as 130.0."""
    found = re.match(r"(\d+)\.", version)
    if found is None or int(found[1]) < FIRST:
        raise ValueError(
            f"Chromium {version} is too old to print page numbers: {program}: install Chromium "
            f"{FIRST} or newer, or name another program, {VARIABLE}=/path/to/it"
        )


class Chromium:
    """A browser with one empty page; a context manager.

    program: of `find`. Every method raises ValueError, "what: where: fix", if the browser does not
    start, ends, or does not answer.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    def __enter__(self) -> Chromium:
        with contextlib.ExitStack() as own:
            driver = own.enter_context(sync_playwright())
            try:
                # The superuser of a container has no sandbox. The page is our own, and a file.
                browser = driver.chromium.launch(
                    executable_path=self.program, chromium_sandbox=os.geteuid() != 0
                )
            except Error as error:
                raise self._ended(error) from None
            own.callback(browser.close)
            check_version(browser.version, self.program)
            self._page = browser.new_page()
            self._page.set_default_timeout(PATIENCE)
            self._own = own.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()

    def open(self, page: Path) -> None:
        """Open a file, and wait until all of it is loaded."""
        try:
            self._page.goto(page.resolve().as_uri())
        except Error as error:
            raise self._ended(error) from None

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript says, as JSON; a promise is waited for."""
        try:
            return self._page.evaluate(expression)
        except Error as error:
            told = error.message.splitlines()[0]
            raise ValueError(f"the page fails: {expression}: {told}: {self.program}") from None

    def pdf(self) -> bytes:
        """The open page as a tagged PDF with an outline, on paper of the size that it asks for."""
        try:
            return self._page.pdf(
                tagged=True, outline=True, prefer_css_page_size=True, print_background=True
            )
        except Error as error:
            raise self._ended(error) from None

    def _ended(self, error: Error) -> ValueError:
        """What the browser itself wrote is told first; Playwright's own words name no cause."""
        said = re.findall(r"\[err\] (.*)", error.message)
        faults = [line for line in said if re.search("FATAL|ERROR|error", line)]
        why = (faults or said[-1:] or [error.message.splitlines()[0]])[0]
        return ValueError(
            f"Chromium ended and said {why!r}: {self.program}: name another program, "
            f"{VARIABLE}=/path/to/it"
        )
