"""`python -m versatile_influence` is `vif`."""

import sys

from versatile_influence.cli import main

if __name__ == "__main__":
    sys.exit(main())
