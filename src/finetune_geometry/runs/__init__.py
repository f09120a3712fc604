"""A run's folder: its records, its files, the keys of its caches, its adapters.

Imports `settings`, `deltas`, `problems`. No torch.
"""
