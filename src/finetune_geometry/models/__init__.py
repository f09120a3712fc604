"""Language models: loading them, writing and reading with them, mixing adapters into them.

Imports `settings`, `deltas`, `problems`, `runs`. From here on torch is needed.
"""
