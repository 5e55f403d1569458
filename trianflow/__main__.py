"""`python -m trianflow`."""

import sys

from trianflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
