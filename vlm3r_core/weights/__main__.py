"""python -m vlm3r_core.weights: the command line of cli.py."""

import sys

from vlm3r_core.weights.cli import main

sys.exit(main())
