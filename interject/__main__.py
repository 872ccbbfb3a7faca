"""`python -m interject`: the same as the command `interject`."""

import sys

from interject.command import main

sys.exit(main())
