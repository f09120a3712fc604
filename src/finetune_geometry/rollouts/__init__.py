"""The pool of verified rollouts that every objective is trained on, and who samples it.

Imports all rooms up to `models`.
"""
