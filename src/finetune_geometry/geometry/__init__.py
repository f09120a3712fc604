"""The measures: cosines, angles, fractions, energies, paths, merges, lines, hidden states, chance.

Imports all rooms up to `evaluation`; only `line_scores` and `hidden_states` run a model and need torch.
"""
