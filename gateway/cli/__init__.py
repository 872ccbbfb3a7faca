"""The command line: a module per command, imported when it is called."""

from gateway import VERSION

__all__ = ["VERSION"]
