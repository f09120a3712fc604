"""What decides how numbers round, and what tells that they did: the machine, the weights."""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path


def processor() -> str:
    """The processor's name, and which of the instructions it has that decide how it rounds."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*: (.*)$", facts, re.MULTILINE)
    sets = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_bf16": "AMX"}
    found = [words for flag, words in sets.items() if re.search(rf"\b{flag}\b", facts)]
    return f"{name.group(1) if name else platform.machine()}; {', '.join(found)}"


def digest(adapter: Path) -> str:
    """SHA-256 of the weights of the adapter in this folder."""
    return hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
