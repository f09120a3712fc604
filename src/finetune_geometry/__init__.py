"""The geometry of fine-tuning losses: six offline objectives, one base model, measured deltas."""

import warnings

# Said by tqdm in every notebook that imports transformers; the book shows no widgets.
warnings.filterwarnings("ignore", message="IProgress not found")
