"""`python -m soban`: the same as the command `soban`."""

import sys

from soban.cli import main

sys.exit(main())
