"""Start of a worker container: `python -m dagnb_workers.container`.

Images that users build themselves name this module, so it must not be moved.
"""

from __future__ import annotations

import sys

from dagnb_workers.hosting.container_main import main

if __name__ == "__main__":
    sys.exit(main())
