"""What is written for people: the comparison of anybody's adapters, its sentences and its page.

Imports `settings`, `deltas`, `runs`, `geometry`, `figures`. No torch.
"""
