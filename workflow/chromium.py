"""A Chromium without a window that prints a page, for `make pdf`.

It is spoken to in the DevTools protocol over a pair of pipes: JSON, each message ended by a zero
byte. So it can be asked whether the page is ready, where the command line could only wait for a
while. Only a file of this machine is opened, and nothing is asked of a network.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

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
PATIENCE = 900.0  # seconds for one answer; a slow machine typesets for minutes
FLAGS = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe"),
)
PRINT = {
    "generateTaggedPDF": True,
    "generateDocumentOutline": True,
    "preferCSSPageSize": True,
    "printBackground": True,
    "transferMode": "ReturnAsStream",  # one message with all of a book would be too long
}


def find() -> str:
    """The program. Raises ValueError, "what: where: fix", if there is none."""
    named = os.environ.get(VARIABLE, "")
    for program in [named] if named else PROGRAMS:
        if path := shutil.which(program):
            return path
    raise ValueError(f"no Chromium: {named or 'PATH'}: {INSTALL}")


class Chromium:
    """A browser with one empty page; a context manager.

    program: of `find`. Every method raises ValueError, "what: where: fix", if the browser does not
    start, ends, or does not answer.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        self._asked = 0
        self._unread = b""
        self._happened: list[str] = []
        self._session: dict[str, str] = {}

    def __enter__(self) -> Chromium:
        self._own = contextlib.ExitStack()
        with contextlib.ExitStack() as own:
            # A profile of its own: what a person has open is left alone.
            folder = own.enter_context(
                tempfile.TemporaryDirectory(prefix="book-", ignore_cleanup_errors=True)
            )
            self._said = Path(folder) / "said.txt"
            # The superuser of a container has no sandbox. The page is our own, and a file.
            flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
            self._start([self.program, *flags, f"--user-data-dir={folder}/profile"], own)
            own.callback(self._end)
            version = self.call("Browser.getVersion")["product"]
            found = re.search(r"/(\d+)\.", version)
            if found is None or int(found[1]) < FIRST:
                raise ValueError(
                    f"{version} is too old to print page numbers: {self.program}: install "
                    f"Chromium {FIRST} or newer, or name another program, {VARIABLE}=/path/to/it"
                )
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = {"sessionId": attached["sessionId"]}
            self.call("Page.enable")
            self._own = own.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()

    def _start(self, command: list[str], own: contextlib.ExitStack) -> None:
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        own.callback(os.close, self._to)
        own.callback(os.close, self._from)

        def take_ends() -> None:
            """In the child: its ends of the pipes must be the descriptors 3 and 4."""
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(3, 4),
                preexec_fn=take_ends,
            )
        os.close(reads)
        os.close(writes)

    def _end(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            self.call("Browser.close", patience=10.0)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, patience: float = PATIENCE, **told: Any) -> dict[str, Any]:
        """The answer to one message; patience in seconds."""
        self._asked += 1
        asked = {"id": self._asked, "method": method, "params": told, **self._session}
        try:
            os.write(self._to, json.dumps(asked).encode() + b"\0")
        except BrokenPipeError:
            raise self._ended() from None
        while True:
            message = self._message(time.monotonic() + patience)
            if message.get("id") != self._asked:
                self._happened.append(message.get("method", ""))
            elif "error" in message:
                raise ValueError(
                    f"{method}: {message['error']['message']}: {self.program}: update it"
                )
            else:
                answer: dict[str, Any] = message["result"]
                return answer

    def open(self, page: Path) -> None:
        """Open a file, and wait until all of it is loaded."""
        self._happened = []
        self.call("Page.navigate", url=page.resolve().as_uri())
        until = time.monotonic() + PATIENCE
        while "Page.loadEventFired" not in self._happened:
            self._happened.append(self._message(until).get("method", ""))

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript says, as JSON; a promise is waited for."""
        said = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in said:
            thrown = said["exceptionDetails"]
            told = thrown.get("exception", {}).get("description") or thrown["text"]
            raise ValueError(f"the page fails: {expression}: {told.splitlines()[0]}")
        return said["result"].get("value")

    def pdf(self) -> bytes:
        """The open page as a tagged PDF with an outline, on paper of the size that it asks for."""
        stream = self.call("Page.printToPDF", **PRINT)["stream"]
        parts = []
        while True:
            part = self.call("IO.read", handle=stream, size=1 << 20)
            data = part["data"]
            parts.append(base64.b64decode(data) if part.get("base64Encoded") else data.encode())
            if part["eof"]:
                self.call("IO.close", handle=stream)
                return b"".join(parts)

    def _message(self, until: float) -> dict[str, Any]:
        """The next message; until: of time.monotonic."""
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise ValueError(f"no answer: {self.program}: try again when the machine is idle")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise self._ended()
            self._unread += part
        first, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _ended(self) -> ValueError:
        said = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        faults = [line for line in said if re.search("FATAL|ERROR|error", line)]
        why = (faults or said[-1:] or ["it said nothing"])[0]
        return ValueError(
            f"Chromium ended and said {why!r}: {self.program}: name another program, "
            f"{VARIABLE}=/path/to/it"
        )
