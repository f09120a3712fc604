"""The geometry of fine-tuning losses: six offline objectives, one base model, measured deltas."""
