"""Weight changes as low-rank products: adapters and checkpoints, on disk and in memory.

Imports `settings`. No torch.
"""
