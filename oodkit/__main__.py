"""`python -m oodkit`."""

import os
import sys

from oodkit.cli import main

if __name__ == "__main__":
    code = main()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # One of several processes: all is done and written. Left to itself, torch aborts now and then while its threads
        # and those of Gloo are taken down, and torchrun takes that for a failure.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
