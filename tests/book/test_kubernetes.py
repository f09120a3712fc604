"""Steps as jobs of Kubernetes: the real plugin against a small server of its interface.

What a cluster does is not here: scheduling, images, volumes. A job's command is run where the test
runs, as if its volume were mounted in the same place.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from test_gpus import NEEDS_GPU, TRAIN, given, project
from test_workflow import Project

pytest.importorskip(
    "snakemake_executor_plugin_kubernetes", reason="the extra `cluster` is not installed"
)

ASKED = ("--executor", "kubernetes", *NEEDS_GPU)
OFTEN = ("--", "--seconds-between-status-checks", "1", "--retries", "0")


class Cluster(ThreadingHTTPServer):
    """Takes jobs and secrets as Kubernetes does, runs a job when it is made, and keeps them all."""

    def __init__(self, workdir: Path) -> None:
        super().__init__(("127.0.0.1", 0), Interface)
        self.workdir = workdir  # an empty folder, where every container begins
        self.jobs: dict[str, dict] = {}
        self.failed: dict[str, bool] = {}
        self.secrets: dict[str, dict] = {}
        self.removed: list[str] = []

    def run_job(self, name: str) -> None:
        (container,) = self.jobs[name]["spec"]["template"]["spec"]["containers"]
        clean = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TMPDIR", "HOME")}
        done = subprocess.run(
            [*container["command"], *container["args"]],
            env=clean,
            cwd=self.workdir,
            capture_output=True,
        )
        self.failed[name] = done.returncode != 0


class Interface(BaseHTTPRequestHandler):
    server: Cluster

    def answer(self, value: dict, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = made["metadata"]["name"]
        if self.path == "/apis/batch/v1/namespaces/lab/jobs":
            self.server.jobs[name] = made
            threading.Thread(target=self.server.run_job, args=[name], daemon=True).start()
        else:
            assert self.path == "/api/v1/namespaces/lab/secrets"
            self.server.secrets[name] = made
        self.answer(made, 201)

    def do_GET(self) -> None:
        if "/pods" in self.path:
            self.answer({"kind": "PodList", "items": []})
            return
        name = re.fullmatch(r"/apis/batch/v1/namespaces/lab/jobs/(.+)/status", self.path)[1]
        failed = self.server.failed.get(name)
        status = {} if failed is None else {"failed" if failed else "succeeded": 1}
        self.answer(self.server.jobs[name] | {"status": status})

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.removed.append(self.path.partition("?")[0].rpartition("/")[2])
        self.answer({"kind": "Status", "status": "Success"})

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at what was asked."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    (tmp_path / "workdir").mkdir()
    with Cluster(tmp_path / "workdir") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = {"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
        users = [{"name": "me", "user": {}}]
        config = {"clusters": [here], "contexts": [context], "users": users}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config | {"current-context": "here"}), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server
        server.shutdown()


def filled_in(made: Project) -> Project:
    path = made.root / "workflow/profiles/kubernetes/config.yaml"
    text = path.read_text(encoding="utf-8").replace("EDIT-ME:/work", f"disk:{made.root}")
    text = text.replace("namespace: default", "namespace: lab")
    path.write_text(text, encoding="utf-8")
    return made


def test_steps_are_jobs_that_share_a_volume_and_ask_for_one_gpu_each(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "checkout" / "src"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    made = filled_in(project(tmp_path / "checkout"))
    said = made.make(*ASKED, *OFTEN)
    assert (made.run / "numbers.json").is_file(), said
    assert set(given(made.run)) == {*TRAIN, "measure"}
    asked = []
    for job in cluster.jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "python:3.11-bookworm"
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["disk"] == str(made.root)
        assert {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}} in pod["volumes"]
        # Kubernetes refuses a GPU that is requested and not limited.
        wanted, most = container["resources"]["requests"], container["resources"]["limits"]
        assert wanted["memory"] == most["memory"]
        assert wanted.get("nvidia.com/gpu") == most.get("nvidia.com/gpu")
        # What lies in the home folder of the head is not there.
        assert ".cache" not in container["args"][1]
        assert [variable["name"] for variable in container["env"]] == ["OPENAI_API_KEY"]
        asked.append((wanted.get("nvidia.com/gpu", "0"), wanted["memory"]))
    assert sorted(asked) == [("0", "16000M"), *[("1", "48000M")] * 3]
    assert not list((tmp_path / "workdir").iterdir())
    # Nothing is left behind, least of all a secret.
    assert {*cluster.jobs, *cluster.secrets} <= set(cluster.removed)


def test_a_step_that_fails_is_told_in_one_line(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "checkout" / "src"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = filled_in(project(tmp_path / "checkout"))
    made.write("measure", 'raise ValueError("the scales are off")')
    said = made.make(*ASKED, *OFTEN)
    assert "error: notebooks/measure: ValueError: the scales are off" in said
    assert "Traceback" not in said
    assert not (made.run / "numbers.json").exists()
