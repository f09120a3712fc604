"""What a profile costs before it is run: hours, memory, disk, downloads and money, by stage.

Plain arithmetic on a model's shape, a profile's sizes and a machine's constants, each of which says
whether it was measured here or assumed. Imports `settings` and `runs.folders`; nothing heavy, for
the workflow asks it each time it plans. What measures the constants is `methods/calibration.py`.
"""
