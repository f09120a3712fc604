#!/bin/sh
# The light install in a new environment, .venv-light: what it weighs, and that it compares adapters
# without torch. Continuous integration runs this; `make light` does, too.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-light
unset PYTHONDONTWRITEBYTECODE PYTHONPATH  # what a person has after the first use counts
most=400 # MB of packages, beside Python, pip and setuptools

"${PYTHON:-python3}" -m venv --clear "$venv"
# In millions of bytes on the disk: what came to the environment as it was.
bare=$(du -sk "$venv" | cut -f1)
size() { echo $((($(du -sk "$venv" | cut -f1) - bare) * 1024 / 1000000)); }
# As README says: Python writes the bytecode of what is used, when it is used. Without
# --no-compile pip writes all of it ahead, a good part of it for the libraries' own tests.
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pip install --disable-pip-version-check --no-compile \
    --constraint constraints.txt . >"$venv/install.log" 2>&1 || {
    echo "error: $(sed -n 's/.*ERROR: //p' "$venv/install.log" | tail -n 1): $venv/install.log"
    exit 1
}
installed=$(size)
"$venv/bin/python" - <<'PYTHON'
import importlib.util
import sys

heavy = ["torch", "transformers", "peft", "trl", "datasets", "pyarrow", "snakemake"]
found = [name for name in heavy if importlib.util.find_spec(name)]
sys.exit(f"error: the light install brings {', '.join(found)}" if found else 0)
PYTHON

# Two adapters of two small modules each, in PEFT's format.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$venv/bin/python" - "$made" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

rng = np.random.default_rng(0)
for name in ("a", "b"):
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    tensors = {}
    for module in ("q_proj", "v_proj"):
        key = f"base_model.model.model.layers.0.self_attn.{module}"
        tensors[f"{key}.lora_A.weight"] = rng.normal(size=(4, 32)).astype("float32")
        tensors[f"{key}.lora_B.weight"] = rng.normal(size=(24, 4)).astype("float32")
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    config["base_model_name_or_path"] = "none"
    (folder / "adapter_config.json").write_text(json.dumps(config))
PYTHON
"$venv/bin/finetune-geometry" compare "a=$made/a" "b=$made/b" --out "$made/report"
test -n "$(ls "$made/report")"

rm -rf build
used=$(size)
echo "The light install: $installed MB of packages, $used MB after the first use ($most are allowed)"
"$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python3*/site-packages >/dev/null || true
echo "With the bytecode of everything, as without --no-compile: $(size) MB"
test "$used" -le "$most"
