"""An estimate: every stage, sums, what it rests on, and that it is light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobs import JOBS, SECTIONS

from finetune_geometry import cli
from finetune_geometry.estimates import machines, verdict
from finetune_geometry.estimates.asked import FURTHER, SHIPPED
from finetune_geometry.estimates.estimate import Estimate, estimate
from finetune_geometry.estimates.lengths import lengths_of
from finetune_geometry.estimates.work import (
    LINE_TOKENS,
    STATE_TOKENS,
    Read,
    Trained,
    Written,
    trained,
    work,
)
from finetune_geometry.geometry import hidden_states, line_scores
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile, load_profile

SHAPE = "8 layers of 192, 540 tokens"
MEASURED = {
    "matrix_rate": 1e12,
    "bandwidth": 1e10,
    "start_seconds": 0.0,
}
AT_SHAPE = {
    "training_share": 0.5,
    "reading_share": 0.5,
    "writing_share": 0.5,
    "layer_seconds": 0.0,
    "mixture_reading": 1.0,
    "mixture_writing": 1.0,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which nothing is known yet: no GPU, 24 GiB."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setattr(machines, "gpu_here", lambda: None)
    monkeypatch.setattr(verdict, "gpu_here", lambda: None)
    monkeypatch.setattr(machines, "host_gib", lambda: 24.0)
    monkeypatch.setattr(verdict, "free_disk_gib", lambda: 500.0)
    return tmp_path


def large(**changes: Any) -> Profile:
    """qwen3-4b with checkpointing and a source that needs no teacher here."""
    settings: dict[str, Any] = {
        "rollouts.source": "traces",
        "rollouts.traces.dataset": "PrimeIntellect/NuminaMath-QwQ-CoT-5M",
        "training.gradient_checkpointing": "auto",
        "model.needs_gpu": True,
    }
    return load_profile(
        "qwen3-4b", settings | {k.replace("__", "."): v for k, v in changes.items()}
    )


def test_stages_are_the_jobs_of_the_workflow() -> None:
    profile = load_profile("tiny")
    jobs, stages = {job.name: job for job in JOBS}, work(profile, lengths_of(profile))
    assert set(stages) - set(jobs) == {"book", "controls/trainings"} & {"book", *FURTHER}
    for name, job in jobs.items():  # what loads a model is not left out
        if job.repeats:
            assert stages[name]  # what is measured of its cells; their trainings are a stage
            continue
        if job.settings != SECTIONS and {"training", "training.threads"} & {*job.settings}:
            assert any(isinstance(i, Trained | Written | Read) for i in stages[name]), name
    assert {job.name for job in JOBS if job.shipped} == {*SHIPPED, *FURTHER} - {
        "controls/trainings"
    }
    assert {job.name for job in JOBS if job.repeats} == {*FURTHER} - {"controls/trainings"}


def test_every_stage_of_the_paper_s_profile_on_one_h100() -> None:
    profile = large(rollouts__source="endpoint")
    found = estimate(profile, gpu="h100")
    stages = {stage.name: stage for stage in found.stages}
    assert set(stages) == {"prefetch", *work(profile, found.lengths)}
    assert all(s.seconds > 0 for name, s in stages.items() if name != "prefetch")
    assert all(s.low <= s.seconds <= s.high for s in found.stages)
    assert found.total("seconds", asked=True) == sum(s.seconds for s in found.stages)
    assert found.total("seconds") == sum(s.seconds for s in found.stages if s.name not in FURTHER)
    assert found.total("gpu_gib") == max(s.gpu_gib for s in found.stages)
    # 32,000 rows of 1,120 tokens: 25 GFLOP a token, padding aside, at 0.3 of 989 TFLOP/s.
    assert 0.7 < stages["methods/sft"].seconds / 3600 < 1.2
    assert stages["methods/dpo"].seconds > 2 * stages["methods/sft"].seconds
    assert all(stages[f"methods/{m}"].gpu_gib > 8 for m in METHODS)
    assert stages["prefetch"].download_gib > 7.4
    assert not any(s.measured for s in found.stages if s.flops)


def test_points_of_the_lines() -> None:
    profile = load_profile("tiny", {"geometry.lmc_rows": 1, "geometry.lmc_problems": 1})
    text = lengths_of(profile)
    rows, boxes, answers = work(profile, text)["geometry/mode_connectivity"]
    # The executed chapter says 79 different models on 8 lines.
    assert isinstance(rows, Read)
    assert isinstance(boxes, Read)
    assert isinstance(answers, Written)
    assert rows.tokens / text.row == pytest.approx(79)
    assert boxes.tokens / (text.prompt + 8) == pytest.approx(52)
    assert answers.answers == 34 * profile.geometry.lmc_answered


def test_reading_takes_memory_by_the_batch_and_answers_of_a_line_are_written_by_pages() -> None:
    """As the chapters do it on a GPU."""
    assert (line_scores.READ_TOKENS, hidden_states.READ_TOKENS) == (LINE_TOKENS, STATE_TOKENS)
    few, many = (estimate(large(evaluation__batch_size=n), gpu="h100") for n in (16, 512))
    for name in ("geometry/cka", "controls/second_seed", "geometry/mode_connectivity"):
        assert few.stage(name).gpu_gib <= many.stage(name).gpu_gib
    assert many.stage("geometry/cka").gpu_gib > few.stage("geometry/cka").gpu_gib + 5
    seconds = few.stage("geometry/mode_connectivity").seconds
    assert seconds == many.stage("geometry/mode_connectivity").seconds  # pages know no batches


def test_what_was_measured_here_is_used_and_said(folder: Path) -> None:
    before = estimate(load_profile("tiny"))
    machines.keep_measured(
        {
            "cpu": {
                "device": "cpu",
                "threads": 1,
                "constants": MEASURED,
                "shapes": {SHAPE: AT_SHAPE},
            }
        }
    )
    after = estimate(load_profile("tiny"))
    sft = after.stage("methods/sft")
    assert sft.seconds == pytest.approx(sft.flops / 0.5e12)
    assert (sft.low, sft.high) == (sft.seconds, sft.seconds)
    assert sft.measured
    assert not before.stage("methods/sft").measured
    assert before.stage("methods/sft").flops == sft.flops
    # Another shape of model, and another number of threads: the shares are assumed again.
    other = estimate(load_profile("qwen3-0.6b", {"training.threads": 1}), gpu="cpu")
    assert not other.stage("methods/sft").measured
    assert other.machine.constants["matrix_rate"].measured
    more = estimate(load_profile("tiny", {"training.threads": 2}))
    assert not more.machine.constants["matrix_rate"].measured
    # A second shape is kept beside the first.
    machines.keep_measured(
        {"cpu": {"device": "cpu", "threads": 1, "constants": MEASURED, "shapes": {"x": AT_SHAPE}}}
    )
    assert set(machines.measured_here()["cpu"]["shapes"]) == {SHAPE, "x"}


def test_the_pool_of_a_run_tells_how_long_texts_are(folder: Path) -> None:
    profile = load_profile("tiny")
    card = folder / "mine" / "rollouts" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"mean_tokens": 158.0, "max_tokens": 300}))
    assumed, found = lengths_of(profile), lengths_of(profile, "mine")
    assert (assumed.measured, found.measured) == (False, True)
    assert found.completion == 158.0
    longer = trained(profile, "sft", found).positions / trained(profile, "sft", assumed).positions
    assert longer == pytest.approx((found.prompt + 158) / (assumed.prompt + assumed.completion))


def test_money() -> None:
    settings = {
        "rollouts__source": "endpoint",
        "rollouts__prompts": 900,
        "rollouts__heldout_prompts": 100,
        "rollouts__endpoint__price_input": 1.0,
        "rollouts__endpoint__price_output": 2.0,
    }
    found = estimate(large(**settings), gpu="h100", hour_price=3.0)
    # 4,000 answers: 120 tokens read, 1,000 written.
    assert found.stage("ingredients/rollouts").money == pytest.approx(0.48 + 8.0)
    sft = found.stage("methods/sft")
    assert sft.money == pytest.approx(3.0 * sft.seconds / 3600)


def test_a_model_of_unknown_shape() -> None:
    with pytest.raises(UserError, match=r"not known here: example/none: fetch .*prefetch"):
        estimate(load_profile("qwen3-4b", {"model.base": "example/none"}), gpu="h100")
    with pytest.raises(UserError, match=r"unknown device 'h1000': --gpu: .*h100"):
        estimate(large(), gpu="h1000")


@pytest.mark.parametrize("profile", ["tiny", "smoke"])
def test_it_is_light(profile: str) -> None:
    script = f"""
import sys
from finetune_geometry.estimates.verdict import memory_mb, refuse_what_cannot_fit, runtime_minutes
from finetune_geometry.settings.profiles import load_profile
profile = load_profile({profile!r})
refuse_what_cannot_fit(profile)
assert runtime_minutes(profile, "methods/sft") >= 15
assert 1000 < memory_mb(profile, "methods/sft") < 4000
heavy = {{"torch", "numpy", "pandas", "transformers", "huggingface_hub", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "--profile", "tiny", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"methods/dpo", "geometry/cka", "book"} <= {s["name"] for s in facts["stages"]}
    assert facts["constants"]["training_share"]["from"] == "assumed"
    assert facts["total"]["hours"] == pytest.approx(
        sum(stage["hours"] for stage in facts["stages"] if not stage["asked"])
    )
    assert facts["total"]["hours_asked"] == pytest.approx(sum(s["hours"] for s in facts["stages"]))
    changes = "rollouts.source=traces training.gradient_checkpointing=false"
    argv = ["estimate", "--profile", "qwen3-4b", "--gpu", "4090", "--set", changes]
    assert cli.main(argv) == 0
    said = capsys.readouterr().out
    assert "offline_grpo" in said
    assert 'it fits with SET="training.gradient_checkpointing=auto' in said


def test_table_of_the_whole_book(capsys: pytest.CaptureFixture[str]) -> None:
    found: Estimate = estimate(large(), gpu="h100")
    from finetune_geometry.estimates.shown import show

    show(found)
    said = capsys.readouterr().out
    for stage in found.stages:
        assert stage.name.rpartition("/")[2] in said
    assert "assumed" in said
    assert "Verdict: fits on one h100" in said
