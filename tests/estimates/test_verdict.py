"""What cannot fit is refused in one line, with what can."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_geometry.estimates import machines, verdict
from finetune_geometry.estimates.estimate import estimate
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile, load_profile


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A host to set up: its memory in GiB, its GPU, its free disk."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))

    def set_up(gib: float, gpu: tuple[str, float, str] | None = None, disk: float = 500.0) -> None:
        for module in (machines, verdict):
            monkeypatch.setattr(module, "gpu_here", lambda: gpu)
        monkeypatch.setattr(machines, "host_gib", lambda: gib)
        monkeypatch.setattr(verdict, "free_disk_gib", lambda: disk)

    return set_up


def large(**changes: object) -> Profile:
    return load_profile(
        "qwen3-4b", {"model.needs_gpu": True, "rollouts.source": "traces", **changes}
    )


#: Four rows at a time whatever their length, everything kept for the way back.
EVERYTHING_KEPT = {
    "training.micro_batch_tokens": None,
    "training.gradient_checkpointing": False,
}


@pytest.mark.parametrize("name", ["tiny", "smoke"])
def test_the_small_profiles_are_never_refused_on_4_gib(host, name: str) -> None:
    host(4.0)
    verdict.refuse_what_cannot_fit(load_profile(name))
    assert verdict.verdict(estimate(load_profile(name))).startswith("fits on this machine")


def test_without_a_gpu(host, monkeypatch: pytest.MonkeyPatch) -> None:
    host(64.0)
    for named in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        with pytest.raises(UserError, match=r"qwen3-4b needs one: .*profile tiny fits"):
            verdict.refuse_what_cannot_fit(large())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # a device that no tool here knows
    verdict.refuse_what_cannot_fit(large())


def test_a_card_of_24_gib(host) -> None:
    card = ("NVIDIA GeForce RTX 4090", 23.99, "4090")
    host(64.0, card)
    with pytest.raises(
        UserError, match=r"methods/dpo needs 1\d\d GiB .*fits with SET=.*gradient_checkpointing"
    ) as refused:
        verdict.refuse_what_cannot_fit(large(**EVERYTHING_KEPT))
    assert "\n" not in str(refused.value)
    recomputing = EVERYTHING_KEPT | {"training.gradient_checkpointing": "auto"}
    verdict.refuse_what_cannot_fit(large(**recomputing))


def test_a_card_that_is_too_small_for_the_model(host) -> None:
    host(64.0, ("NVIDIA GeForce RTX 3060", 12.0, ""))  # a card that no table here lists
    small = load_profile("qwen3-0.6b", {"rollouts.source": "traces", "rollouts.temperature": 1})
    lacking = verdict.misfit(estimate(large(**{"training.gradient_checkpointing": "auto"})))
    assert "the NVIDIA GeForce RTX 3060 has 12" in lacking
    changed = small
    for _settings, changed in verdict._smaller(small):
        if not verdict.misfit(estimate(changed)):
            break
    verdict.refuse_what_cannot_fit(changed)


def test_memory_of_the_host_and_disk(host) -> None:
    host(8.0, ("NVIDIA H100 80GB HBM3", 79.6, "h100"))
    fitting = large(**{"training.gradient_checkpointing": "auto"})
    with pytest.raises(UserError, match=r"needs \d+ GiB of memory, this machine has 8"):
        verdict.refuse_what_cannot_fit(fitting)
    host(96.0, ("NVIDIA H100 80GB HBM3", 79.6, "h100"), disk=1.0)
    with pytest.raises(UserError, match=r"needs \d+ GiB of disk, 1 are free"):
        verdict.refuse_what_cannot_fit(fitting)
    host(96.0, ("NVIDIA H100 80GB HBM3", 79.6, "h100"))
    verdict.refuse_what_cannot_fit(fitting)
    assert "NVIDIA H100" in verdict.verdict(estimate(fitting))


def test_what_a_scheduler_is_told(host) -> None:
    host(96.0, ("NVIDIA H100 80GB HBM3", 79.6, "h100"))
    fitting = large(**{"training.gradient_checkpointing": "auto"})
    dpo, sft = (verdict.runtime_minutes(fitting, f"methods/{m}") for m in ("dpo", "sft"))
    assert dpo > sft > 60
    assert verdict.runtime_minutes(fitting, "evaluation/verdict") == 15
    assert verdict.memory_mb(fitting, "geometry/cka") > verdict.memory_mb(fitting, "methods/sft")
    unknown = load_profile("qwen3-4b", {"model.base": "example/none"})
    assert verdict.runtime_minutes(unknown, "methods/sft") == 15


def test_the_driver_is_asked_for_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "nvidia-smi"
    asked.write_text('#!/bin/sh\necho "NVIDIA A100-SXM4-80GB, 81920"\n')
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machines.gpu_here.cache_clear()
    try:
        assert machines.gpu_here() == ("NVIDIA A100-SXM4-80GB", 80.0, "a100-80")
        asked.write_text(
            '#!/bin/sh\ncase "$*" in *--id=1*) echo "NVIDIA L4, 23034";; '
            '*--id=*) exit 6;; *) echo "NVIDIA H100 PCIe, 81559";; esac\n'
        )
        found = []
        for named in ("1,0", "MIG-1a"):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
            machines.gpu_here.cache_clear()
            found.append(machines.gpu_here())
        assert found == [("NVIDIA L4", 23034 / 1024, "l4"), None]
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        monkeypatch.setattr(machines, "PATIENCE", 0.5)
        for answer in ("echo no devices were found; exit 6", "exec sleep 60"):
            asked.write_text(f"#!/bin/sh\n{answer}\n")
            machines.gpu_here.cache_clear()
            assert machines.gpu_here() is None
    finally:
        machines.gpu_here.cache_clear()
