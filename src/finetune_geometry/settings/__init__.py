"""Profiles, parameters and the table of objectives: what a person may set, and the errors that say
what to mend.

The lowest room: it imports no other, and nothing heavy.
"""
