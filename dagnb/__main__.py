"""`python -m dagnb` is `dagnb`."""

import sys

from dagnb.cli import main

if __name__ == "__main__":
    sys.exit(main())
