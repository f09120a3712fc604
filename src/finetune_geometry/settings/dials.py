"""Further trainings in which one thing about a loss is turned: from SFT to DPO, and by numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_geometry.settings.objectives import METHODS, OBJECTIVES
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.variation import Variation, repeated_orders, seed_of

#: DPO's learning rate as a multiple of SFT's, beside the profile's.
DPO_RATES = {"fast": 1.0, "third": 0.3, "slow": 0.03}
BIASES = (0.0, 0.03, 0.3, 1.0)  # of Offline GRPO, beside the profile's
SHARES = (0.05, 0.2, 0.4)  # of mixed prompts


def ladder(profile: Profile) -> list[Variation]:
    """From SFT to DPO one thing at a time, and DPO at other rates."""
    rate = profile.training_of("sft").learning_rate
    low = profile.training_of("dpo").learning_rate
    found = []
    for suffix in repeated_orders(profile):

        def rung(
            method: str,
            name: str,
            learning_rate: float,
            others: Mapping[str, Any] | None = None,
            suffix: str = suffix,
        ) -> Variation:
            changes = {f"methods.{method}.learning_rate": learning_rate, **(others or {})}
            changes |= seed_of(method, suffix)
            return Variation(f"{method}-{name}{suffix}", method, changes)

        mixed = {"training.pool": "mixed"}
        found += [
            rung("sft", "rate", low),
            rung("sft", "mixed", low, mixed),
            rung("rft", "chosen", low, mixed),
            rung("offline_grpo", "contrast", low, {"methods.offline_grpo.bias": 0.0}),
            *(rung("dpo", name, factor * rate) for name, factor in DPO_RATES.items()),
        ]
    return found


def other_variants(method: str) -> list[str]:
    """The definitions of a loss that are not the default one."""
    return [variant.name for variant in OBJECTIVES[method].variants[1:]]


def dials(profile: Profile) -> list[Variation]:
    """Other definitions of the losses, other biases, other shares of mixed prompts."""
    found = [
        Variation(f"{method}-variant{number}", method, {f"methods.{method}.variant": name})
        for method in METHODS
        for number, name in enumerate(other_variants(method), 1)
    ]
    found += [
        Variation(f"offline_grpo-bias{number}", "offline_grpo", {"methods.offline_grpo.bias": bias})
        for number, bias in enumerate(BIASES, 1)
    ]
    found += [
        Variation(f"{method}-share{number}", method, {"training.mixed_share": share})
        for number, share in enumerate(SHARES, 1)
        for method in ("sft", "rft", "offline_grpo", "dpo")
    ]
    return found
