"""The commands of the command line, a module each, loaded when they are called."""

VERSION = "0.1.0"
"""As in pyproject.toml. Asking the installed package would cost a start some 50 ms, and fail in a bare checkout."""
