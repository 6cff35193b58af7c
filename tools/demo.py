"""The main job on the embedded default; ``--video V --expression E --model M`` for your own."""

import sys

from refstream.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
