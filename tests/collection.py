"""A collection of adapters with a known geometry, in folders with odd names: what a release is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from synthetic import module_name
from threadpoolctl import threadpool_limits

SHAPES = {"q_proj": (4096, 2560), "k_proj": (1024, 2560), "v_proj": (1024, 2560)} | {
    "o_proj": (2560, 4096)
}
#: Method -> cosine with SFT, length, decay of the spectrum (0: flat), as in the paper.
METHODS = {
    "sft": (1.0, 2.84, 0.25),
    "rft": (0.977, 2.82, 0.25),
    "rift": (0.967, 3.04, 0.25),
    "offline_grpo": (0.74, 2.5, 0.30),
    "dft": (0.572, 2.0, 0.25),
    "dpo": (0.06, 0.22, 0.02),
}
LATE = 0.86  # of the depth: from here on Offline GRPO is further from SFT


@dataclass(frozen=True)
class Adapter:
    """One folder, and what lies in it."""

    folder: str
    method: str
    seed: int = 42
    rate: float = 1.0  # over the method's own
    step: int = 1000
    fault: str = ""


#: 28 folders. The names are odd on purpose: separators, capitals, words that say nothing, depth,
#: and some that cannot be understood.
RELEASE = (
    Adapter("main/SFT seed42 lr5e-6/checkpoint-1000", "sft"),
    Adapter("main/rft_seed42_lr5e-06_step1000", "rft"),
    Adapter("main/RIFT-seed-42-lr-5e-6-step-1000", "rift"),
    Adapter("main/grpo_offline.lr5e-6.seed42-1000steps", "offline_grpo"),
    Adapter("main/dft_s42_5e-6_step1k", "dft"),
    Adapter("main/dpo_seed=42_lr=5e-7_ckpt1000", "dpo"),
    *(
        Adapter(f"grid/{method}_seed123_lr{rate}_step1000", method, seed=123)
        for method, rate in (("sft", "5e-6"), ("rft", "5e-6"), ("rift", "5e-6"), ("dft", "5e-6"))
    ),
    Adapter("grid/offline_grpo_seed123_lr5e-6_step1000", "offline_grpo", seed=123),
    Adapter("grid/dpo_seed123_lr5e-7_step1000", "dpo", seed=123),
    *(
        Adapter(f"grid/{method}_seed42_lr{rate}_step1000", method, rate=factor)
        for method in ("sft", "rft", "rift", "dft", "offline_grpo")
        for rate, factor in (("5e-7", 0.1), ("5e-5", 10.0))
    ),
    Adapter("online/grpo_on-policy_lr5e-6_step600", "online_grpo", step=600),
    Adapter("online/DAPO-step600", "online_dapo", step=600),
    Adapter("steps/sft_seed42_lr5e-6_step1500", "sft", step=1500),
    Adapter("steps/sft_seed42_lr5e-6_step500", "sft", step=500, fault="truncated"),
    Adapter("steps/rft_seed42_lr5e-6_step500", "rft", step=500, fault="no weights"),
    Adapter("misc/grpo-final-v2 (use this)", "offline_grpo", step=1500),  # which GRPO?
)


def write_collection(root: Path, *, layers: int, width: float, r: int, seed: int = 0) -> Path:
    """Write the release: `layers` blocks of Qwen3-4B's attention at a share of its width."""
    rng = np.random.default_rng(seed)
    shapes = {k: (round(width * out), round(width * into)) for k, (out, into) in SHAPES.items()}
    tensors: dict[str, dict[str, NDArray[np.float32]]] = {a.folder: {} for a in RELEASE}
    for layer in range(layers):
        late = (layer + 0.5) / layers >= LATE
        for kind, (out, into) in shapes.items():
            with threadpool_limits(1):
                made = _module(rng, out, into, r, late)
            for folder, (b, a) in made.items():
                stem = f"base_model.model.{module_name(layer, kind)}"
                share = 1 / np.sqrt(layers * len(shapes))  # of the whole length
                tensors[folder][f"{stem}.lora_B.weight"] = (b * share / 2).astype(np.float32)
                tensors[folder][f"{stem}.lora_A.weight"] = a.astype(np.float32)
    for adapter in RELEASE:
        _save(root / adapter.folder, tensors[adapter.folder], r, adapter.fault)
    (root / "README.md").write_text("# A release\n", encoding="utf-8")
    return root


def _module(
    rng: np.random.Generator, out: int, into: int, r: int, late: bool
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Folder -> (B, A) of one module, of length as METHODS says; alpha / r = 2 is left out.

    A has orthonormal rows, so that inner products of deltas of one A are those of their B.
    """

    def direction(decay: float) -> NDArray[np.float64]:
        """A random B of length 1 with a given fall of its singular values."""
        u = np.linalg.qr(rng.standard_normal((out, r)))[0]
        v = np.linalg.qr(rng.standard_normal((r, r)))[0]
        s = np.exp(-decay * np.arange(r))
        return (u * (s / np.linalg.norm(s))) @ v.T

    def turned(b: NDArray[np.float64], cosine: float, decay: float) -> NDArray[np.float64]:
        other = direction(decay)
        other -= np.sum(other * b) * b
        return cosine * b + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)

    start = {s: np.linalg.qr(rng.standard_normal((into, r)))[0].T for s in (42, 123)}
    sft = direction(METHODS["sft"][2])
    u, _, vt = np.linalg.svd(sft, full_matrices=False)
    own = {}
    for method, (cosine, _, decay) in METHODS.items():
        if method == "offline_grpo":
            cosine = 0.5 if late else 0.8
        own[method] = sft if method == "sft" else turned(sft, cosine, decay)
    found = {}
    for adapter in RELEASE:
        method = adapter.method
        length = METHODS.get(method, (0, 0.3, 0))[1] * adapter.rate**0.7
        if method.startswith("online"):
            b = direction(0.1)
        elif adapter.seed != 42:  # the first output direction, and little else, is the same
            b = 0.95 * np.outer(u[:, 0], vt[0]) + 0.3 * direction(0.25)
            b /= np.linalg.norm(b)
        elif adapter.rate != 1.0:
            b = turned(own[method], 0.55, METHODS[method][2])
        else:
            b = turned(own[method], 0.95, 0.25) if adapter.step != 1000 else own[method]
        found[adapter.folder] = (length * b, start[adapter.seed])
    return found


def _save(folder: Path, tensors: dict[str, NDArray[np.float32]], r: int, fault: str) -> None:
    folder.mkdir(parents=True)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": "Qwen/Qwen3-4B-Instruct-2507",
        "r": r,
        "lora_alpha": 2 * r,
        "target_modules": list(SHAPES),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if fault != "no weights":
        save_file(tensors, folder / "adapter_model.safetensors")
    if fault == "truncated":
        path = folder / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
