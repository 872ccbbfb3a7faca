"""Prints the table of steps, for README.md: `python -m tests.scenarios`."""

from __future__ import annotations

import sys

from tests.scenarios.player import table

sys.stdout.write("\n".join(table()) + "\n")
