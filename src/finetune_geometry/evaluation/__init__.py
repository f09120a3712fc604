"""Answers to the test problems, paired tests, and the ledger that judges the paper's claims.

Imports all rooms up to `models`; only `answers` needs torch.
"""
