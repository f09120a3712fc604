"""The geometry of fine-tuning losses: six offline objectives, one base model, measured deltas."""

import warnings

# Not about anything that a reader could change, and shown in the notebooks otherwise: tqdm misses
# widgets, which the book does not use, and peft asks transformers for a renamed property.
warnings.filterwarnings("ignore", message="IProgress not found")
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
