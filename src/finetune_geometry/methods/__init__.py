"""The objectives: losses, rows, trainers, and the one entry point `training.train`.

Imports all rooms up to `rollouts`.
"""
