"""The way of a reader with a server: the shipped teacher behind one, the pool, a training."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import Workflow
from fake_endpoint import FakeEndpoint, ServedModel


@pytest.mark.smoke
def test_a_server_teaches_the_student(workflow: Workflow, results: Path) -> None:
    with FakeEndpoint(ServedModel()) as server:
        server.faults.extend(["", "429 1", "500", "cut"])
        settings = {"source": "endpoint", "endpoint.base_url": server.url}
        settings |= {
            "endpoint.model": "teacher",
            "endpoint.max_cost": 1,
            "endpoint.price_output": 1,
        }
        words = [f"rollouts.{name}={value}" for name, value in settings.items()]
        made = ["--run", "endpoint", "--set", " ".join(words), "--until", "methods_dpo"]
        done = workflow(*made)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = len(server.requests)
        assert workflow(*made).returncode == 0
        assert len(server.requests) == asked
    assert set(server.answered.values()) == {1}
    run = results / "endpoint"
    card = json.loads((run / "rollouts/card.json").read_text(encoding="utf-8"))
    assert card["source"] == "endpoint"
    assert card["models"] == {"teacher-2026-07": 128}
    assert (card["refused_attempts"], card["lost_attempts"]) == (2, 1)
    assert 0 < card["mixed"] < 1
    pool = pd.read_parquet(run / "rollouts/rollouts.parquet")
    assert len(pool) == len(server.answered) == 128
    trained = json.loads((run / "adapters/dpo/card.json").read_text(encoding="utf-8"))
    assert trained["rows"] == card["pairs"]
    assert (run / "adapters/dpo/adapter_model.safetensors").is_file()
