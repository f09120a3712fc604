"""Checks of the code exercises: each calls a reader's function and says what is wrong with it.

One module for each notebook under notebooks/exercises, and `asking`, what they share. A check knows
the mistakes that people make and names the one that it sees. The answers themselves are in
tests/exercises. Imports no other room. No torch.
"""
