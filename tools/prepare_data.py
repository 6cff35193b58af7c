"""Files that downloads lack: ``refstream data prepare``, see ``--help``."""

import sys

from refstream.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
