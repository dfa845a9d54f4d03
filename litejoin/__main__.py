"""`python -m litejoin`: the same as the `litejoin` command."""

import sys

from litejoin.cli.main import main

sys.exit(main())
