"""`python -m demo.newsroom`."""

import sys

from demo.newsroom.cli import main

if __name__ == "__main__":
    sys.exit(main())
