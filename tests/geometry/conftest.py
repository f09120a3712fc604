"""Every measure is tested on both ways to the singular vectors: one joint frame, and one each."""

import pytest

from finetune_geometry.geometry import cores


@pytest.fixture(autouse=True, params=["joint", "own"])
def frame(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "own":
        monkeypatch.setattr(cores, "JOINT", -1)
    return str(request.param)
