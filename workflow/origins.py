"""What a result comes from, so that two of one name can be told apart: the processor, the files."""

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


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
