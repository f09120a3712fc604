"""What is asked, and what counts as right: generated and real problems, the reward.

Imports `settings`. No torch.
"""
