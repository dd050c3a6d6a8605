"""`python -m soban`: the same as the command `soban`."""

import sys

try:
    from soban.cli import main

    sys.exit(main())
except KeyboardInterrupt:  # before main() could take care of it
    sys.exit(130)
