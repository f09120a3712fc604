"""Every figure of the book: functions that draw what a table holds and compute nothing.

Imports `settings`. No torch.
"""
