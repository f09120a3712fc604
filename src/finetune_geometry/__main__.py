"""`python -m finetune_geometry` is the command `finetune-geometry`."""

import sys

from finetune_geometry.cli import main

sys.exit(main())
