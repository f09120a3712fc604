"""Whether a training recomputes its activations, where the profile leaves it to the machine."""

from __future__ import annotations

import torch

from finetune_geometry.estimates import memory
from finetune_geometry.estimates.architecture import architecture_of
from finetune_geometry.models.device import device
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Training


def recomputes(profile: Profile, training: Training, longest: int, sequences: int = 1) -> bool:
    """`training.gradient_checkpointing` as it stands, or "auto" decided for the GPU at hand.

    longest: tokens of the longest sequence, padded; sequences: of a row, two where it is a pair.
    Raises UserError where the model is none whose memory can be told (`architecture_of`).
    """
    choice = training.gradient_checkpointing
    if choice != "auto":
        return bool(choice)
    place = device(profile)
    if place.type == "cpu":
        return False
    tokens = training.micro_batch_size * longest * sequences
    if training.micro_batch_tokens is not None:
        tokens = max(training.micro_batch_tokens, longest * sequences)
    shape = architecture_of(profile.model.base, profile.model.base_revision)
    gib = torch.cuda.get_device_properties(place).total_memory / memory.GIB
    return memory.recomputes("auto", shape, profile.lora, profile.model.dtype, tokens, gib)
