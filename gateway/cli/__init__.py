"""The command line: a module per command, imported when it is called."""

VERSION = "0.2.0"
"""As in pyproject.toml. Reading it from the package's metadata takes some 50 ms, and fails in a bare checkout."""
