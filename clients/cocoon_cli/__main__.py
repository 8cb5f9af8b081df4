"""`python -m cocoon_cli`, the same as `cocoon`."""

import sys

from cocoon_cli.main import main

sys.exit(main())
