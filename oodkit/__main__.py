"""`python -m oodkit`."""

import sys

from oodkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
