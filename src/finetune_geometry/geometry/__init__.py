"""The measures: cosines, angles, fractions, lines, hidden states, and their levels of chance.

Imports all rooms up to `evaluation`. Only `line_scores` and `hidden_states` run a model and need
torch.
"""
