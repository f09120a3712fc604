"""`python -m finetune_geometry` is the command `finetune-geometry`."""

import sys

from finetune_geometry.cli import main

if __name__ == "__main__":
    sys.exit(main())
