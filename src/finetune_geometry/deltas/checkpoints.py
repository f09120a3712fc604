"""Full fine-tuning: the difference of two checkpoints, as if it were an adapter.

The checkpoints are read tensor by tensor. Norms, cosines and distances use the whole difference and
are exact. Singular vectors are those of a randomised SVD (Halko, Martinsson and Tropp 2011), which
keeps a stated number of them; what it leaves out is measured and reported ("truncated_norm").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finetune_geometry.deltas.adapter_files import TensorFiles, shards_of
from finetune_geometry.deltas.adapters import Adapter
from finetune_geometry.deltas.locations import CONFIG, locate
from finetune_geometry.deltas.lowrank import Array, LowRankDelta
from finetune_geometry.settings.errors import UserError

WEIGHTS = "model.safetensors"
RANK = 64
OVERSAMPLING = 16
POWER_ITERATIONS = 3


def is_checkpoint(source: str | Path) -> bool:
    """Whether `source` is a local folder with the weights of a whole model, and no adapter."""
    folder = Path(source).expanduser()
    if (folder / CONFIG).is_file():
        return False
    return any((folder / f"{WEIGHTS}{end}").is_file() for end in ("", ".index.json"))


def checkpoint_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / f"{WEIGHTS}.index.json").is_file():
        return shards_of(folder / f"{WEIGHTS}.index.json")
    if any(folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"pytorch_model.bin is a pickle: {folder}: load the model with transformers and "
            "save_pretrained(folder) writes safetensors"
        )
    raise UserError(f"no {WEIGHTS}: {folder}: give the folder of a whole model")


def load_checkpoint(
    source: str | Path, base: str | Path, name: str | None = None, *, rank: int = RANK
) -> Adapter:
    """The change from the checkpoint `base` to `source` in every weight matrix.

    Args:
        source, base: folders or hub ids of two checkpoints of one architecture.
        rank: singular vectors kept of every matrix; a smaller matrix is kept whole.

    Vectors (norms, biases) are no part of it; those that changed are named in `extras`. Both
    checkpoints are read once at once, to know which of their tensors differ.
    """
    folder, base_folder = locate(source), locate(base)
    tuned, before = (TensorFiles(checkpoint_files(path)) for path in (folder, base_folder))
    only_one = sorted(set(tuned.shapes) ^ set(before.shapes))
    unlike = [n for n in tuned.shapes if n in before.shapes and tuned.shapes[n] != before.shapes[n]]
    if only_one or unlike:
        listed = "; ".join(
            f"{len(names)} {what} ({names[0]}, ...)"
            for names, what in ((only_one, "in one only"), (unlike, "of different shapes"))
            if names
        )
        raise UserError(f"no checkpoints of one model: {folder}, {base_folder}: tensors: {listed}")
    matrices = [n for n in tuned if len(tuned.shapes[n]) == 2]
    if not matrices:
        raise UserError(f"no weight matrices: {folder}: give the folder of a whole model")
    changed = {name for name in tuned if not tuned.equal(name, before)}
    others = sorted(changed.difference(matrices))
    keys = {key.removesuffix(".weight"): key for key in matrices}

    def read(module: str) -> LowRankDelta:
        key = keys[module]
        return leading_part(tuned.read(key) - before.read(key), rank)

    shapes = {module: (tuned.shapes[key][0], tuned.shapes[key][1]) for module, key in keys.items()}
    ranks = {module: rank if key in changed else 0 for module, key in keys.items()}
    return Adapter(name or folder.resolve().name, shapes, read, extras=others, ranks=ranks)


def leading_part(matrix: Array, rank: int, seed: int = 0) -> LowRankDelta:
    """A matrix with its `rank` leading singular triplets as factors, and itself as `full`."""
    d_out, d_in = matrix.shape
    if not matrix.any():
        return LowRankDelta(np.zeros((d_out, 0)), np.zeros((0, d_in)), full=matrix)
    if min(d_out, d_in) <= rank + OVERSAMPLING:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    else:
        rng = np.random.default_rng(seed)
        basis = _basis(matrix @ rng.standard_normal((d_in, rank + OVERSAMPLING)))
        for _ in range(POWER_ITERATIONS):
            basis = _basis(matrix @ _basis(matrix.T @ basis))
        u, s, vt = np.linalg.svd(basis.T @ matrix, full_matrices=False)
        u, s, vt = basis @ u[:, :rank], s[:rank], vt[:rank]
    keep = s > 0
    return LowRankDelta(u[:, keep] * s[keep], vt[keep], full=matrix)


def _basis(columns: Array) -> Array:
    return np.asarray(np.linalg.qr(columns)[0])
