"""A server on localhost that speaks OpenAI's protocol, and fails in every way when asked to.

`python tests/fake_endpoint.py --port 8765` serves the shipped teacher under the name `teacher`.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]
#: What is said to a request: a text, or parts that replace those of the reply.
Said = str | Mapping[str, Any]
USAGE = {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}


def question_of(body: Body) -> str:
    return body["messages"][-1]["content"]


def identity(body: Body) -> str:
    """What tells one request from another."""
    return json.dumps(body, sort_keys=True)


class FakeEndpoint:
    """The server; `answer` says what to write to a request.

    faults: how the next requests to come fail, in this order; "" is none.  A number is a status,
    "429 2" a status with a Retry-After; "stall" says nothing, "trickle" never ends; "drop" (the
    connection), "cut" (the body), "garbage" (no completion), "page" (HTML); a mapping is the body
    of a 400.
    """

    def __init__(
        self,
        answer: Callable[[Body], Said],
        models: Iterable[str] = ("teacher",),
        key: str = "",
        delay: float = 0.0,
    ) -> None:
        self.answer, self.models, self.key, self.delay = answer, list(models), key, delay
        self.faults: deque[str | Mapping[str, Any]] = deque()
        self.requests: list[Body] = []  # every attempt
        self.tried: Counter[str] = Counter()  # attempts by request
        self.answered: Counter[str] = Counter()  # whole replies by request
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.port = 0
        self.stopping = threading.Event()
        self.on_answer: Callable[[int], None] = lambda count: None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> Self:
        """Listen; once more on the same port after `stop`."""
        self.stopping.clear()
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Die: no new connections, and none of the old ones ends well."""
        self.stopping.set()
        with self._lock:
            for connection in self._open:
                _sever(connection)
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def take(self, body: Body) -> str | Mapping[str, Any]:
        """Count an attempt; the fault that it meets."""
        with self._lock:
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.tried[identity(body)] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return self.faults.popleft() if self.faults else ""

    def leave(self) -> None:
        with self._lock:
            self.at_once -= 1

    def count(self, body: Body) -> None:
        with self._lock:
            self.answered[identity(body)] += 1
            count = self.answered.total()
        self.on_answer(count)


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that somebody closed is what these tests are about."""


def _sever(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed meanwhile
        return


def _handler(fake: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing: a test says what it saw."""

        def setup(self) -> None:
            super().setup()
            with fake._lock:
                fake._open.add(self.connection)

        def finish(self) -> None:
            with fake._lock:
                fake._open.discard(self.connection)
            super().finish()

        def reply(
            self,
            status: int,
            value: Any,
            headers: Mapping[str, str] | None = None,
            cut: bool = False,
            pause: float = 0.0,
        ) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            kind = "text/html" if data.startswith(b"<") else "application/json"
            sent = {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}
            for name, text in sent.items():
                self.send_header(name, text)
            self.end_headers()
            sending = data[: len(data) // 2] if cut else data
            step = 1 if pause else len(sending)
            for begin in range(0, len(sending), step):
                self.wfile.write(sending[begin : begin + step])
                fake.stopping.wait(pause)
            if cut:
                self.wfile.flush()
                self.drop()

        def drop(self) -> None:
            self.close_connection = True
            _sever(self.connection)

        def allowed(self) -> bool:
            given = self.headers.get("Authorization", "")
            if fake.key and given != f"Bearer {fake.key}":
                self.reply(401, {"error": {"message": f"Incorrect API key: {given}"}})
                return False
            return True

        def do_GET(self) -> None:
            if self.path == "/v1/models" and self.allowed():
                listed = [{"id": name, "object": "model"} for name in fake.models]
                self.reply(200, {"object": "list", "data": listed})
            elif self.path != "/v1/models":
                self.reply(404, {"error": {"message": "Not Found"}})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.allowed():
                return
            if self.path != "/v1/chat/completions":
                self.reply(404, {"error": {"message": "Not Found"}})
                return
            fault = fake.take(body)
            try:
                self.meet(body, fault)
            finally:
                fake.leave()

        def meet(self, body: Body, fault: str | Mapping[str, Any]) -> None:
            if fake.delay:
                time.sleep(fake.delay)
            if isinstance(fault, Mapping):
                self.reply(400, {"error": fault})
            elif fault[:3].isdigit():
                status, _, after = fault.partition(" ")
                headers = {"Retry-After": after} if after else {}
                self.reply(int(status), {"error": {"message": "not now"}}, headers)
            elif fault == "stall":
                fake.stopping.wait(30)
                self.drop()
            elif fault == "trickle":
                self.reply(200, b"{" + b" " * 1000, cut=True, pause=0.1)
            elif fault == "drop":
                self.drop()
            elif fault in ("garbage", "page"):
                self.reply(200, b"<html>Welcome</html>" if fault == "page" else b'{"choices": 7}')
            elif body["model"] not in fake.models:
                message = f"The model `{body['model']}` does not exist."
                self.reply(404, {"error": {"message": message, "code": "model_not_found"}})
            else:
                # Counted first: a client may be killed as soon as it has it.
                completion = _completion(body, fake.answer(body))
                if fault != "cut":
                    fake.count(body)
                self.reply(200, completion, cut=fault == "cut")

    return Handler


def _completion(body: Body, said: Said) -> dict[str, Any]:
    parts: dict[str, Any] = {"content": said} if isinstance(said, str) else dict(said)
    message = {
        "role": "assistant",
        "content": parts.pop("content", None),
        **parts.pop("message", {}),
    }
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": parts.pop("finish_reason", "stop"),
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{body['model']}-2026-07",
        "choices": [choice],
        "usage": USAGE,
        "system_fingerprint": "fp_1",
        **parts,
    }


class ServedModel:
    """The shipped teacher as an `answer`: what waits at a time is sampled as one batch."""

    def __init__(self, profile: str = "smoke") -> None:
        from finetune_geometry.models.loading import load_model
        from finetune_geometry.settings.profiles import load_profile

        self.model, self.tokenizer = load_model(load_profile(profile), "teacher")
        self.waiting: list[tuple[Body, Future[Said]]] = []
        self.lock, self.sampling = threading.Lock(), threading.Lock()

    def __call__(self, body: Body) -> Said:
        future: Future[Said] = Future()
        with self.lock:
            self.waiting.append((body, future))
        with self.sampling:
            before = 0
            while before < len(self.waiting):  # those who come together
                before = len(self.waiting)
                time.sleep(0.1)
            with self.lock:
                batch, self.waiting = self.waiting, []
            if batch:
                self.sample(batch)
        return future.result()

    def sample(self, batch: list[tuple[Body, Future[Said]]]) -> None:
        from finetune_geometry.models.generation import end_tokens, generate
        from finetune_geometry.models.prompts import prompt_ids

        prompts = [prompt_ids(self.tokenizer, question_of(body)) for body, _ in batch]
        first = batch[0][0]
        written = generate(
            self.model,
            self.tokenizer,
            prompts,
            max_new_tokens=first["max_tokens"],
            temperature=first["temperature"],
            seed=first["seed"],
        )
        ends = end_tokens(self.model)
        for (_, future), prompt, ids in zip(batch, prompts, written, strict=True):
            future.set_result(
                {
                    "content": self.tokenizer.decode(ids, skip_special_tokens=True),
                    "finish_reason": "length" if ends.isdisjoint(ids[-1:]) else "stop",
                    "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(ids)},
                }
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--profile", default="smoke")
    options = parser.parse_args()
    server = FakeEndpoint(ServedModel(options.profile))
    server.port = options.port
    with server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
