"""``python -m refstream``: the same as the command ``refstream``."""

import sys

from refstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
