"""`python -m cocoon_relay` is `cocoon-relay`."""

import sys

from cocoon_relay.cli import main

if __name__ == "__main__":
    sys.exit(main())
