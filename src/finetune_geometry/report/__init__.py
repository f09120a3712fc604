"""What is written for people: anybody's adapters compared, in sentences and on a page; two runs.

Imports `settings`, `deltas`, `runs`, `geometry`, `figures`. No torch.
"""
