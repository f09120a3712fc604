"""What is measured of one repetition of the six trainings, for the chapters on controls.

Imports all rooms up to `geometry`. `cells` and `ledger` need no torch; the others run a model.
"""
