"""A model hub on localhost: repositories of models and data sets in the hub's HTTP protocol.

It speaks as much of the protocol as huggingface_hub needs to list and fetch repositories, and it
refuses as the hub does: gated, missing and private repositories, revisions and files that are not
there, a connection that breaks half-way. Nothing of the real client is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = {".safetensors", ".parquet", ".bin", ".pth", ".gz", ".gguf"}
KINDS = {"models": "model", "datasets": "dataset"}


@dataclasses.dataclass(frozen=True)
class Blob:
    """A file's content: where it lies, and what the hub says of it."""

    path: Path
    size: int
    sha1: str  # as git names it
    sha256: str
    large: bool  # kept apart from git, and reached by a redirect


class Refusal(Exception):
    """An answer with an error code, as the hub words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class FakeHub:
    """Serve repositories on localhost: `with FakeHub(folder) as hub`, then HF_ENDPOINT=hub.url.

    `gated` and `private` hold names of repositories that are refused to a person without a token
    of `accepted`; a token of `expired` is refused everything. `cut` names files
    ("owner/name/file") whose next download breaks off after so many bytes. `requests` lists what
    was asked, as "GET /path?query", with the range where one was ("bytes=10-").
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.accepted: set[str] = set()
        self.expired: set[str] = set()
        self.cut: dict[str, int] = {}
        self.requests: list[str] = []
        self._commits: dict[tuple[str, str], dict[str, dict[str, Blob]]] = {}  # oldest first
        self._server: ThreadingHTTPServer | None = None

    def add(self, repo: str, files: Mapping[str, bytes | str | Path], kind: str = "model") -> str:
        """Make a commit that holds exactly these files, and return its 40 hexadecimal digits.

        Earlier commits of the repository stay readable; the newest one is "main".
        """
        tree = {name: self._stored(name, content) for name, content in sorted(files.items())}
        commits = self._commits.setdefault((kind, repo), {})
        said = json.dumps([kind, repo, list(commits), [(n, b.sha1) for n, b in tree.items()]])
        commit = hashlib.sha1(said.encode()).hexdigest()
        commits[commit] = tree
        return commit

    @property
    def url(self) -> str:
        """The address, for HF_ENDPOINT."""
        assert self._server is not None, "the hub is not running"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, cache: Path) -> dict[str, str]:
        """What a process needs to ask this hub, with a cache of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}

    def put_in_place(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """Have the client of this process ask this hub: it reads its settings when imported."""
        template = "{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", self.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{self.url}/{template}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def tree(self, kind: str, repo: str, revision: str, token: str) -> tuple[str, dict[str, Blob]]:
        """Commit and files of a revision ("main" or a commit's digits, or their beginning)."""
        if token in self.expired:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        hidden = repo in self.private and token not in self.accepted
        commits = self._commits.get((kind, repo))
        if commits is None or hidden:
            # A stranger is not told whether it is missing or private.
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if revision == "main":
            return list(commits.items())[-1]
        for commit, files in commits.items():
            if len(revision) >= 7 and commit.startswith(revision):
                return commit, files
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def file(self, kind: str, repo: str, revision: str, name: str, token: str) -> tuple[str, Blob]:
        """Commit and content of one file; this is what a gate refuses."""
        commit, files = self.tree(kind, repo, revision, token)
        if repo in self.gated and token not in self.accepted:
            message = f"Access to {kind} {repo} is restricted. "
            message += "You must have access to it and be authenticated to access it."
            raise Refusal(403 if token else 401, "GatedRepo", message)
        if name not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        return commit, files[name]

    def _stored(self, name: str, content: bytes | str | Path) -> Blob:
        """Keep a file's content under its hash; nothing is held in memory."""
        incoming = self.root / "incoming"
        if isinstance(content, Path):
            shutil.copyfile(content, incoming)
        else:
            incoming.write_bytes(content.encode() if isinstance(content, str) else content)
        size = incoming.stat().st_size
        sha1, sha256 = hashlib.sha1(f"blob {size}\0".encode()), hashlib.sha256()
        with incoming.open("rb") as stream:
            while piece := stream.read(1 << 20):
                sha1.update(piece)
                sha256.update(piece)
        kept = incoming.rename(self.root / sha256.hexdigest())
        large = Path(name).suffix in LARGE or size > 10_000_000
        return Blob(kept, size, sha1.hexdigest(), sha256.hexdigest(), large)


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection ends with its answer, none is left open at the end."""

    hub: FakeHub

    def do_GET(self) -> None:
        asked = (self.command, self.path, self.headers.get("Range", ""))
        self.hub.requests.append(" ".join(asked).strip())
        parts = urlsplit(self.path)
        path, query = unquote(parts.path).strip("/"), parse_qs(parts.query)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                self._route(path, query)
            except Refusal as refused:
                body = json.dumps({"error": refused.message}).encode()
                headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
                self._send(refused.status, body, headers)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: `FakeHub.requests` is the log."""

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ").strip()

    def _route(self, path: str, query: Mapping[str, list[str]]) -> None:
        if found := re.fullmatch(r"cdn/([0-9a-f]{64})/(.+)", path):
            return self._content(self.hub.root / found[1], found[2], {"ETag": f'"{found[1]}"'})
        if found := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", path):
            kind, repo, rest = KINDS[found[1]], found[2], found[3] or "revision/main"
            if rest.startswith("revision/"):
                return self._info(kind, repo, rest.removeprefix("revision/"), query)
            if tree := re.fullmatch(r"tree/([^/]+)(?:/(.+))?", rest):
                return self._tree(kind, repo, tree[1], tree[2], query)
        if found := re.fullmatch(r"(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve("dataset" if found[1] else "model", *found.groups()[1:])
        raise Refusal(404, "", f"not a page of this hub: {path}")

    def _info(self, kind: str, repo: str, revision: str, query: Mapping[str, list[str]]) -> None:
        commit, files = self.hub.tree(kind, repo, revision, self._token)
        siblings: list[dict[str, object]] = [{"rfilename": name} for name in files]
        if "blobs" in query:
            for entry, blob in zip(siblings, files.values(), strict=True):
                entry.update(size=blob.size, blobId=blob.sha1)
                if blob.large:
                    entry["lfs"] = {"size": blob.size, "sha256": blob.sha256, "pointerSize": 134}
        gated = "manual" if repo in self.hub.gated else False
        private = repo in self.hub.private
        said = {"id": repo, "sha": commit, "gated": gated, "private": private, "tags": []}
        self._send_json({**said, "siblings": siblings}, commit)

    def _tree(
        self, kind: str, repo: str, revision: str, under: str | None, query: Mapping[str, list[str]]
    ) -> None:
        commit, files = self.hub.tree(kind, repo, revision, self._token)
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        entries = list(_entries(files, under, recursive))
        if under is not None and not entries:
            raise Refusal(404, "EntryNotFound", f"{under} does not exist on {revision}")
        self._send_json(entries, commit)

    def _resolve(self, kind: str, repo: str, revision: str, name: str) -> None:
        commit, blob = self.hub.file(kind, repo, revision, name, self._token)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.sha1}"'}
        if not blob.large:
            return self._content(blob.path, f"{repo}/{name}", headers)
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host, to a client
        headers |= {
            "Location": f"{elsewhere}/cdn/{blob.sha256}/{repo}/{name}",
            "X-Linked-Size": str(blob.size),
            "X-Linked-ETag": f'"{blob.sha256}"',
        }
        return self._send(302, b"", headers)

    def _content(self, path: Path, name: str, headers: Mapping[str, str]) -> None:
        """A file, or the range that was asked for."""
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]), size - 1) if asked and asked[2] else size - 1
        if asked and first >= size:
            return self._send(416, b"", {"Content-Range": f"bytes */{size}"})
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "HEAD":
            return None
        left = self.hub.cut.pop(name, last + 1 - first)
        with path.open("rb") as stream:
            stream.seek(first)
            while left > 0 and (piece := stream.read(min(left, 1 << 16))):
                self.wfile.write(piece)
                left -= len(piece)
        return None

    def _send_json(self, said: object, commit: str) -> None:
        headers = {"Content-Type": "application/json", "X-Repo-Commit": commit}
        self._send(200, json.dumps(said).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entries(
    files: Mapping[str, Blob], under: str | None, recursive: bool
) -> Iterator[dict[str, object]]:
    """What a folder holds, as the hub lists it: folders once, then files with sizes and hashes."""
    start = f"{under.strip('/')}/" if under else ""
    folders: set[str] = set()
    for name, blob in files.items():
        if not name.startswith(start):
            continue
        parents = name[len(start) :].split("/")[:-1]
        for depth in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
            folder = start + "/".join(parents[:depth])
            if folder not in folders:
                folders.add(folder)
                oid = hashlib.sha1(folder.encode()).hexdigest()
                yield {"type": "directory", "oid": oid, "size": 0, "path": folder}
        if recursive or not parents:
            entry = {"type": "file", "oid": blob.sha1, "size": blob.size, "path": name}
            if blob.large:
                entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
            yield entry
