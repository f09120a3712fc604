"""Where models run, and what is said where there is no GPU, or too little memory."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_run

import finetune_geometry
from finetune_geometry.methods import build, training
from finetune_geometry.models import device as module
from finetune_geometry.models.compat import on_one_gpu
from finetune_geometry.models.device import device, enough_memory, why_no_gpu
from finetune_geometry.models.loading import load_model
from finetune_geometry.runs import keys
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def test_a_cpu_is_used_where_no_gpu_is_needed():
    assert device(load_profile("tiny")) == torch.device("cpu")


def test_processes_that_share_a_training_have_a_gpu_each(gpus, monkeypatch):
    profile = load_profile("tiny", {"model.needs_gpu": True})
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device(profile) == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert device(profile) == torch.device("cuda", 2)


def test_a_profile_for_a_gpu_does_not_run_on_a_cpu(toy_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    run = toy_run(toy_model, model__needs_gpu=True)
    wanted = r"^no GPU that works \(.*PyTorch: .*\): profile tiny, model.needs_gpu: mend it"
    for begin in (lambda: load_model(run.profile), lambda: training.train(run, "sft")):
        with pytest.raises(UserError, match=wanted) as caught:
            begin()
        assert "\n" not in str(caught.value)


def test_the_driver_s_own_words_are_given(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'Failed to initialize NVML:'\necho 'Driver mismatch' >&2\nexit 18"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def broken():
        raise RuntimeError("CUDA driver version is insufficient\nfor CUDA runtime version")

    monkeypatch.setattr("torch.cuda.init", broken)
    assert why_no_gpu() == (
        "CUDA_VISIBLE_DEVICES hides all GPUs; "
        "PyTorch: CUDA driver version is insufficient for CUDA runtime version; "
        "nvidia-smi: Failed to initialize NVML: Driver mismatch"
    )
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    assert why_no_gpu().endswith("; nvidia-smi: no answer within 0.1 seconds")
    monkeypatch.setenv("PATH", "")
    assert why_no_gpu().endswith("; there is no nvidia-smi")


def test_only_one_place_asks_for_a_gpu():
    """Anything else could come to another answer, and run somewhere else."""
    package = Path(finetune_geometry.__file__).parent
    asking = [p for p in package.rglob("*.py") if "cuda.is_available" in p.read_text("utf-8")]
    places = {path.relative_to(package).as_posix() for path in asking}
    # The calibration measures the machine, and runs no model of a profile.
    assert places - {"methods/calibration.py", "methods/timed_steps.py"} == {"runs/keys.py"}


def test_several_visible_gpus_are_one():
    class Arguments:
        n_gpu = property(lambda self: self._n_gpu)

    for seen, used in ((0, 0), (1, 1), (4, 1)):
        arguments = Arguments()
        arguments._n_gpu = seen
        assert on_one_gpu(arguments).n_gpu == used


def test_every_training_is_told_to_use_one(toy_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    told = []
    monkeypatch.setattr(build, "on_one_gpu", lambda a: told.append(type(a).__name__) or a)
    for method in ("sft", "dpo"):
        training.train(toy_run(toy_model, training__steps=1), method)
    assert told == ["SFTConfig", "DPOConfig"]


GPU = (
    "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 12.00 GiB is free."
)


def test_out_of_memory_on_a_gpu_names_the_setting(gpus, monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (12 * 2**30, 80 * 2**30))
    with pytest.raises(UserError) as caught, enough_memory("rollouts.batch_size", 64):
        raise torch.OutOfMemoryError(GPU)
    assert str(caught.value) == (
        "out of memory (20.50 GiB more asked for, 12.00 of 80.0 GiB free): rollouts.batch_size = "
        "64: lower it, then run the same command again"
    )


def test_out_of_memory_on_a_cpu_names_the_setting():
    with (
        pytest.raises(UserError) as caught,
        enough_memory("evaluation.batch_size", 128, "take less"),
    ):
        torch.empty(2**50, dtype=torch.uint8)
    wanted = (
        r"out of memory \(1048576\.00 GiB more asked for, [\d.]+ of [\d.]+ GiB free\): "
        r"evaluation\.batch_size = 128: take less, then run the same command again"
    )
    assert re.fullmatch(wanted, str(caught.value))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_out_of_memory_of_a_library_on_a_gpu(gpus, monkeypatch, words):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (2**30, 80 * 2**30))
    wanted = r"^out of memory \(1\.00 of 80\.0 GiB free\): a\.b = 1: lower it"
    with pytest.raises(UserError, match=wanted), enough_memory("a.b", 1):
        raise RuntimeError(words)


def test_out_of_memory_in_an_array_says_what_was_asked_for():
    wanted = r"^out of memory \(262144\.00 GiB more asked for, "
    with pytest.raises(UserError, match=wanted), enough_memory("a.b", 1):
        np.empty(2**48, dtype=np.uint8)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory")])
def test_out_of_memory_that_says_no_more(error):
    with pytest.raises(UserError, match=r"^out of memory \([\d.]+ of"), enough_memory("a.b", 1):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), enough_memory("a.b", 1):
        raise error


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"training__micro_batch_tokens": 512}, "training.micro_batch_tokens = 512: lower it"),
        ({}, "micro_batch_size = 2: lower it, or bound micro-batches by training.micro_batch_tok"),
    ],
)
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_training_that_needs_too_much_memory(
    toy_model, tmp_path, monkeypatch, method, changes, setting
):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))

    def too_much(*args, **kwargs):
        torch.empty(2**50, dtype=torch.uint8)

    trainer = build.PairTrainer if method == "dpo" else build.ObjectiveTrainer
    monkeypatch.setattr(trainer, "compute_loss", too_much)
    with pytest.raises(UserError, match=rf"^out of memory \(.*\): {setting}"):
        training.train(toy_run(toy_model, **changes), method)


def test_a_model_that_does_not_fit(toy_model, monkeypatch):
    def too_large(*args, **kwargs):
        raise torch.OutOfMemoryError(GPU)

    monkeypatch.setattr("torch.nn.Module.to", too_large)
    profile = load_profile("tiny", {"model.base": str(toy_model)})
    with pytest.raises(UserError, match=r"model\.base = .*: take a smaller model"):
        load_model(profile)


def test_the_key_and_the_device_agree(monkeypatch):
    assert module.device_type is keys.device_type
